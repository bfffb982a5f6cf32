"""The embedding rung by itself: pairs, estimate, training, learning curve, search.

Works on the pipeline of a config as it stands, and uses the rung's own functions: a training of the same data and
settings is one stage, whether a climb or a command asked for it first. Nothing is adopted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.components import Model
from ...core.errors import ConfigError
from ...core.progress import Reporter
from ...embeddings.adapter import AdapterResult
from ...embeddings.encode import SentenceTransformerSettings
from ...embeddings.mine import HardNegativeSettings, MinedPairs, mine_negatives
from ...embeddings.models import load_cross_encoder
from ...embeddings.pairs import Pair
from ...embeddings.probe import EmbedEstimate
from ...embeddings.train import TrainResult
from ..config import EmbeddingRungSettings
from ..rungs.embedding_data import EmbeddingData, check_trainable, embedding_data, mining_candidates
from ..rungs.embedding_estimate import embedding_estimate, say_estimate
from ..rungs.embedding_stages import embedding_stage, trained_adapter
from ..workbench import Workbench
from .common import check_new, delivered, finetuning_bench, spread, trained
from .embedding_curve import LearningCurve, learning_curve
from .embedding_search import SearchResult, search_settings

__all__ = [
    "EmbedTraining",
    "PairRow",
    "PairsReport",
    "embed_curve",
    "embed_estimate",
    "embed_pairs",
    "embed_search",
    "embed_train",
]


class PairRow(Model):
    """One training pair."""

    question_id: str
    """Which question."""
    query: str
    """Its text."""
    chunk_id: str
    """The chunk that answers it."""
    positive: str
    """What is embedded of the chunk."""
    negatives: tuple[str, ...]
    """Mined hard negatives, hardest first; none where they are not asked for, or too few candidates passed."""


class PairsReport(Model):
    """The training pairs of a config."""

    counts: dict[str, int]
    """`questions`, `pairs`, and by reason what was left out (see `embeddings.pairs.PairSet`)."""
    summary: str
    """The counts in a line."""
    negatives: dict[str, int] | None
    """Pairs with all the hard negatives asked for (`complete`), with some (`partial`), with none (`without`), which are
    trained on all the same; None where `hard_negatives` is not set."""
    pairs: tuple[PairRow, ...]
    """As many as asked for, evenly spread over all."""


class EmbedTraining(Model):
    """A training of the embedding model."""

    model: str | None
    """Folder of the model; `SentenceTransformer(folder)` loads it. None where the query adapter alone was trained."""
    query_adapter: str | None
    """Folder of the query adapter, for `pipeline.query_adapter`; None where none was trained, or it does not help."""
    adapter_score: float | None
    """Dev score with the query adapter."""
    metric: str
    """What dev was scored by, over the pool of `rungs.embedding.dev_candidates`."""
    before: float
    """Dev score of the untrained base."""
    after: float
    """Dev score of the model: it was chosen by it, so a little too good to be true."""
    improved: bool
    """False where nothing better than the base came out: the model is then the base itself."""
    kept: str | None
    """What `model` holds and why, in words; None where the query adapter alone was trained."""
    overrides: tuple[str, ...]
    """What to set in the config to use the best on dev; empty where that is the base."""
    reused: bool
    """True where an earlier command or climb had trained it."""
    pair_counts: dict[str, int]
    """As in `PairsReport.counts`."""
    training: dict[str, Any]
    """The whole `TrainResult`: candidates, history, times; that of the adapter where it alone was trained."""


def embed_pairs(path: Path, overrides: Sequence[str], show: int, reporter: Reporter) -> PairsReport:
    """Makes the pairs that the embedding rung would train on, mined negatives among them.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        show: Most pairs in the result.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or negatives are asked for that its embedder cannot mine.
        DataError: There are no pairs.
    """
    bench, settings = _bench(path, overrides, reporter)
    data = embedding_data(bench, bench.config.pipeline, settings)
    pairs, mined = data.pairs.pairs, None
    if settings.train is not None and settings.train.hard_negatives is not None:
        mined = _mined(bench, data, settings.train.hard_negatives)
        pairs = mined.pairs
    return PairsReport(
        counts=dict(data.pairs.counts),
        summary=data.pairs.summary(),
        negatives=mined and {"complete": mined.complete, "partial": mined.partial, "without": mined.without},
        pairs=tuple(_pair_row(pair) for pair in spread(pairs, show)),
    )


def embed_estimate(path: Path, overrides: Sequence[str], price: float, reporter: Reporter) -> EmbedEstimate:
    """Time, memory and money of the training, from a few steps that are really made.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        price: Of an hour of the machine.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its embedder not be trained.
        DataError: There are no pairs, or two do not fit into memory.
    """
    bench, settings = _trainable_bench(path, overrides, reporter)
    pipeline = bench.config.pipeline
    return embedding_estimate(bench, pipeline, settings, embedding_data(bench, pipeline, settings), price)


def embed_train(path: Path, overrides: Sequence[str], out: Path | None, reporter: Reporter) -> EmbedTraining:
    """Trains on the config's pipeline as the rung would: the query adapter, then the model.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        out: A new folder for a copy of the model (of the adapter, where it alone is trained); None leaves it in the
            store.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, its embedder not be trained, or it does not search vectors.
        DataError: There are no pairs, or `out` is not empty.
        StageError: The training failed.
    """
    check_new(out)
    bench, settings = _bench(path, overrides, reporter)
    _check_dense(bench)
    if settings.train is not None:
        check_trainable(bench.config.pipeline)
    data = embedding_data(bench, bench.config.pipeline, settings)
    reporter.line(data.pairs.summary())
    adapter = _Adapter.trained(bench, settings, data) if settings.adapter is not None else None
    if settings.train is None and adapter is not None:
        return _adapter_training(adapter, settings, data, out)
    return _model_training(bench, settings, data, adapter, out)


@dataclass(frozen=True, slots=True)
class _Adapter:
    """A trained query adapter and where it lies."""

    folder: Path
    result: AdapterResult

    @classmethod
    def trained(cls, bench: Workbench, settings: EmbeddingRungSettings, data: EmbeddingData) -> _Adapter:
        return cls(*trained_adapter(bench, bench.config.pipeline, settings, data))

    @property
    def override(self) -> str:
        return f"pipeline.query_adapter={self.folder}"


def _adapter_training(
    adapter: _Adapter, settings: EmbeddingRungSettings, data: EmbeddingData, out: Path | None
) -> EmbedTraining:
    """The adapter is all that was trained."""
    result = adapter.result
    placed = replace(adapter, folder=delivered(adapter.folder, out))
    return EmbedTraining(
        model=None,
        query_adapter=str(placed.folder) if result.improved else None,
        adapter_score=result.best_score,
        metric=settings.metric,
        before=result.base_score,
        after=result.best_score,
        improved=result.improved,
        kept=None,
        overrides=(placed.override,) if result.improved else (),
        reused=False,
        pair_counts=dict(data.pairs.counts),
        training=result.model_dump(mode="json"),
    )


def _model_training(
    bench: Workbench, settings: EmbeddingRungSettings, data: EmbeddingData, adapter: _Adapter | None, out: Path | None
) -> EmbedTraining:
    """Trains the model; suggests it or the adapter, whichever is better on dev."""
    stage = embedding_stage(bench, bench.config.pipeline, settings, data)
    if not bench.store.has(stage):
        say_estimate(bench, bench.config.pipeline, settings, data)
    result, reused = trained(bench, stage)
    model = str(delivered(bench.store.folder(stage) / "model", out))
    gained = adapter if adapter is not None and adapter.result.improved else None
    overrides = () if result["alpha"] == 0 else _model_overrides(bench, model)
    # Of equals the adapter: it needs no new index.
    if gained is not None and gained.result.best_score >= result["best_score"]:
        overrides = (gained.override,)
    return EmbedTraining(
        model=model,
        query_adapter=str(gained.folder) if gained else None,
        adapter_score=adapter.result.best_score if adapter else None,
        metric=settings.metric,
        before=result["base_score"],
        after=result["best_score"],
        improved=result["alpha"] > 0,
        kept=TrainResult.model_validate(result).kept(),
        overrides=overrides,
        reused=reused,
        pair_counts=dict(data.pairs.counts),
        training={name: value for name, value in result.items() if name != "folder"},
    )


def embed_curve(path: Path, overrides: Sequence[str], reporter: Reporter) -> LearningCurve:
    """Trains on a quarter, a half and all of the pairs, and says whether more would help.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, its embedder not be trained, or it does not search vectors.
        DataError: There are too few pairs.
    """
    bench, settings = _trainable_bench(path, overrides, reporter)
    return learning_curve(bench, settings, embedding_data(bench, bench.config.pipeline, settings), reporter)


def embed_search(path: Path, overrides: Sequence[str], reporter: Reporter) -> SearchResult:
    """Searches over the settings of the training, on dev.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, its embedder not be trained, it does not search vectors, or every trial
            failed.
        DataError: There are no pairs.
    """
    bench, settings = _trainable_bench(path, overrides, reporter)
    return search_settings(bench, settings, embedding_data(bench, bench.config.pipeline, settings), reporter)


def _bench(path: Path, overrides: Sequence[str], reporter: Reporter) -> tuple[Workbench, EmbeddingRungSettings]:
    bench = finetuning_bench(path, overrides, "embedding", reporter)
    return bench, bench.config.rungs.embedding or EmbeddingRungSettings()


def _trainable_bench(
    path: Path, overrides: Sequence[str], reporter: Reporter
) -> tuple[Workbench, EmbeddingRungSettings]:
    bench, settings = _bench(path, overrides, reporter)
    _check_dense(bench)
    check_trainable(bench.config.pipeline)
    if settings.train is None:
        raise ConfigError("rungs.embedding.train is null, so that the query adapter alone is trained; set it to {}")
    return bench, settings


def _check_dense(bench: Workbench) -> None:
    if bench.config.pipeline.retrieve.mode == "bm25":
        raise ConfigError(
            "the pipeline searches words only (pipeline.retrieve.mode bm25), so a trained embedder would change "
            "nothing; set the mode to dense or hybrid"
        )


def _model_overrides(bench: Workbench, model: str) -> tuple[str, ...]:
    if bench.config.pipeline.embed.kind == "sentence_transformer":
        return (f"pipeline.embed.model={model}",)
    return (f"pipeline.embed={{kind: sentence_transformer, model: {model}}}",)


def _mined(bench: Workbench, data: EmbeddingData, settings: HardNegativeSettings) -> MinedPairs:
    """As the training does it: with the base model."""
    check_trainable(bench.config.pipeline)
    embed = bench.config.pipeline.embed
    embedder = bench.component(embed.on_torch() if isinstance(embed, SentenceTransformerSettings) else embed)
    prefixes = (embedder.prefix("query"), embedder.prefix("document"))
    judge = load_cross_encoder(settings.cross_encoder, bench.resources) if settings.cross_encoder else None
    candidates = mining_candidates(bench, data)
    return mine_negatives(data.pairs.pairs, candidates, embedder.model, settings, *prefixes, cross_encoder=judge)


def _pair_row(pair: Pair) -> PairRow:
    return PairRow(
        question_id=pair.question_id,
        query=pair.query,
        chunk_id=pair.chunk_id,
        positive=pair.positive,
        negatives=pair.negatives,
    )
