"""Rung 2: a query adapter, then contrastive finetuning, on the train questions and their gold spans."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.cache import digest
from ...core.errors import ConfigError, DataError
from ...core.memory import release_memory
from ...core.store import Stage
from ...core.types import Chunk
from ...embeddings.adapter import RESULT as ADAPTER_RESULT
from ...embeddings.adapter import AdapterResult, QueryAdapterSettings, train_query_adapter
from ...embeddings.encode import SentenceTransformerSettings, StaticSettings
from ...embeddings.mine import MiningCorpus, mining_corpus
from ...embeddings.pairs import PairSet, training_pairs
from ...embeddings.train import GeneralCheck, TrainResult, train_embedder
from ...eval.retrieval import COVER
from ...eval.statistics import paired_comparison
from ..config import EmbeddingRungSettings, PipelineConfig, with_changes
from ..general import general_set
from ..pair_sources import add_sources
from ..workbench import Workbench
from .base import Proposal, RungContext
from .dev_scorer import DevScorer

__all__ = [
    "EmbeddingData",
    "adapter_stage",
    "check_trainable",
    "embedding_data",
    "embedding_stage",
    "mining_candidates",
    "propose_embedding",
    "trainable",
    "trained_adapter",
    "with_model",
]


# What does not change a trained model, or is in the stage's key by its content.
_NOT_IN_KEY: Any = {"adapter": True, "pairs": True, "search": True, "general": {"path"}, "train": {"report_to"}}


@dataclass(frozen=True)
class EmbeddingData:
    """What an embedding model is trained on.

    Attributes:
        chunks: All chunks of the pipeline.
        texts: What is embedded of each.
        gold: Where the evidence of each question is.
        pairs: Train questions with the chunks that answer them.
    """

    chunks: list[Chunk]
    texts: list[str]
    gold: dict[str, list[tuple[str, int, int]]]
    pairs: PairSet


def propose_embedding(context: RungContext, settings: EmbeddingRungSettings) -> Proposal:
    """Trains a query adapter, then the model, and proposes what is best on dev, where it beats the base.

    Each is compared as it would be used: searching the whole corpus, with the fusion weight that suits it.

    Args:
        context: The incumbent.
        settings: Metric and training.

    Raises:
        ConfigError: Nothing of what is asked for can be trained for the incumbent's embedder.
        DataError: The train questions give no pairs.
    """
    bench, incumbent = context.bench, context.incumbent
    if incumbent.retrieve.mode == "bm25":
        return Proposal(
            None, settings.metric, "the incumbent searches words only (retrieve.mode bm25), so vectors change nothing"
        )
    trains = settings.train is not None and trainable(incumbent)
    if not trains and settings.adapter is None:
        check_trainable(incumbent)
    data = embedding_data(bench, incumbent, settings)
    context.note(f"  {data.pairs.summary()}")
    context.check_budget()
    details: dict[str, Any] = {"pair_counts": dict(data.pairs.counts)}
    options: list[tuple[PipelineConfig, str]] = []
    base_score = None
    if settings.adapter is not None:
        folder, result = trained_adapter(bench, incumbent, settings, data)
        base_score = result.base_score
        details["query_adapter"] = {"folder": str(folder), **result.model_dump(mode="json", exclude={"tried"})}
        context.note(f"  query adapter: dev {settings.metric} {result.base_score:.4f} -> {result.best_score:.4f}")
        if result.improved:
            how = f"a query adapter (learning rate {result.learning_rate:g}, epoch {result.best_epoch}), best on dev"
            options.append((with_changes(incumbent, {"query_adapter": str(folder)}), how))
        context.check_budget()
    if trains:
        stage = embedding_stage(bench, incumbent, settings, data)
        result = bench.get(stage)
        model = str(bench.store.folder(stage) / "model")
        base_score = result["base_score"]
        # Two climbs of one config give one record, so no memory.
        details |= {"model": model, **{k: v for k, v in result.items() if k not in ("folder", "peak_memory_mb")}}
        if result["alpha"] > 0:
            how = f"the mixture with {result['alpha']:g} of the weights of epoch {result['best_epoch']}, best on dev"
            options.append((with_model(incumbent, model), how))
    elif settings.train is not None:
        details["note"] = f"the embedder '{incumbent.embed.kind}' cannot be trained here, only its query adapter"
        context.note(f"  {details['note']}")
    if not options:
        reason = f"no trained model beats the base on dev ({settings.metric} {base_score:.4f})"
        return Proposal(None, settings.metric, reason, details=details)
    ready = [(*_reweighed(bench, option, settings), how) for option, how in options]
    if len(ready) > 1:
        shown = [f"{how.split(' (')[0]} {value:.4f}" for _, value, _, how in ready]
        context.note(f"  dev {settings.metric} over the whole corpus: {', '.join(shown)}")
    # Of equals the adapter, which stands first: it needs no new index.
    candidate, _, weights, how = max(ready, key=lambda option: option[1])
    if weights:
        details["fusion_weights"] = weights
    return Proposal(candidate, settings.metric, how, details=details)


def with_model(pipeline: PipelineConfig, model: str) -> PipelineConfig:
    """The pipeline with a trained model in place of its embedder; an adapter of the old one is dropped.

    Args:
        pipeline: Its embedder was trained.
        model: Folder of the model.
    """
    changes: dict[str, Any] = {"embed.model": model}
    if not isinstance(pipeline.embed, SentenceTransformerSettings):
        changes = {"embed": {"kind": "sentence_transformer", "model": model}}
    if pipeline.query_adapter is not None:
        changes["query_adapter"] = None
    return with_changes(pipeline, changes)


def _reweighed(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings
) -> tuple[PipelineConfig, float, dict[str, float]]:
    """The pipeline with the fusion weight that is best on dev, its dev score, and the score of each weight tried.

    A better embedder deserves another share. Costs one search; ties go to the present weight.
    """
    retrieve = pipeline.retrieve
    weighted = retrieve.mode == "hybrid" and retrieve.fusion == "weighted"
    questions = bench.split("dev")
    best, best_value, tried = pipeline, -1.0, {}
    for weight in dict.fromkeys((retrieve.weight, *settings.fusion_weights)) if weighted else (None,):
        candidate = pipeline if weight is None else with_changes(pipeline, {"retrieve.weight": weight})
        scores = bench.retrieval_scores(candidate, questions, bench.retrieve(candidate, questions))
        values = [s.value for s in scores if s.metric == settings.metric and s.value is not None]
        value = round(float(np.mean(values)), 4) if values else -1.0
        if weight is not None:
            tried[f"{weight:g}"] = value
        if value > best_value:
            best, best_value = candidate, value
    return best, best_value, tried


def trainable(pipeline: PipelineConfig) -> bool:
    """Whether the embedder's own weights can be trained here."""
    return isinstance(pipeline.embed, SentenceTransformerSettings | StaticSettings)


def check_trainable(pipeline: PipelineConfig) -> None:
    """Stops where the embedder's own weights cannot be trained here.

    Raises:
        ConfigError: They cannot.
    """
    if not trainable(pipeline):
        raise ConfigError(
            f"rungs.embedding finetunes a sentence_transformer or a static model, but the pipeline's embedder is "
            f"'{pipeline.embed.kind}'; set rungs.embedding.adapter, which suits any embedder, or leave the rung out"
        )


def embedding_data(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings | None = None
) -> EmbeddingData:
    """Makes the training pairs of a pipeline, in its chunks and with its embedding texts.

    Args:
        bench: Questions and stages.
        pipeline: Whose embedder is to be trained.
        settings: With the files that give further pairs; the config's rung where not given.

    Raises:
        DataError: There are no pairs.
    """
    rung = settings or bench.config.rungs.embedding
    sources = rung.pairs if rung else ()
    chunks = bench.get(bench.chunks_stage(pipeline))
    spans = bench.get(bench.gold_stage(pipeline))
    gold = {question: [(s.doc_id, s.start, s.end) for s in found] for question, found in spans.items()}
    texts = bench.embedding_texts(pipeline)
    held_out = [*bench.split("dev"), *(q for q in bench.questions if q.split == "test")]
    asked = [q for q in bench.questions if q.split == "train"] if sources else bench.split("train")
    pairs = training_pairs(asked, chunks, texts, gold, COVER, held_out, allow_empty=bool(sources))
    if sources:
        corpus = mining_corpus(chunks, texts, {q.id: gold.get(q.id, ()) for q in held_out})
        answers = {text for touching in corpus.forbidden.values() for text in touching}
        # A file may hold the passage without the context that is embedded with it.
        plain = {chunk.text for chunk, text in zip(chunks, texts, strict=True) if text in answers}
        by_id = {chunk.id: text for chunk, text in zip(chunks, texts, strict=True)}
        places = [(bench.resources.path(source.path), source) for source in sources]
        pairs = add_sources(pairs, places, by_id, [q.text for q in held_out], answers | plain)
    return EmbeddingData(chunks, texts, gold, pairs)


def mining_candidates(bench: Workbench, data: EmbeddingData) -> MiningCorpus:
    """Candidates for hard negatives: chunks of documents that no dev or test question asks about.

    Nothing of those documents is trained on.

    Raises:
        DataError: There is no such document.
    """
    held_out = {e.doc_id for split in ("dev", "test") for q in bench.split(split) for e in q.evidence}
    kept = [position for position, chunk in enumerate(data.chunks) if chunk.doc_id not in held_out]
    if not kept:
        raise DataError(
            "hard negatives: every document is asked about in dev or test; set train.hard_negatives to null"
        )
    return mining_corpus([data.chunks[p] for p in kept], [data.texts[p] for p in kept], data.gold)


def dev_identity(bench: Workbench) -> str:
    """Digest of the dev questions and their evidence, which choose among trained models."""
    return digest([[q.id, q.text, [e.text for e in q.evidence]] for q in bench.split("dev")])


def embedding_stage(
    bench: Workbench,
    pipeline: PipelineConfig,
    settings: EmbeddingRungSettings,
    data: EmbeddingData,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Stage[dict[str, Any]]:
    """The training as a stage: its folder gets `model/`, its result is the `TrainResult` as JSON values.

    Beside the model lies `dev_values.json` with the dev score of each question before and after.

    Args:
        bench: Questions and stages.
        pipeline: Whose embedder is trained, and how dev is searched with it.
        settings: Metric and training.
        data: From `embedding_data` of the same pipeline.
        on_epoch: Told of each epoch and its dev score; what it raises ends the training.

    Raises:
        ConfigError: The embedder cannot be trained, or the rung trains the query adapter alone.
        DataError: Hard negatives are asked for, and there are no documents to mine them from; or the general set
            cannot be read.
    """
    check_trainable(pipeline)
    if settings.train is None:
        raise ConfigError("rungs.embedding.train is null, so that the query adapter alone is trained")
    train = settings.train
    pairs, mining = data.pairs, mining_candidates(bench, data) if train.hard_negatives else None
    general = settings.general and general_set(settings.general, bench.resources)
    params = {
        "base": pipeline.embed.identity(bench.resources),
        "settings": settings.model_dump(mode="json", exclude=_NOT_IN_KEY),
        "pairs": digest([[pair.query, pair.positive, *pair.negatives, list(pair.scores)] for pair in pairs]),
        "mining": digest(list(mining.texts)) if mining else None,
        "dev": dev_identity(bench),
        "pipeline": digest(pipeline.model_dump(mode="json", exclude={"generate", "embed"})),
        # bf16 on a GPU and on a CPU are not the same training.
        "device": bench.resources.device.split(":")[0],
    }
    if general:
        params["general"] = digest([list(general.questions), dict(general.documents)])

    def build(out: Path) -> None:
        evaluator = DevScorer(bench, pipeline, settings, data.chunks, data.texts)
        # Outside the stage's temporary folder, so that checkpoints survive a kill.
        checkpoints = bench.resources.cache_dir / "training" / f"embedding-{digest(params)[:20]}"
        embed = pipeline.embed
        source = bench.component(embed).source
        bench.release_models()
        result = train_embedder(
            source,
            pairs.pairs,
            evaluator,
            train,
            out,
            bench.resources,
            bench.reporter,
            embedder=embed if isinstance(embed, SentenceTransformerSettings) else None,
            mining=mining,
            checkpoints=checkpoints,
            general=GeneralCheck(general.score, settings.general.max_loss) if general and settings.general else None,
            on_epoch=on_epoch,
        )
        _note_dev_values(bench, out, result, evaluator)
        shutil.rmtree(checkpoints, ignore_errors=True)
        release_memory()

    return Stage("embedding-train", params, build, lambda out: json.loads((out / "training.json").read_text()))


def _note_dev_values(bench: Workbench, out: Path, result: TrainResult, scorer: DevScorer) -> None:
    """Keeps the dev score of each question before and after, and writes the paired difference into the model card."""
    values = {"base": scorer.seen(result.base_score), "best": scorer.seen(result.best_score)}
    if values["base"] is None or values["best"] is None:
        # The best epoch was scored before a kill.
        model = SentenceTransformerSettings(model=str(out / "model")).build(bench.resources)
        values = {"base": values["base"] or scorer.values(model.encode), "best": scorer.values(model.encode)}
    (out / "dev_values.json").write_text(json.dumps(values))
    base, best = values["base"] or {}, values["best"] or {}
    ids = sorted(base)
    if len(ids) < 2:
        return
    found = paired_comparison([best[i] for i in ids], [base[i] for i in ids])
    card = out / "model" / "README.md"
    text = (
        f"\nDev, {len(ids)} questions: {result.base_score:.4f} before, {result.best_score:.4f} after; difference "
        f"{found.difference:+.4f}, 95% interval [{found.low:+.4f}, {found.high:+.4f}] (paired, over questions).\n"
    )
    card.write_text(card.read_text(encoding="utf-8") + text, encoding="utf-8")


def trained_adapter(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData
) -> tuple[Path, AdapterResult]:
    """The query adapter's folder and how its training went; trained first where the store lacks it."""
    stage = adapter_stage(bench, pipeline, settings, data)
    return bench.store.folder(stage), bench.get(stage)


def adapter_stage(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData
) -> Stage[AdapterResult]:
    """The training of the query adapter as a stage, whatever the embedder is.

    Args:
        bench: Questions, vectors and stages.
        pipeline: Whose query vectors are adapted, and how dev is searched with them.
        settings: Metric and training.
        data: From `embedding_data` of the same pipeline.
    """
    adapter = settings.adapter or QueryAdapterSettings()
    params = {
        "embedder": pipeline.embed.identity(bench.resources),
        "settings": adapter.model_dump(mode="json"),
        "metric": settings.metric,
        "dev_candidates": settings.dev_candidates,
        "pairs": digest([[pair.query, pair.positive] for pair in data.pairs]),
        "dev": dev_identity(bench),
        "pipeline": digest(pipeline.model_dump(mode="json", exclude={"generate", "embed"})),
    }

    def build(out: Path) -> None:
        evaluator = DevScorer(bench, pipeline, settings, data.chunks, data.texts)
        encode = bench.embedder(pipeline).encode
        train_query_adapter(data.pairs.pairs, encode, evaluator, adapter, out, bench.reporter)

    def load(out: Path) -> AdapterResult:
        return AdapterResult.model_validate_json((out / ADAPTER_RESULT).read_text())

    return Stage("query-adapter", params, build, load)
