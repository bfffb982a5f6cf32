"""What the embedding rung trains on: pairs of train questions and chunks, and candidates for hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...core.errors import ConfigError, DataError
from ...core.types import Chunk, Question
from ...embeddings.encode import SentenceTransformerSettings, StaticSettings
from ...embeddings.mine import MiningCorpus, mining_corpus
from ...embeddings.pairs import PairSet, training_pairs
from ...eval.retrieval import COVER
from ..config import EmbeddingRungSettings, PipelineConfig
from ..pair_sources import PairSource, add_sources
from ..workbench import Workbench

__all__ = ["EmbeddingData", "check_trainable", "embedding_data", "mining_candidates", "trainable"]


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
    data = EmbeddingData(chunks, texts, gold, pairs)
    return replace(data, pairs=_with_files(bench, data, sources, held_out)) if sources else data


def _with_files(
    bench: Workbench, data: EmbeddingData, sources: Sequence[PairSource], held_out: Sequence[Question]
) -> PairSet:
    """The pairs of the questions and those of files, without what answers a held-out question."""
    corpus = mining_corpus(data.chunks, data.texts, {q.id: data.gold.get(q.id, ()) for q in held_out})
    answers = {text for touching in corpus.forbidden.values() for text in touching}
    # A file may hold the passage without the context that is embedded with it.
    plain = {chunk.text for chunk, text in zip(data.chunks, data.texts, strict=True) if text in answers}
    by_id = {chunk.id: text for chunk, text in zip(data.chunks, data.texts, strict=True)}
    places = [(bench.resources.path(source.path), source) for source in sources]
    return add_sources(data.pairs, places, by_id, [q.text for q in held_out], answers | plain)


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
