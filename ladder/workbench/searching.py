"""Retrieval of a pipeline in batch: its searches and rerankings as stages, and the arithmetic between them.

It goes through the functions of `rag.retrieve` in the order in which `rag.pipeline.Pipeline` does, so that an exported
pipeline finds online what was scored here. Only what is dear is a stage: the query transform, the index, the searches,
the reranking. Fusion, caps, diversity and neighbours are computed anew for each pipeline, in milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.cache import digest
from ...core.errors import StageError
from ...core.store import Stage
from ...core.types import Answer, Chunk, Hit, Question, Score
from ...embeddings.adapter import AdaptedEmbedder, adapter_fingerprint, load_query_adapter
from ...rag.index import QdrantIndexSettings
from ...rag.rerank import EndpointRerankerSettings, Failure, ListwiseSettings, Reranked, rerank_with
from ...rag.retrieve import (
    Candidates,
    Channel,
    Corpus,
    align,
    finish,
    fuse,
    needs_documents,
    search_dense,
    search_depth,
    search_words,
    to_hits,
)
from ...rag.transform import Expansion, as_asked
from ..config import PipelineConfig
from .failing import NotKept, asks_endpoint, guarded, kept_or_not

if TYPE_CHECKING:
    from .bench import Workbench

__all__ = [
    "Retrieved",
    "answered",
    "calls_a_question",
    "corpus_of",
    "failed_scores",
    "found_candidates",
    "query_embedder",
    "ready_index",
    "retrieve",
]


@dataclass(frozen=True)
class Retrieved:
    """What a pipeline retrieved for some questions.

    Attributes:
        candidates: For each question up to `fetch_k` hits, best first, after reranking.
        contexts: The first `top_k` of them.
        seconds: Query transform, search and reranking, all questions.
        failures: Questions that the query transform or the reranker failed on, by id; they have no candidates, and
            their scores are failures, not zeros.
    """

    candidates: list[list[Hit]]
    contexts: list[list[Hit]]
    seconds: float
    failures: Mapping[str, Failure] = field(default_factory=dict)


def retrieve(bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question]) -> Retrieved:
    """Candidates and contexts for questions.

    Args:
        bench: Stages and components.
        pipeline: How to retrieve.
        questions: For what.

    Raises:
        RagladderError: A component cannot be made or fails as a whole; one that fails on some questions only is noted
            in `failures`.
    """
    settings = pipeline.retrieve
    corpus = corpus_of(bench, pipeline)
    asked, seconds = _expansions(bench, pipeline, [question.text for question in questions])
    found, searched = found_candidates(bench, pipeline, asked, corpus)
    scores, positions = fuse(found, settings, corpus.codes, limit=settings.fetch_k)
    hits = to_hits(scores, positions, corpus.chunks)
    failures = {
        question.id: Failure(one.status, one.detail)
        for question, one in zip(questions, asked, strict=True)
        if one.status != "ok"
    }
    if pipeline.rerank.kind != "none":
        reranked, took = _reranked(bench, pipeline, questions, hits)
        hits = reranked.hits
        failures.update({questions[place].id: why for place, why in reranked.failures.items()})
        searched += took
    vectors = bench.get(bench.vectors_stage(pipeline)) if settings.mmr is not None else None
    hits = finish(hits, settings, corpus, bench.component(pipeline.chunk), vectors)
    contexts = [row[: settings.top_k] for row in hits]
    return Retrieved(hits, contexts, seconds + searched, failures)


def answered(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], retrieved: Retrieved
) -> list[Answer]:
    """Answers from what was retrieved; a question whose retrieval failed is not asked and carries that failure."""
    known = [place for place, question in enumerate(questions) if question.id not in retrieved.failures]
    contexts = [[hit.chunk for hit in retrieved.contexts[place]] for place in known]
    made = dict(zip(known, bench.answer(pipeline, [questions[place] for place in known], contexts), strict=True))
    return [
        made[place] if place in made else _unanswered(question.id, retrieved.failures[question.id])
        for place, question in enumerate(questions)
    ]


def _unanswered(question_id: str, why: Failure) -> Answer:
    return Answer(question_id, "", status=why.status, detail=why.detail)


def failed_scores(scores: Sequence[Score], failures: Mapping[str, Failure]) -> list[Score]:
    """Scores in which the questions whose retrieval failed have no value, but the failure's status."""

    def failed(score: Score) -> Score:
        why = failures.get(score.question_id)
        if why is None or score.status == "not_applicable":
            return score
        return Score(score.question_id, score.metric, None, why.status, why.detail)

    return [failed(score) for score in scores]


def calls_a_question(pipeline: PipelineConfig) -> int:
    """Calls to an endpoint that the retrieval of one question takes at most, for a plan of costs."""
    transform, rerank = pipeline.transform, pipeline.rerank
    calls = 0
    if transform.kind != "none" and asks_endpoint(transform):
        calls += getattr(transform, "passages", 1)
    if isinstance(rerank, ListwiseSettings) and asks_endpoint(rerank):
        calls += 1 + max(0, -(-(rerank.depth - rerank.window) // rerank.step))
    return calls + isinstance(rerank, EndpointRerankerSettings)


def corpus_of(bench: Workbench, pipeline: PipelineConfig) -> Corpus:
    """The pipeline's chunks with their tables; with their documents where those are looked at."""
    stage = bench.chunks_stage(pipeline)
    wanted = bool(pipeline.retrieve.filter) or needs_documents(pipeline.retrieve, bench.component(pipeline.chunk))
    chunks = bench.get(stage)
    documents = bench.get(bench.documents_stage(pipeline)).documents if wanted else ()
    return bench.corpora.get(
        f"{stage.key} {wanted}", lambda: Corpus(chunks, {document.id: document for document in documents})
    )


# --- query transform -------------------------------------------------------------------------------------------------


def _expansions(bench: Workbench, pipeline: PipelineConfig, texts: list[str]) -> tuple[list[Expansion], float]:
    """What to search for in place of each question, and the seconds that took."""
    if pipeline.transform.kind == "none":
        return as_asked(texts), 0.0

    def build(out: Path) -> None:
        with guarded(f"the query transform '{pipeline.transform.kind}'"):
            made = bench.component(pipeline.transform).expand(texts)
        if any(one.status not in ("ok", "parse_error") for one in made) and asks_endpoint(pipeline.transform):
            raise NotKept(made)
        (out / "expansions.json").write_text(json.dumps([asdict(one) for one in made], ensure_ascii=False), "utf-8")

    def load(out: Path) -> list[Expansion]:
        rows = json.loads((out / "expansions.json").read_text("utf-8"))
        return [
            Expansion(**{**one, "queries": tuple(one["queries"]), "passages": tuple(one["passages"])}) for one in rows
        ]

    params = {"transform": pipeline.transform.identity(bench.resources), "questions": digest(texts)}
    stage = Stage("transform", params, build, load)
    made: list[Expansion] = kept_or_not(bench, stage)
    spent = sum(one.prompt_tokens for one in made), sum(one.completion_tokens for one in made)
    bench.note_tokens(stage, *spent)
    return made, sum(one.seconds for one in made)


# --- search ----------------------------------------------------------------------------------------------------------


def found_candidates(
    bench: Workbench, pipeline: PipelineConfig, asked: list[Expansion], corpus: Corpus
) -> tuple[Candidates, float]:
    """What the channels that the mode uses found, and the seconds that took."""
    dense, words = pipeline.retrieve.channels
    stages = {
        "dense": _dense_stage(bench, pipeline, asked, corpus) if dense else None,
        "bm25": _words_stage(bench, pipeline, asked, corpus) if words else None,
    }
    found = {name: bench.get(stage) if stage else None for name, stage in stages.items()}
    seconds = sum(bench.store.record(stage).seconds for stage in stages.values() if stage)
    key = " ".join(f"{name}:{stage.key}" for name, stage in stages.items() if stage)
    return bench.aligned.get(key, lambda: align(found["dense"], found["bm25"])), seconds


def _dense_stage(bench: Workbench, pipeline: PipelineConfig, asked: list[Expansion], corpus: Corpus) -> Stage[Channel]:
    if isinstance(pipeline.index, QdrantIndexSettings):
        pipeline.index.check_size(len(corpus.chunks))  # before they are encoded

    def build(out: Path, vectors: np.ndarray, *_: Any) -> None:
        allowed = corpus.allowed(pipeline.retrieve.filter)
        embedder = query_embedder(bench, pipeline)
        with guarded(f"the index '{pipeline.index.kind}' or the embedder '{pipeline.embed.kind}'"):
            index, depth = ready_index(bench, pipeline, vectors), _depth(pipeline, corpus)
            _save_search(out, search_dense(asked, embedder, index, depth, allowed, _combine(pipeline)))

    params = {"index": pipeline.index.identity(bench.resources), **_asked_for(pipeline, asked, with_passages=True)}
    if pipeline.query_adapter is not None:
        params["query_adapter"] = adapter_fingerprint(bench.resources.path(pipeline.query_adapter))
    inputs: tuple[Stage[Any], ...] = (bench.vectors_stage(pipeline),)
    if _is_kept(pipeline):
        inputs = (*inputs, _index_stage(bench, pipeline))
    return Stage("search-dense", params, build, _load_search, inputs, version=2)


def _words_stage(bench: Workbench, pipeline: PipelineConfig, asked: list[Expansion], corpus: Corpus) -> Stage[Channel]:
    def build(out: Path, *_: Any) -> None:
        allowed = corpus.allowed(pipeline.retrieve.filter)
        index = pipeline.bm25.build(bench.embedding_texts(pipeline))
        _save_search(out, search_words(asked, index, _depth(pipeline, corpus), allowed, _combine(pipeline)))

    params = {
        "bm25": pipeline.bm25.model_dump(mode="json"),
        "context": pipeline.context.identity(bench.resources),
        **_asked_for(pipeline, asked, with_passages=False),
    }
    inputs = (bench.chunks_stage(pipeline), bench.documents_stage(pipeline))
    return Stage("search-bm25", params, build, _load_search, inputs, version=2)


def query_embedder(bench: Workbench, pipeline: PipelineConfig) -> Any:
    """The pipeline's embedder behind its cache, query vectors through the query adapter where there is one."""
    embedder: Any = bench.embedder(pipeline)
    if pipeline.query_adapter is None:
        return embedder
    return AdaptedEmbedder(embedder, load_query_adapter(bench.resources.path(pipeline.query_adapter)))


def ready_index(bench: Workbench, pipeline: PipelineConfig, vectors: np.ndarray) -> Any:
    """The index of a pipeline's chunk vectors; one that is dear to build is built once and read from the store."""
    index = pipeline.index.build(bench.resources)
    if _is_kept(pipeline):
        return index.load(bench.get(_index_stage(bench, pipeline)))
    index.build(vectors)
    return index


def _is_kept(pipeline: PipelineConfig) -> bool:
    return bool(getattr(pipeline.index, "build_knobs", ()))


def _index_stage(bench: Workbench, pipeline: PipelineConfig) -> Stage[Path]:
    """The index on disk; its result is the folder, so that indexes do not pile up in memory."""

    def build(out: Path, vectors: np.ndarray) -> None:
        with guarded(f"the index '{pipeline.index.kind}'"):
            pipeline.index.build(bench.resources).build(vectors).save(out)

    identity = pipeline.index.identity(bench.resources)
    params = {key: identity[key] for key in ("kind", "version", *pipeline.index.build_knobs)}
    return Stage("index", params, build, lambda out: out, (bench.vectors_stage(pipeline),))


def _depth(pipeline: PipelineConfig, corpus: Corpus) -> int:
    return min(search_depth(pipeline.retrieve.fetch_k), len(corpus.chunks))


def _combine(pipeline: PipelineConfig) -> Any:
    return getattr(pipeline.transform, "combine", "rrf")


def _asked_for(pipeline: PipelineConfig, asked: list[Expansion], with_passages: bool) -> dict[str, Any]:
    """All that determines a search, the index aside."""
    passages = [one.passages for one in asked] if with_passages else []
    params: dict[str, Any] = {
        "depth": search_depth(pipeline.retrieve.fetch_k),
        "queries": digest([[one.queries for one in asked], passages]),
    }
    if any(len(one.queries) > 1 for one in asked):
        params["combine"] = _combine(pipeline)
    if pipeline.retrieve.filter:
        params["filter"] = pipeline.retrieve.model_dump(mode="json")["filter"]
    return params


def _save_search(out: Path, found: Channel) -> None:
    scores, positions = found
    np.save(out / "scores.npy", np.asarray(scores, dtype=np.float32))
    np.save(out / "positions.npy", np.asarray(positions, dtype=np.int64))


def _load_search(out: Path) -> Channel:
    return np.load(out / "scores.npy"), np.load(out / "positions.npy")


# --- reranking -------------------------------------------------------------------------------------------------------


def _reranked(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], hits: list[list[Hit]]
) -> tuple[Reranked, float]:
    """The hits in the reranker's order, and the seconds that took."""
    seen = [row[: getattr(pipeline.rerank, "depth", None)] for row in hits]
    stage = _rerank_stage(bench, pipeline, questions, seen)
    result: dict[str, Any] = kept_or_not(bench, stage)
    bench.note_tokens(stage, *result["tokens"])
    seconds = bench.store.record(stage).seconds if bench.store.has(stage) else result["seconds"]
    done = [
        [Hit(row[place].chunk, score) for place, score in ranking]
        for row, ranking in zip(seen, result["order"], strict=True)
    ]
    return Reranked(done, {int(place): Failure(*why) for place, why in result["failures"].items()}), seconds


def _rerank_stage(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], hits: list[list[Hit]]
) -> Stage[dict[str, Any]]:
    def build(out: Path, *_: Any) -> None:
        with guarded(f"the reranker '{pipeline.rerank.kind}'"):
            found = rerank_with(bench.component(pipeline.rerank), [q.text for q in questions], hits)
        result = {
            "order": [_places(row, ranked) for row, ranked in zip(hits, found.hits, strict=True)],
            "failures": {str(place): [why.status, why.detail] for place, why in found.failures.items()},
            "tokens": [found.prompt_tokens, found.completion_tokens],
            "seconds": found.seconds,
        }
        if any(why.status != "parse_error" for why in found.failures.values()) and asks_endpoint(pipeline.rerank):
            raise NotKept(result)
        (out / "order.json").write_text(json.dumps(result, ensure_ascii=False), "utf-8")

    # a reranker reads the chunks' texts, which the chunking determines; few read the scores of retrieval
    scores = getattr(pipeline.rerank, "reads_scores", True)
    content = [
        [q.text, [[h.chunk.doc_id, h.chunk.start, h.chunk.end, *([h.score] if scores else [])] for h in row]]
        for q, row in zip(questions, hits, strict=True)
    ]
    params = {"reranker": pipeline.rerank.identity(bench.resources), "candidates": digest(content)}
    chunks = bench.chunks_stage(pipeline)
    return Stage("rerank", params, build, lambda out: json.loads((out / "order.json").read_text("utf-8")), (chunks,), 2)


def _places(shown: Sequence[Hit], ranked: Sequence[Hit]) -> list[tuple[int, float]]:
    """Each reranked hit as its place among those that were shown.

    Raises:
        StageError: A chunk that was not shown.
    """
    place = {_key(hit.chunk): at for at, hit in enumerate(shown)}
    try:
        return [(place[_key(hit.chunk)], float(hit.score)) for hit in ranked]
    except KeyError as error:
        raise StageError(f"the reranker gave the chunk {error}, which is not one that it was shown") from None


def _key(chunk: Chunk) -> tuple[str, int, int]:
    return chunk.doc_id, chunk.start, chunk.end
