"""Rung 2: contrastive finetuning of the embedding model on the train questions and their gold spans."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.cache import digest
from ...core.errors import ConfigError, DataError
from ...core.memory import release_memory
from ...core.store import Stage
from ...core.types import Chunk, Question
from ...embeddings.encode import SentenceTransformerSettings, model_folder
from ...embeddings.mine import MiningCorpus, mining_corpus
from ...embeddings.pairs import PairSet, training_pairs
from ...embeddings.train import Encode, train_embedder
from ...eval.retrieval import COVER, retrieval_scores
from ...rag.context import embedding_texts
from ...rag.index import top_k
from ...rag.retrieve import align, document_codes, fuse, to_hits
from ..config import EmbeddingRungSettings, PipelineConfig, with_changes
from ..workbench import Workbench
from .base import Proposal, RungContext

__all__ = ["EmbeddingData", "embedding_data", "embedding_stage", "mining_candidates", "propose_embedding"]


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
    """Trains, and proposes the trained model where it beats the base on dev.

    Args:
        context: The incumbent, whose embedder must be a sentence transformer.
        settings: Metric and training.

    Raises:
        ConfigError: The incumbent's embedder cannot be finetuned, or it does not search vectors.
        DataError: The train questions give no pairs.
    """
    bench, incumbent = context.bench, context.incumbent
    _check_embedder(incumbent)
    if incumbent.retrieve.mode == "bm25":
        return Proposal(
            None, settings.metric, "the incumbent searches words only (retrieve.mode bm25), so vectors change nothing"
        )
    data = embedding_data(bench, incumbent)
    context.note(f"  {data.pairs.summary()}")
    context.check_budget()
    stage = embedding_stage(bench, incumbent, settings, data)
    result = bench.get(stage)
    model = str(bench.store.folder(stage) / "model")
    details = {
        "model": model,
        "pair_counts": dict(data.pairs.counts),
        **{k: v for k, v in result.items() if k != "folder"},
    }
    if result["alpha"] == 0:
        return Proposal(
            None,
            settings.metric,
            f"no trained model beats the base on dev ({settings.metric} {result['base_score']:.4f})",
            details=details,
        )
    candidate, weights = _reweighed(bench, with_changes(incumbent, {"embed.model": model}), settings)
    if weights:
        details["fusion_weights"] = weights
    how = f"the mixture with {result['alpha']:g} of the weights of epoch {result['best_epoch']}, best on dev"
    return Proposal(candidate, settings.metric, how, details=details)


def _reweighed(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings
) -> tuple[PipelineConfig, dict[str, float]]:
    """The pipeline with the fusion weight that is best on dev: a better embedder deserves another share.

    Costs one search; ties go to the present weight.
    """
    retrieve = pipeline.retrieve
    if retrieve.mode != "hybrid" or retrieve.fusion != "weighted":
        return pipeline, {}
    questions = bench.split("dev")
    best, best_value, tried = pipeline, -1.0, {}
    for weight in dict.fromkeys((retrieve.weight, *settings.fusion_weights)):
        candidate = with_changes(pipeline, {"retrieve.weight": weight})
        scores = bench.retrieval_scores(candidate, questions, bench.retrieve(candidate, questions))
        values = [s.value for s in scores if s.metric == settings.metric and s.value is not None]
        tried[f"{weight:g}"] = round(float(np.mean(values)), 4)
        if tried[f"{weight:g}"] > best_value:
            best, best_value = candidate, tried[f"{weight:g}"]
    return best, tried


def _check_embedder(pipeline: PipelineConfig) -> None:
    embed = pipeline.embed
    if not isinstance(embed, SentenceTransformerSettings):
        raise ConfigError(
            f"rungs.embedding finetunes a sentence_transformer, but the pipeline's embedder is "
            f"'{embed.kind}'; leave the rung out"
        )


def embedding_data(bench: Workbench, pipeline: PipelineConfig) -> EmbeddingData:
    """Makes the training pairs of a pipeline, in its chunks and with its embedding texts.

    Args:
        bench: Questions and stages.
        pipeline: Whose embedder, a sentence transformer, is to be trained.

    Raises:
        ConfigError: The embedder cannot be finetuned.
        DataError: The train questions give no pairs.
    """
    _check_embedder(pipeline)
    chunks = bench.get(bench.chunks_stage(pipeline))
    documents = {document.id: document for document in bench.get(bench.documents_stage(pipeline)).documents}
    spans = bench.get(bench.gold_stage(pipeline))
    gold = {question: [(s.doc_id, s.start, s.end) for s in found] for question, found in spans.items()}
    texts = embedding_texts(chunks, documents, pipeline.context)
    held_out = [*bench.split("dev"), *bench.split("test")]
    pairs = training_pairs(bench.split("train"), chunks, texts, gold, COVER, held_out)
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


def _dev_evaluator(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, chunks: list[Chunk], texts: list[str]
) -> Callable[[Encode], float]:
    """Scores an encoder on dev as the pipeline would use it, over a pool of chunks (the same for every model).

    The pool holds what the incumbent fetches for the dev questions and the chunks with their evidence: an epoch is
    scored without encoding the whole corpus.
    """
    questions = bench.split("dev")
    gold = bench.get(bench.gold_stage(pipeline))
    pool = _pool(bench, pipeline, questions, chunks, settings.dev_candidates)
    members = [chunks[position] for position in pool]
    retrieve = pipeline.retrieve.model_copy(update={"fetch_k": min(pipeline.retrieve.fetch_k, len(members))})
    words = None
    if retrieve.mode == "hybrid":
        words = pipeline.bm25.build([texts[p] for p in pool]).search([q.text for q in questions], retrieve.fetch_k)

    def evaluate(encode: Encode) -> float:
        vectors = encode([texts[position] for position in pool], "document")
        dense = top_k(encode([q.text for q in questions], "query") @ np.asarray(vectors).T, retrieve.fetch_k)
        fused = fuse(align(dense, words), retrieve, document_codes(members), limit=retrieve.fetch_k)
        hits = [[hit.chunk for hit in row] for row in to_hits(*fused, members)]
        scores = retrieval_scores(questions, hits, gold, bench.config.score.ks, budgets=bench.config.score.budgets)
        values = [s.value for s in scores if s.metric == settings.metric and s.value is not None]
        return float(np.mean(values))

    return evaluate


def _pool(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], chunks: list[Chunk], each: int
) -> list[int]:
    place = {chunk.id: position for position, chunk in enumerate(chunks)}
    hits = bench.retrieve(pipeline, questions)
    # A stretch that is read in place of its chunks is no chunk itself; its evidence comes in below.
    pool = {place[hit.chunk.id] for row in hits.candidates for hit in row[:each] if hit.chunk.id in place}
    spans = [s for q in questions for s in bench.get(bench.gold_stage(pipeline))[q.id] if s.found]
    wanted = {span.doc_id for span in spans}
    for position, chunk in enumerate(chunks):
        if chunk.doc_id in wanted and any(
            s.doc_id == chunk.doc_id and min(s.end, chunk.end) > max(s.start, chunk.start) for s in spans
        ):
            pool.add(position)
    return sorted(pool)


def embedding_stage(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData
) -> Stage[dict[str, Any]]:
    """The training as a stage: its folder gets `model/`, its result is the `TrainResult` as JSON values.

    Args:
        bench: Questions and stages.
        pipeline: Whose embedder is trained, and how dev is searched with it.
        settings: Metric and training.
        data: From `embedding_data` of the same pipeline.

    Raises:
        DataError: Hard negatives are asked for, and there are no documents to mine them from.
    """
    pairs, mining = data.pairs, mining_candidates(bench, data) if settings.train.hard_negatives else None
    evaluator = _dev_evaluator(bench, pipeline, settings, data.chunks, data.texts)
    params = {
        "base": pipeline.embed.identity(bench.resources),
        "settings": settings.model_dump(mode="json"),
        "pairs": digest([[pair.query, pair.positive] for pair in pairs]),
        "mining": digest(list(mining.texts)) if mining else None,
        "dev": digest([[q.id, q.text, [e.text for e in q.evidence]] for q in bench.split("dev")]),
        "pipeline": digest(pipeline.model_dump(mode="json", exclude={"generate", "embed"})),
        # bf16 on a GPU and on a CPU are not the same training.
        "device": bench.resources.device.split(":")[0],
    }

    def build(out: Path) -> None:
        # Outside the stage's temporary folder, so that checkpoints survive a kill.
        checkpoints = bench.resources.cache_dir / "training" / f"embedding-{digest(params)[:20]}"
        folder = model_folder(pipeline.embed.model, bench.resources)
        train_embedder(
            folder,
            pairs.pairs,
            evaluator,
            settings.train,
            out,
            bench.resources,
            bench.reporter,
            embedder=pipeline.embed,
            mining=mining,
            checkpoints=checkpoints,
        )
        shutil.rmtree(checkpoints, ignore_errors=True)
        release_memory()

    return Stage("embedding-train", params, build, lambda out: json.loads((out / "training.json").read_text()))
