"""Scores pipelines: turns a `PipelineConfig` into stages, and their results into scores a question.

What two pipelines share is one stage, computed once (see core/store.py). Fusion, cut-offs and metrics are arithmetic on
one search and are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.cache import VectorCache, digest
from ..core.chat import LocalChatSettings
from ..core.components import Resources
from ..core.progress import Reporter
from ..core.store import Stage, Store
from ..core.types import Answer, Chunk, Generator, Hit, Question, Score, Split
from ..embeddings.encode import CachedEmbedder
from ..eval.answers import answer_scores
from ..eval.gold import GoldSpan, locate
from ..eval.questions import by_split
from ..eval.retrieval import retrieval_scores
from ..rag.chunk import chunk_corpus, load_chunks, merge_hits, save_chunks
from ..rag.context import embedding_texts
from ..rag.generate import LLMGeneratorSettings
from ..rag.parse import ParsedCorpus, corpus_identity, load_documents, parse_corpus, save_documents
from ..rag.retrieve import Channel, align, document_codes, fuse, to_hits
from .config import ExperimentConfig, PipelineConfig

__all__ = ["Evaluation", "Meter", "Retrieved", "Workbench"]


@dataclass(frozen=True)
class Retrieved:
    """What a pipeline retrieved for some questions.

    Attributes:
        candidates: For each question up to `fetch_k` hits, best first, after reranking.
        contexts: The first `top_k` of them.
        seconds: Search and reranking, all questions.
    """

    candidates: list[list[Hit]]
    contexts: list[list[Hit]]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """A pipeline, scored on one split."""

    pipeline: PipelineConfig
    split: Split
    questions: tuple[Question, ...]
    retrieved: Retrieved
    gold: Mapping[str, tuple[GoldSpan, ...]]
    answers: list[Answer]
    scores: list[Score]

    def values(self, metric: str) -> dict[str, float | None]:
        """One metric by question id; questions that it does not apply to are left out."""
        return {s.question_id: s.value for s in self.scores if s.metric == metric and s.status != "not_applicable"}


@dataclass(eq=False)
class Meter:
    """What the stages used while it ran cost when they were first computed."""

    seconds: dict[str, float] = field(default_factory=dict)
    prompt_tokens: dict[str, int] = field(default_factory=dict)
    completion_tokens: dict[str, int] = field(default_factory=dict)


class Workbench:
    """Everything that is needed to score pipelines of one experiment."""

    def __init__(
        self, config: ExperimentConfig, base_dir: Path, questions: Sequence[Question], reporter: Reporter
    ) -> None:
        """Makes a workbench.

        Args:
            config: The experiment.
            base_dir: Folder that relative paths of the config start from.
            questions: All splits.
            reporter: For progress.
        """
        self.config = config
        self.questions = tuple(questions)
        self.reporter = reporter
        self.resources: Resources = config.resources(base_dir)
        self.store = Store(self.resources.cache_dir, log=reporter.detail)
        self._meters: list[Meter] = []
        self._built: dict[str, Any] = {}

    # --- bookkeeping ---------------------------------------------------------------------------------------------

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """Collects the cost of the stages that the block uses, each counted once."""
        meter = Meter()
        self._meters.append(meter)
        try:
            yield meter
        finally:
            self._meters.remove(meter)

    def get(self, stage: Stage[Any]) -> Any:
        """A stage's result; its cost and that of its inputs is noted."""
        result = self.store.get(stage)
        self._note(stage)
        return result

    def _note(self, stage: Stage[Any]) -> None:
        for parent in stage.inputs:
            self._note(parent)
        if self._meters:
            seconds = self.store.record(stage).seconds
            for meter in self._meters:
                meter.seconds[stage.key] = seconds

    def component(self, settings: Any) -> Any:
        """A built component; equal settings share one, so that a model is loaded once."""
        key = f"{type(settings).__name__}:{digest(settings.identity(self.resources))}"
        if key not in self._built:
            self._built[key] = settings.build(self.resources)
        return self._built[key]

    def split(self, name: Split) -> tuple[Question, ...]:
        """The questions of a split."""
        return by_split(self.questions, name)

    def absolute_paths(self, pipeline: PipelineConfig) -> PipelineConfig:
        """The pipeline with model folders as absolute paths, so that it runs from any folder."""

        def absolute(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {name: absolute(child, name) for name, child in value.items()}
            if key in ("model", "adapter") and isinstance(value, str) and self.resources.path(value).is_dir():
                return str(self.resources.path(value).absolute())
            return value

        return PipelineConfig.model_validate(absolute(pipeline.model_dump(mode="json")))

    # --- stages ----------------------------------------------------------------------------------------------------

    def documents_folder(self) -> Path:
        """The corpus folder of this machine."""
        return self.resources.path(self.config.data.documents)

    def corpus_identity(self, pipeline: PipelineConfig) -> dict[str, Any]:
        """File hashes and parser settings; files are read once a workbench."""
        key = f"corpus:{pipeline.parse.model_dump_json()}"
        if key not in self._built:
            self._built[key] = corpus_identity(self.documents_folder(), pipeline.parse, self.resources)
        return self._built[key]

    def documents_stage(self, pipeline: PipelineConfig) -> Stage[ParsedCorpus]:
        """Parsed documents."""
        folder = self.documents_folder()

        def build(out: Path) -> None:
            save_documents(out, parse_corpus(folder, pipeline.parse, self.resources))

        identity = self.corpus_identity(pipeline)
        return Stage("parse", identity, build, load_documents)

    def chunks_stage(self, pipeline: PipelineConfig) -> Stage[list[Chunk]]:
        """Chunks of all documents."""

        def build(out: Path, corpus: ParsedCorpus) -> None:
            save_chunks(out / "chunks.parquet", chunk_corpus(corpus.documents, self.component(pipeline.chunk)))

        params = {"chunker": pipeline.chunk.identity(self.resources)}
        parse = self.documents_stage(pipeline)
        return Stage("chunk", params, build, lambda out: load_chunks(out / "chunks.parquet"), (parse,))

    def gold_stage(self, pipeline: PipelineConfig) -> Stage[dict[str, tuple[GoldSpan, ...]]]:
        """Gold spans of all questions in the parsed text."""

        def build(out: Path, corpus: ParsedCorpus) -> None:
            gold = locate(self.questions, corpus.documents)
            rows = {question: [asdict(span) for span in spans] for question, spans in gold.items()}
            (out / "gold.json").write_text(json.dumps(rows))

        def load(out: Path) -> dict[str, tuple[GoldSpan, ...]]:
            rows = json.loads((out / "gold.json").read_text())
            return {question: tuple(GoldSpan(**span) for span in spans) for question, spans in rows.items()}

        evidence = [[q.id, [[e.doc_id, e.text, e.start, e.end] for e in q.evidence]] for q in self.questions]
        return Stage("gold", {"evidence": digest(evidence)}, build, load, (self.documents_stage(pipeline),))

    def embedder(self, pipeline: PipelineConfig) -> CachedEmbedder:
        """The pipeline's embedder, each unique text encoded once and kept."""
        identity = pipeline.embed.identity(self.resources)
        key = f"cached:{digest(identity)}"
        if key not in self._built:
            cache = VectorCache(self.resources.cache_dir / "vectors" / digest(identity)[:20])
            self._built[key] = CachedEmbedder(self.component(pipeline.embed), identity, cache, self.reporter)
        return self._built[key]

    def vectors_stage(self, pipeline: PipelineConfig) -> Stage[np.ndarray]:
        """Chunk vectors, float32, shape (chunks, dimension)."""

        def build(out: Path, chunks: list[Chunk], corpus: ParsedCorpus) -> None:
            documents = {document.id: document for document in corpus.documents}
            texts = embedding_texts(chunks, documents, pipeline.context)
            np.save(out / "vectors.npy", self.embedder(pipeline).encode(texts, "document"))

        params = {
            "embedder": pipeline.embed.identity(self.resources),
            "context": pipeline.context.identity(self.resources),
        }
        inputs = (self.chunks_stage(pipeline), self.documents_stage(pipeline))
        return Stage("encode", params, build, lambda out: np.load(out / "vectors.npy", mmap_mode="r"), inputs)

    def _dense_stage(
        self, pipeline: PipelineConfig, questions: Sequence[Question]
    ) -> Stage[tuple[np.ndarray, np.ndarray]]:
        def build(out: Path, vectors: np.ndarray) -> None:
            queries = self.embedder(pipeline).encode([q.text for q in questions], "query")
            index = pipeline.index.build(self.resources)
            index.build(vectors)
            _save_search(out, index.search(queries, min(pipeline.retrieve.fetch_k, len(vectors))))

        params = {
            "index": pipeline.index.identity(self.resources),
            "fetch_k": pipeline.retrieve.fetch_k,
            "queries": digest([q.text for q in questions]),
        }
        return Stage("search-dense", params, build, _load_search, (self.vectors_stage(pipeline),))

    def _bm25_stage(
        self, pipeline: PipelineConfig, questions: Sequence[Question]
    ) -> Stage[tuple[np.ndarray, np.ndarray]]:
        def build(out: Path, chunks: list[Chunk], corpus: ParsedCorpus) -> None:
            documents = {document.id: document for document in corpus.documents}
            index = pipeline.bm25.build(embedding_texts(chunks, documents, pipeline.context))
            fetch = min(pipeline.retrieve.fetch_k, len(chunks))
            _save_search(out, index.search([q.text for q in questions], fetch))

        params = {
            "bm25": pipeline.bm25.model_dump(mode="json"),
            "context": pipeline.context.identity(self.resources),
            "fetch_k": pipeline.retrieve.fetch_k,
            "queries": digest([q.text for q in questions]),
        }
        inputs = (self.chunks_stage(pipeline), self.documents_stage(pipeline))
        return Stage("search-bm25", params, build, _load_search, inputs)

    # --- retrieval -------------------------------------------------------------------------------------------------

    def retrieve(self, pipeline: PipelineConfig, questions: Sequence[Question]) -> Retrieved:
        """Candidates and contexts for questions."""
        chunks = self.get(self.chunks_stage(pipeline))
        mode = pipeline.retrieve.mode
        seconds = 0.0
        channels: dict[str, Channel] = {}
        for name, wanted, make in (
            ("dense", mode in ("dense", "hybrid"), self._dense_stage),
            ("bm25", mode in ("bm25", "hybrid"), self._bm25_stage),
        ):
            if wanted:
                stage = make(pipeline, questions)
                channels[name] = self.get(stage)
                seconds += self.store.record(stage).seconds
        found = align(channels.get("dense"), channels.get("bm25"))
        fused = fuse(found, pipeline.retrieve, document_codes(chunks), limit=pipeline.retrieve.fetch_k)
        candidates = to_hits(*fused, chunks)
        if pipeline.rerank.kind != "none":
            stage = self._rerank_stage(pipeline, questions, candidates)
            order = self.get(stage)
            candidates = [
                [Hit(hits[place].chunk, score) for place, score in ranking]
                for hits, ranking in zip(candidates, order, strict=True)
            ]
            seconds += self.store.record(stage).seconds
        chunker = self.component(pipeline.chunk)
        if hasattr(chunker, "family"):
            documents = {document.id: document for document in self.get(self.documents_stage(pipeline)).documents}
            candidates = merge_hits(candidates, chunker, documents, pipeline.retrieve.top_k)
        return Retrieved(candidates, [hits[: pipeline.retrieve.top_k] for hits in candidates], seconds)

    def _rerank_stage(
        self, pipeline: PipelineConfig, questions: Sequence[Question], candidates: list[list[Hit]]
    ) -> Stage[list[list[tuple[int, float]]]]:
        def build(out: Path) -> None:
            ranked = self.component(pipeline.rerank).rerank([q.text for q in questions], candidates)
            places = [{hit.chunk.id: place for place, hit in enumerate(hits)} for hits in candidates]
            rows = [[[place[h.chunk.id], h.score] for h in hits] for place, hits in zip(places, ranked, strict=True)]
            (out / "order.json").write_text(json.dumps(rows))

        def load(out: Path) -> list[list[tuple[int, float]]]:
            return [[(place, score) for place, score in row] for row in json.loads((out / "order.json").read_text())]

        content = [[q.text, [hit.chunk.text for hit in hits]] for q, hits in zip(questions, candidates, strict=True)]
        params = {"reranker": pipeline.rerank.identity(self.resources), "candidates": digest(content)}
        return Stage("rerank", params, build, load)

    # --- answers -----------------------------------------------------------------------------------------------------

    def answer(
        self, pipeline: PipelineConfig, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]
    ) -> list[Answer]:
        """Answers from the given contexts.

        They are kept once none failed on an endpoint's side: a rerun asks again for what a server did not answer.
        """
        made: list[Answer] = []

        def build(out: Path) -> None:
            rows = [
                {**asdict(a), "contexts": [list(chunks).index(c) for c in a.contexts]}
                for a, chunks in zip(made, contexts, strict=True)
            ]
            (out / "answers.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

        def load(out: Path) -> list[Answer]:
            with open(out / "answers.jsonl", encoding="utf-8") as handle:
                rows = [json.loads(line) for line in handle]
            return [
                Answer(**{**row, "contexts": tuple(chunks[p] for p in row["contexts"])})
                for row, chunks in zip(rows, contexts, strict=True)
            ]

        content = [[q.id, q.text, [asdict(c) for c in chunks]] for q, chunks in zip(questions, contexts, strict=True)]
        params = {"generator": pipeline.generate.identity(self.resources), "prompts": digest(content)}
        stage = Stage("generate", params, build, load)
        if not self.store.has(stage):
            generator: Generator = self.component(pipeline.generate)
            made = generator.generate(questions, contexts)
        failed = any(answer.status != "ok" for answer in made)
        answers = made if failed and _answers_remotely(pipeline) else self.get(stage)
        for meter in self._meters:
            meter.seconds[stage.key] = sum(answer.seconds for answer in answers)
            meter.prompt_tokens[stage.key] = sum(a.prompt_tokens for a in answers)
            meter.completion_tokens[stage.key] = sum(a.completion_tokens for a in answers)
        return answers

    def evaluate(
        self, pipeline: PipelineConfig, split: Split, questions: Sequence[Question] | None = None
    ) -> Evaluation:
        """Scores a pipeline end to end by what is arithmetic; `scoring.evaluate_fully` adds RAGAS and judges.

        Args:
            pipeline: Which one.
            split: Which questions.
            questions: Instead of the split's.
        """
        asked = tuple(questions) if questions is not None else self.split(split)
        retrieved = self.retrieve(pipeline, asked)
        contexts = [[hit.chunk for hit in hits] for hits in retrieved.contexts]
        answers = self.answer(pipeline, asked, contexts)
        scores = self.retrieval_scores(pipeline, asked, retrieved) + self.answer_scores(asked, answers)
        gold = self.get(self.gold_stage(pipeline))
        return Evaluation(pipeline, split, asked, retrieved, gold, answers, scores)

    def retrieval_scores(
        self, pipeline: PipelineConfig, questions: Sequence[Question], retrieved: Retrieved
    ) -> list[Score]:
        """Span-level retrieval metrics of the candidates."""
        gold = self.get(self.gold_stage(pipeline))
        hits = [[hit.chunk for hit in found] for found in retrieved.candidates]
        score = self.config.score
        chunks = self.get(self.chunks_stage(pipeline)) if score.precision_omega else None
        return retrieval_scores(questions, hits, gold, score.ks, chunks, score.budgets)

    def answer_scores(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Score]:
        """Answer metrics that need no LLM."""
        return answer_scores(questions, answers, self.config.score.abstention)


def _answers_remotely(pipeline: PipelineConfig) -> bool:
    generator = pipeline.generate
    return isinstance(generator, LLMGeneratorSettings) and not isinstance(generator.llm, LocalChatSettings)


def _save_search(out: Path, found: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positions = found
    np.save(out / "scores.npy", np.asarray(scores, dtype=np.float32))
    np.save(out / "positions.npy", np.asarray(positions, dtype=np.int64))


def _load_search(out: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(out / "scores.npy"), np.load(out / "positions.npy")
