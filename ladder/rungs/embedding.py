"""Rung 2: a query adapter, then contrastive finetuning, on the train questions and their gold spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...embeddings.encode import SentenceTransformerSettings
from ...embeddings.train import TrainResult
from ..config import EmbeddingRungSettings, PipelineConfig, with_changes
from ..workbench import Workbench
from .base import Proposal, RungContext
from .embedding_data import EmbeddingData, check_trainable, embedding_data, trainable
from .embedding_estimate import say_estimate
from .embedding_stages import embedding_stage, trained_adapter

__all__ = ["propose_embedding", "with_model"]


@dataclass(frozen=True, slots=True)
class _Trained:
    """What one way of training gave.

    Attributes:
        pipeline: With the result in place; None where nothing better than the base came out.
        how: What it is, or why there is nothing.
        details: For the record.
    """

    pipeline: PipelineConfig | None
    how: str
    details: dict[str, Any]


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
    if settings.adapter is None:
        check_trainable(incumbent)
    data = embedding_data(bench, incumbent, settings)
    context.note(f"  {data.pairs.summary()}")
    context.check_budget()
    details: dict[str, Any] = {"pair_counts": dict(data.pairs.counts)}
    found: list[_Trained] = []
    if settings.adapter is not None:
        found.append(_adapter(context, settings, data))
        context.check_budget()
    if settings.train is not None and trainable(incumbent):
        found.append(_model(context, settings, data))
    elif settings.train is not None:
        details["note"] = f"the embedder '{incumbent.embed.kind}' cannot be trained here, only its query adapter"
        context.note(f"  {details['note']}")
    for one in found:
        details |= one.details
    better = [one for one in found if one.pipeline is not None]
    if not better:
        return Proposal(None, settings.metric, "; ".join(one.how for one in found), details=details)
    return _best(context, settings, better, details)


def _adapter(context: RungContext, settings: EmbeddingRungSettings, data: EmbeddingData) -> _Trained:
    folder, result = trained_adapter(context.bench, context.incumbent, settings, data)
    context.note(f"  query adapter: dev {settings.metric} {result.base_score:.4f} -> {result.best_score:.4f}")
    details = {"query_adapter": {"folder": str(folder), **result.model_dump(mode="json", exclude={"tried"})}}
    if not result.improved:
        nothing = f"no query adapter beats the embedder as it is on dev ({settings.metric} {result.base_score:.4f})"
        return _Trained(None, nothing, details)
    how = f"a query adapter (learning rate {result.learning_rate:g}, epoch {result.best_epoch}), best on dev"
    pipeline = with_changes(context.incumbent, {"query_adapter": str(folder)})
    return _Trained(pipeline, how, details)


def _model(context: RungContext, settings: EmbeddingRungSettings, data: EmbeddingData) -> _Trained:
    stage = embedding_stage(context.bench, context.incumbent, settings, data)
    if not context.bench.store.has(stage):
        say_estimate(context.bench, context.incumbent, settings, data)
    result = context.bench.get(stage)
    model = str(context.bench.store.folder(stage) / "model")
    # Two climbs of one config give one record, so no memory.
    details = {"model": model, **{k: v for k, v in result.items() if k not in ("folder", "peak_memory_mb")}}
    kept = TrainResult.model_validate(result).kept()
    if result["alpha"] == 0:
        return _Trained(None, f"finetuning keeps {kept} ({settings.metric} {result['base_score']:.4f})", details)
    return _Trained(with_model(context.incumbent, model), kept, details)


def _best(
    context: RungContext, settings: EmbeddingRungSettings, better: list[_Trained], details: dict[str, Any]
) -> Proposal:
    """Of what beats the base the best over the whole corpus."""
    ready = [(*_reweighed(context.bench, one.pipeline, settings), one.how) for one in better if one.pipeline]
    if len(ready) > 1:
        shown = [f"{how.partition(' (')[0].partition(';')[0]}: {value:.4f}" for _, value, _, how in ready]
        context.note(f"  dev {settings.metric} over the whole corpus: {'; '.join(shown)}")
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
