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

from ...core.cache import LastFew, digest
from ...core.components import Resources
from ...core.memory import release_memory
from ...core.progress import Reporter
from ...core.shared_store import SharedStages
from ...core.store import Stage, Store
from ...core.types import Answer, Chunk, Question, Score, Split
from ...embeddings.encode import CachedEmbedder
from ...eval.answers import answer_scores
from ...eval.custom_metrics import custom_scores
from ...eval.gold import GoldSpan, locate
from ...eval.ir import document_scores
from ...eval.questions import by_split
from ...eval.retrieval import retrieval_scores
from ...rag.chunk import chunk_corpus, load_chunks, save_chunks, token_counter
from ...rag.parse import ParsedCorpus, corpus_identity, load_documents, parse_corpus, save_documents
from ...rag.retrieve import Candidates, Corpus
from ..config import ExperimentConfig, PipelineConfig
from . import answering, encoding, searching
from .searching import Retrieved

__all__ = ["Evaluation", "Meter", "Retrieved", "Workbench"]

_KEPT = 4  # chunkings and searches whose tables are kept in memory


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
    names: dict[str, str] = field(default_factory=dict)
    """Of the stages with tokens."""


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
        url = config.runtime.store_url
        self.store = Store(
            self.resources.cache_dir, log=reporter.detail, shared=SharedStages(url) if url is not None else None
        )
        self._meters: list[Meter] = []
        self._built: dict[str, Any] = {}
        self._said: set[str] = set()  # notes of components; one that is built again repeats none
        self.judge_answered = False  # a judge that is lost after this leaves gaps, and does not stop the run
        self.corpora: LastFew[Corpus] = LastFew(_KEPT)
        self.aligned: LastFew[Candidates] = LastFew(_KEPT)

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

    def note_tokens(self, stage: Stage[Any], prompt_tokens: int, completion_tokens: int) -> None:
        """Adds the tokens that a stage cost to the meters that run."""
        for meter in self._meters:
            meter.prompt_tokens[stage.key] = prompt_tokens
            meter.completion_tokens[stage.key] = completion_tokens
            meter.names[stage.key] = stage.name

    def note_answers(self, stage: Stage[Any], answers: Sequence[Answer]) -> None:
        """Adds what answers cost when they were first made to the meters that run."""
        self.note_tokens(stage, sum(a.prompt_tokens for a in answers), sum(a.completion_tokens for a in answers))
        for meter in self._meters:
            meter.seconds[stage.key] = sum(answer.seconds for answer in answers)

    def paid(self) -> dict[str, tuple[int, int, float]]:
        """Prompt tokens, completion tokens and money that each chat model built here has used so far; cached
        completions cost nothing. Models that keep no account (`spent`) are left out."""
        accounts = {key: getattr(getattr(one, "chat", one), "spent", None) for key, one in self._built.items()}
        return {key: spent for key, spent in accounts.items() if isinstance(spent, tuple)}

    def component(self, settings: Any) -> Any:
        """A built component; equal settings share one, so that a model is loaded once."""
        key = f"{type(settings).__name__}:{digest(settings.identity(self.resources))}"
        if key not in self._built:
            built = self._built[key] = settings.build(self.resources)
            note = getattr(built, "note", "")
            if note and note not in self._said:
                self.reporter.line(f"note: {note}")
                self._said.add(note)
        return self._built[key]

    def release(self, settings: Any) -> None:
        """Lets go of a built component, so that its memory is freed; it is built again when it is asked for."""
        self._built.pop(f"{type(settings).__name__}:{digest(settings.identity(self.resources))}", None)

    def release_models(self) -> None:
        """Lets go of every built component before something large is trained; what is asked for is built again."""
        for key in [key for key in self._built if not key.startswith("corpus:")]:
            del self._built[key]
        release_memory()

    def split(self, name: Split) -> tuple[Question, ...]:
        """The questions of a split."""
        return by_split(self.questions, name)

    def absolute_paths(self, pipeline: PipelineConfig) -> PipelineConfig:
        """The pipeline with models' files as absolute paths, so that it runs from any folder."""

        def absolute(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {name: absolute(child, name) for name, child in value.items()}
            if key in ("model", "adapter", "query_adapter", "calibration") and isinstance(value, str):
                path = self.resources.path(value)
                if path.is_file() if key == "calibration" else path.is_dir():
                    return str(path.absolute())
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

        if "evidence" not in self._built:
            rows = [[q.id, [[e.doc_id, e.text, e.start, e.end] for e in q.evidence]] for q in self.questions]
            self._built["evidence"] = digest(rows)
        return Stage("gold", {"evidence": self._built["evidence"]}, build, load, (self.documents_stage(pipeline),))

    def embedder(self, pipeline: PipelineConfig) -> CachedEmbedder:
        """The pipeline's embedder, each unique text encoded once and kept."""
        key = f"cached:{digest(pipeline.embed.identity(self.resources))}"
        if key not in self._built:
            self._built[key] = encoding.cached_embedder(self, pipeline)
        return self._built[key]

    def embedding_texts(self, pipeline: PipelineConfig) -> list[str]:
        """What is embedded, and searched for words, of each chunk."""
        return encoding.texts_to_embed(self, pipeline)

    def vectors_stage(self, pipeline: PipelineConfig) -> Stage[np.ndarray]:
        """Chunk vectors, float32, shape (chunks, dimension)."""
        return encoding.vectors_stage(self, pipeline)

    def retrieve(self, pipeline: PipelineConfig, questions: Sequence[Question]) -> Retrieved:
        """Candidates and contexts for questions; see searching.py."""
        return searching.retrieve(self, pipeline, questions)

    # --- answers -----------------------------------------------------------------------------------------------------

    def answer(
        self, pipeline: PipelineConfig, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]
    ) -> list[Answer]:
        """Answers from the given contexts; see answering.py."""
        return answering.answer(self, pipeline, questions, contexts)

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
        answers = searching.answered(self, pipeline, asked, retrieved)
        scores = self.retrieval_scores(pipeline, asked, retrieved) + self.answer_scores(asked, answers)
        gold = self.get(self.gold_stage(pipeline))
        return Evaluation(pipeline, split, asked, retrieved, gold, answers, scores)

    def retrieval_scores(
        self, pipeline: PipelineConfig, questions: Sequence[Question], retrieved: Retrieved
    ) -> list[Score]:
        """Retrieval metrics of the candidates: of spans, and of documents where the config asks for them."""
        gold = self.get(self.gold_stage(pipeline))
        hits = [[hit.chunk for hit in found] for found in retrieved.candidates]
        score = self.config.score
        chunks = self.get(self.chunks_stage(pipeline)) if score.precision_omega else None
        key = f"tokenizer:{score.tokenizer}"
        if key not in self._built:
            self._built[key] = token_counter(score.tokenizer)
        count = self._built[key].count
        scores = retrieval_scores(questions, hits, gold, score.ks, chunks, score.budgets, count)
        scores += document_scores(questions, hits, score.ks) if score.documents else []
        return searching.failed_scores(scores, retrieved.failures) if retrieved.failures else scores

    def answer_scores(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Score]:
        """Answer metrics that need no LLM."""
        score = self.config.score
        own = custom_scores(questions, answers, score.custom)
        return answer_scores(questions, answers, score.abstention) + own
