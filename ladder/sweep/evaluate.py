"""Scores configurations on dev. What they share is computed once; a failure is a result like any other."""

from __future__ import annotations

import errno
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np

from ...core.errors import BudgetError, RagladderError, StageError, UnreachableError
from ...core.types import Chunk, Question, Score, Split
from ..config import PipelineConfig
from ..measures import MEASURES
from ..scoring import further_scores
from ..workbench import Meter, Retrieved, Workbench
from .costs import cost_of_asking, paid_between, unaccounted
from .latency import latencies, megabytes, online
from .ranking import Rankings, search_key
from .vectors import is_vectorised

__all__ = ["Evaluator", "Needs", "Outcome", "Task", "asked_of", "needs_of"]

_SERVED = ("latency_p50", "latency_p95", "index_mb")
_ANSWERED = ("cost", "llm_tokens")
_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Task:
    """One configuration, on all dev questions or on some.

    Attributes:
        key: Of the configuration.
        pipeline: The configuration.
        part: Places of the questions in the split; None for all.
    """

    key: str
    pipeline: PipelineConfig
    part: tuple[int, ...] | None = None


@dataclass
class Outcome:
    """What a task gave.

    Attributes:
        key: Of the configuration.
        status: `ok`, `failed`, `timeout`.
        error: Why it is not `ok`.
        values: Metric: one value a question, None where missing; questions that it does not apply to are NaN-free
            gaps in `applies`.
        applies: Metric: places of the questions that `values` stand for.
        measures: One number each.
        seconds: Wall-clock time of the task, what it computed for others included.
        stage_seconds: By stage what it took when first computed.
        paid: Prompt tokens, completion tokens and money that the task's LLMs were paid, judges included; what came from
            the cache was paid before.
        tokens: By stage the prompt and completion tokens of models that keep no account, when first asked.
        part: As in the task.
        warnings: What a user should know.
    """

    key: str
    status: str = "ok"
    error: str = ""
    values: dict[str, list[float | None]] = field(default_factory=dict)
    applies: dict[str, list[int]] = field(default_factory=dict)
    measures: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    paid: list[float] = field(default_factory=lambda: [0, 0, 0.0])
    tokens: dict[str, list[int]] = field(default_factory=dict)
    part: list[int] | None = None
    warnings: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """JSON values; nothing is copied."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def value(self, name: str) -> float | None:
        """Mean of a metric, or a measure."""
        if name in self.measures:
            return self.measures[name]
        there = [value for value in self.values.get(name, []) if value is not None]
        return float(np.mean(there)) if there else None

    def missing(self, name: str) -> tuple[int, int]:
        """How many questions lack a score of a metric, and how many it applies to."""
        values = self.values.get(name, [])
        return sum(value is None for value in values), len(values)


@dataclass(frozen=True)
class Needs:
    """What is to be measured.

    Attributes:
        metrics: One value a question each.
        measures: One number each, of `measures.MEASURES`.
        answers: Whether the pipelines must answer.
        judged: Whether RAGAS or judged metrics are among them.
    """

    metrics: tuple[str, ...]
    measures: tuple[str, ...]
    answers: bool
    judged: bool


def needs_of(names: Iterable[str]) -> Needs:
    """What objectives and constraints ask for."""
    unique = tuple(dict.fromkeys(names))
    metrics = tuple(name for name in unique if name not in MEASURES)
    measures = tuple(name for name in unique if name in MEASURES)
    judged = any("/" in name for name in metrics)
    answers = any(not _of_retrieval(name) for name in metrics) or any(name in _ANSWERED for name in measures)
    return Needs(metrics, measures, answers, judged)


def _of_retrieval(metric: str) -> bool:
    return is_vectorised(metric) or metric == "precision_omega" or metric.startswith(("doc_", "context_tokens@"))


def asked_of(bench: Workbench, questions: str) -> tuple[Question, ...]:
    """The questions of a split, or of several, as `dev+test`.

    Raises:
        DataError: A split has none.
    """
    return tuple(question for split in questions.split("+") for question in bench.split(split))  # type: ignore[arg-type]


class _TimedOut(BaseException):
    """Not an Exception: a component that swallows those must not swallow this one."""


class Evaluator:
    """Scores tasks one after the other."""

    def __init__(
        self,
        bench: Workbench,
        needs: Needs,
        timeout_s: float | None = None,
        latency_questions: int = 40,
        questions: str = "dev",
    ) -> None:
        """Takes what is to be measured.

        Args:
            bench: Scores pipelines.
            needs: Metrics and measures.
            timeout_s: Most seconds of a task; None for no limit.
            latency_questions: Single queries timed.
            questions: A split, or several, as `dev+test`.
        """
        self.bench = bench
        self.needs = needs
        self.questions = asked_of(bench, questions)
        self._timeout_s = timeout_s
        self._sample = self.questions[:: max(1, len(self.questions) // latency_questions)][:latency_questions]
        self._rankings = Rankings(bench, self.questions)
        self._served: dict[str, dict[str, float | None]] = {}

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes in the order of the tasks.

        Raises:
            BudgetError: An LLM's own budget is used up.
            StageError: The disk is full: every further task would fail too.
        """
        for task in tasks:
            yield self.score(task)

    def score(self, task: Task) -> Outcome:
        """Scores one task; what goes wrong is in the outcome."""
        outcome = Outcome(task.key, part=list(task.part) if task.part is not None else None)
        started, before = time.perf_counter(), self.bench.paid()
        with self.bench.meter() as meter:
            try:
                with _limit(self._timeout_s):
                    self._fill(outcome, task, meter)
            except _TimedOut:
                outcome.status = "timeout"
                outcome.error = f"took longer than trial_timeout_s ({self._timeout_s:g} s)"
            except (BudgetError, UnreachableError):
                raise
            except Exception as error:  # of a component, which can be anybody's
                if _disk_full(error):
                    raise
                outcome.status = "failed"
                outcome.error = str(error) if isinstance(error, RagladderError) else f"{type(error).__name__}: {error}"
        outcome.seconds = round(time.perf_counter() - started, 3)
        outcome.paid = list(paid_between(before, self.bench.paid()))
        outcome.tokens = unaccounted(task.pipeline, meter)
        outcome.stage_seconds = {key[:20]: seconds for key, seconds in meter.seconds.items()}
        if outcome.status != "ok":
            outcome.values, outcome.applies, outcome.measures = {}, {}, {}
        return outcome

    def _fill(self, outcome: Outcome, task: Task, meter: Meter) -> None:
        pipeline, metrics = task.pipeline, self.needs.metrics
        places = list(task.part) if task.part is not None else list(range(len(self.questions)))
        plain = all(is_vectorised(name) for name in metrics) and not self.needs.answers
        if plain and self._rankings.possible(pipeline):
            self._arithmetic(outcome, pipeline, places)
        else:
            self._in_full(outcome, pipeline, places)
            if any(name in self.needs.measures for name in _ANSWERED):
                tokens, money = cost_of_asking(pipeline, meter)
                each = {"llm_tokens": tokens / len(places), "cost": 1000 * money / len(places)}
                outcome.measures |= {name: each[name] for name in _ANSWERED if name in self.needs.measures}
        missing = [name for name in metrics if name not in outcome.values]
        if missing:
            raise StageError(f"{', '.join(missing)}: not among the metrics that this configuration was scored with")
        served = [name for name in self.needs.measures if name in _SERVED]
        if served:
            outcome.measures.update({name: self._serve(pipeline)[name] for name in served})

    def _arithmetic(self, outcome: Outcome, pipeline: PipelineConfig, places: Sequence[int]) -> None:
        """All from one search."""
        chunking = self._rankings.chunking(pipeline)
        positions, scores = self._rankings.scored(pipeline, self.needs.metrics)
        for name, row in scores.items():
            inside = [place for place in places if not np.isnan(row[place])]
            outcome.applies[name] = inside
            outcome.values[name] = row[inside].tolist()
        top = positions[places, : pipeline.retrieve.top_k]
        found = np.where(top >= 0, top, 0)
        for name in self.needs.measures:
            if name == "chunks":
                outcome.measures[name] = float(len(chunking.chunks))
            elif name in ("context_chars", "context_tokens"):
                sizes = chunking.scorer.lengths if name == "context_chars" else chunking.tokens()
                outcome.measures[name] = float(np.where(top >= 0, sizes[found], 0).sum(axis=1).mean())

    def _in_full(self, outcome: Outcome, pipeline: PipelineConfig, places: Sequence[int]) -> None:
        """By the workbench: rerankers, merged hits, answers, judges."""
        bench, asked = self.bench, [self.questions[place] for place in places]
        scores: list[Score] = []
        contexts: list[list[Chunk]] = []
        for split in _SPLITS:
            part = [question for question in asked if question.split == split]
            if not part:
                continue
            found, retrieved = self._of_split(pipeline, split, part)
            scores += found
            contexts += [[hit.chunk for hit in hits] for hits in retrieved.contexts]
        self._take(outcome, scores, asked, places)
        for name in self.needs.measures:
            if name == "chunks":
                outcome.measures[name] = float(len(bench.get(bench.chunks_stage(pipeline))))
            elif name == "context_chars":
                outcome.measures[name] = float(np.mean([sum(c.end - c.start for c in row) for row in contexts]))
            elif name == "context_tokens":
                outcome.measures[name] = _mean_tokens(contexts, bench.config.score.tokenizer)

    def _of_split(
        self, pipeline: PipelineConfig, split: Split, asked: Sequence[Question]
    ) -> tuple[list[Score], Retrieved]:
        bench = self.bench
        if not self.needs.answers:
            retrieved = bench.retrieve(pipeline, asked)
            return bench.retrieval_scores(pipeline, asked, retrieved), retrieved
        evaluation = bench.evaluate(pipeline, split, asked)
        further = further_scores(bench, evaluation) if self.needs.judged else []
        return [*evaluation.scores, *further], evaluation.retrieved

    def _take(
        self, outcome: Outcome, scores: Sequence[Score], asked: Sequence[Question], places: Sequence[int]
    ) -> None:
        place_of = {question.id: place for question, place in zip(asked, places, strict=True)}
        wanted = set(self.needs.metrics)
        for score in scores:
            if score.metric not in wanted:
                continue
            values = outcome.values.setdefault(score.metric, [])
            applies = outcome.applies.setdefault(score.metric, [])
            if score.status != "not_applicable":
                values.append(score.value if score.status == "ok" else None)
                applies.append(place_of[score.question_id])

    def _serve(self, pipeline: PipelineConfig) -> dict[str, float | None]:
        key = search_key(pipeline)
        if key not in self._served:
            engines = online(self.bench, pipeline)
            found: dict[str, float | None] = {}
            if "index_mb" in self.needs.measures:
                found["index_mb"] = megabytes(engines)
            if any(name.startswith("latency") for name in self.needs.measures):
                found.update(latencies(engines, self._sample))
            self._served[key] = found
        return self._served[key]


def _mean_tokens(contexts: Sequence[Sequence[Any]], tokenizer: Literal["words", "cl100k"]) -> float:
    from ...rag.chunk import token_counter

    tokens = token_counter(tokenizer)
    counted = {chunk.text: 0 for row in contexts for chunk in row}
    counted.update({text: tokens.count(text) for text in counted})
    return float(np.mean([sum(counted[chunk.text] for chunk in row) for row in contexts]))


def _disk_full(error: BaseException) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        chain = chain.__cause__
    return False


@contextmanager
def _limit(seconds: float | None) -> Iterator[None]:
    """Interrupts the block after some seconds: at its next Python instruction, so a library's call is waited for."""
    usable = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if seconds is None or not usable:
        yield
        return

    def over(*_: object) -> None:
        raise _TimedOut

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
