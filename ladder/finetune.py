"""The two finetuning rungs by themselves: their training data, and their training alone.

Both work on the pipeline of a config as it stands, and use the rungs' own functions: a training of the same data and
settings is one stage, whether a climb or a command asked for it first. Nothing is chosen or adopted here.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..core.components import Model
from ..core.errors import ConfigError, DataError
from ..core.progress import Reporter
from ..core.store import Stage
from ..embeddings.mine import HardNegativeSettings, MinedPairs, mine_negatives
from ..embeddings.pairs import Pair
from ..eval.questions import load_questions
from ..llm_ft.checks import DataReport
from ..llm_ft.estimate import CostEstimate, EstimateSettings, estimate_training
from ..llm_ft.examples import Example
from .config import EmbeddingRungSettings, LLMRungSettings, load_experiment
from .rungs.embedding import EmbeddingData, embedding_data, embedding_stage, mining_candidates
from .rungs.llm import lora_data, lora_stage
from .workbench import Workbench

__all__ = [
    "EmbedTraining",
    "LLMData",
    "LLMTraining",
    "PairRow",
    "PairsReport",
    "SampleRow",
    "embed_pairs",
    "embed_train",
    "llm_data",
    "llm_train",
]

T = TypeVar("T")


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

    model: str
    """Folder of the model; `SentenceTransformer(folder)` loads it."""
    metric: str
    """What dev was scored by, over the pool of `rungs.embedding.dev_candidates`."""
    before: float
    """Dev score of the untrained base."""
    after: float
    """Dev score of the model: it was chosen by it, so a little too good to be true."""
    improved: bool
    """False where no trained model beats the base on dev: the model is then the base itself."""
    reused: bool
    """True where an earlier command or climb had trained it."""
    pair_counts: dict[str, int]
    """As in `PairsReport.counts`."""
    training: dict[str, Any]
    """The whole `TrainResult`: candidates, history, times."""


class SampleRow(Model):
    """One example as the LLM reads it."""

    question_id: str
    """Which question."""
    kind: Literal["oracle", "abstain"]
    """`oracle` where the prompt holds the evidence."""
    messages: tuple[tuple[str, str], ...]
    """Role and text of each turn of the prompt."""
    completion: str
    """The answer to learn."""


class LLMData(Model):
    """The LoRA examples of a config, and whether they can be trained on."""

    report: DataReport
    """What the checks found: an error stops training."""
    dev_examples: int
    """Examples of the dev questions, which choose the epoch."""
    inserted: int
    """Train questions whose evidence retrieval missed, so that it was put into a prompt."""
    without_oracle: int
    """Answerable train questions without a chunk that answers them; left out."""
    trimmed: int
    """Train examples that lost distractors to fit the window."""
    estimate: CostEstimate | None
    """Cost of the training, from a few measured steps; None where it was not asked for, or there are errors."""
    samples: tuple[SampleRow, ...]
    """As many as asked for, evenly spread over all."""


class LLMTraining(Model):
    """A training of an adapter."""

    adapter: str
    """Folder of the adapter; `peft.PeftModel.from_pretrained` loads it."""
    before: float | None
    """Dev loss of the base a completion token."""
    after: float | None
    """Dev loss of the adapter, of its best epoch."""
    improved: bool
    """Whether the dev loss fell. Whether answers are better is for `ragladder eval` to say."""
    reused: bool
    """True where an earlier command or climb had trained it."""
    warnings: tuple[str, ...]
    """What the checks of the data warn of."""
    training: dict[str, Any]
    """The whole `LoraResult`: history, times, notes."""


def embed_pairs(path: Path, overrides: Sequence[str], show: int, reporter: Reporter) -> PairsReport:
    """Makes the pairs that the embedding rung would train on, mined negatives among them.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        show: Most pairs in the result.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its embedder not be finetuned.
        DataError: The train questions give no pairs.
    """
    bench, settings = _embedding_bench(path, overrides, reporter)
    data = embedding_data(bench, bench.config.pipeline)
    pairs, mined = data.pairs.pairs, None
    if settings.train.hard_negatives is not None:
        mined = _mined(bench, data, settings.train.hard_negatives)
        pairs = mined.pairs
    return PairsReport(
        counts=dict(data.pairs.counts),
        summary=data.pairs.summary(),
        negatives=mined and {"complete": mined.complete, "partial": mined.partial, "without": mined.without},
        pairs=tuple(_pair_row(pair) for pair in _spread(pairs, show)),
    )


def embed_train(path: Path, overrides: Sequence[str], out: Path | None, reporter: Reporter) -> EmbedTraining:
    """Trains the embedding model on the config's pipeline, as the rung would.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        out: A new folder for a copy of the model; None leaves it in the store.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, its embedder not be finetuned, or it does not search vectors.
        DataError: The train questions give no pairs, or `out` is not empty.
        StageError: The training failed.
    """
    _check_new(out)
    bench, settings = _embedding_bench(path, overrides, reporter)
    pipeline = bench.config.pipeline
    if pipeline.retrieve.mode == "bm25":
        raise ConfigError(
            "the pipeline searches words only (pipeline.retrieve.mode bm25), so a trained embedder would change "
            "nothing; set the mode to dense or hybrid"
        )
    data = embedding_data(bench, pipeline)
    reporter.line(data.pairs.summary())
    stage = embedding_stage(bench, pipeline, settings, data)
    result, reused = _trained(bench, stage)
    return EmbedTraining(
        model=str(_delivered(bench.store.folder(stage) / "model", out)),
        metric=settings.metric,
        before=result["base_score"],
        after=result["best_score"],
        improved=result["alpha"] > 0,
        reused=reused,
        pair_counts=dict(data.pairs.counts),
        training={name: value for name, value in result.items() if name != "folder"},
    )


def llm_data(
    path: Path, overrides: Sequence[str], show: int, estimate: EstimateSettings | None, reporter: Reporter
) -> LLMData:
    """Makes the examples that the LLM rung would train on, and checks them.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        show: Most examples in the result.
        estimate: How to estimate the cost; None does not, for it loads the model and trains a few steps.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its LLM not be finetuned.
        DataError: No example could be made. (Errors that the checks find are in the report.)
    """
    bench, settings = _llm_bench(path, overrides, reporter)
    data = lora_data(bench, bench.config.pipeline, settings)
    train, dev = data.train, data.dev
    cost = None
    if estimate is not None and not data.report.errors:
        cost = estimate_training(data.base, train.examples, dev.examples, settings.train, estimate, bench.resources)
    return LLMData(
        report=data.report,
        dev_examples=len(dev.examples),
        inserted=len(train.inserted),
        without_oracle=len(train.without_oracle),
        trimmed=train.trimmed,
        estimate=cost,
        samples=tuple(_sample_row(example) for example in _spread(train.examples, show)),
    )


def llm_train(path: Path, overrides: Sequence[str], out: Path | None, reporter: Reporter) -> LLMTraining:
    """Trains an adapter on the config's pipeline, as the rung would.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        out: A new folder for a copy of the adapter; None leaves it in the store.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its LLM not be finetuned.
        DataError: The examples fail their checks, or `out` is not empty.
        StageError: The training failed.
    """
    _check_new(out)
    bench, settings = _llm_bench(path, overrides, reporter)
    data = lora_data(bench, bench.config.pipeline, settings)
    warnings = tuple(warning.message for warning in data.report.warnings)
    for warning in warnings:
        reporter.line(f"data: warning: {warning}")
    data.report.raise_errors()
    stage = lora_stage(bench, data, settings)
    result, reused = _trained(bench, stage)
    before, after = result["base_dev_loss"], result["best_dev_loss"]
    return LLMTraining(
        adapter=str(_delivered(bench.store.folder(stage) / "adapter", out)),
        before=before,
        after=after,
        improved=before is not None and after is not None and after < before,
        reused=reused,
        warnings=warnings,
        training={name: value for name, value in result.items() if name != "adapter"},
    )


# --- both -------------------------------------------------------------------------------------------------------------


def _embedding_bench(
    path: Path, overrides: Sequence[str], reporter: Reporter
) -> tuple[Workbench, EmbeddingRungSettings]:
    bench = _bench(path, overrides, "embedding", reporter)
    return bench, bench.config.rungs.embedding or EmbeddingRungSettings()


def _llm_bench(path: Path, overrides: Sequence[str], reporter: Reporter) -> tuple[Workbench, LLMRungSettings]:
    bench = _bench(path, overrides, "llm", reporter)
    return bench, bench.config.rungs.llm or LLMRungSettings()


def _bench(path: Path, overrides: Sequence[str], rung: Literal["embedding", "llm"], reporter: Reporter) -> Workbench:
    """The workbench of a config; a rung that is not configured is taken with its defaults, which is said."""
    config = load_experiment(path, overrides)
    if getattr(config.rungs, rung) is None:
        # As an override, so that the defaults are checked against the rest of the config.
        config = load_experiment(path, [*overrides, f"rungs.{rung}={{}}"])
        reporter.line(f"note: rungs.{rung} is not in the config; its defaults are used")
    base = path.absolute().parent
    questions = load_questions(config.resources(base).path(config.data.questions))
    return Workbench(config, base, questions, reporter)


def _mined(bench: Workbench, data: EmbeddingData, settings: HardNegativeSettings) -> MinedPairs:
    """As the training does it: with the base model."""
    embedder = bench.component(bench.config.pipeline.embed)
    prefixes = (embedder.prefix("query"), embedder.prefix("document"))
    return mine_negatives(data.pairs.pairs, mining_candidates(bench, data), embedder.model, settings, *prefixes)


def _trained(bench: Workbench, stage: Stage[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The training's result, and whether it was there already."""
    reused = bench.store.has(stage)
    return bench.get(stage), reused


def _check_new(out: Path | None) -> None:
    """Before anything is computed: a training that cannot be delivered is time lost."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out: {out} is there already and not empty; name a new folder")


def _delivered(folder: Path, out: Path | None) -> Path:
    """The folder, or its copy where one is asked for, which is there whole or not at all."""
    if out is None:
        return folder
    target = out.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        shutil.copytree(folder, temporary)
        os.replace(temporary, target)  # over an empty folder too
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many items, evenly spread, the first among them."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _pair_row(pair: Pair) -> PairRow:
    return PairRow(
        question_id=pair.question_id,
        query=pair.query,
        chunk_id=pair.chunk_id,
        positive=pair.positive,
        negatives=pair.negatives,
    )


def _sample_row(example: Example) -> SampleRow:
    return SampleRow(
        question_id=example.question_id,
        kind=example.kind,
        messages=tuple((message.role, message.content) for message in example.messages),
        completion=example.completion,
    )
