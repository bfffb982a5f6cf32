"""RAGAS metrics judged by an LLM (Es et al., "RAGAS: Automated Evaluation of Retrieval Augmented Generation", 2023).

Prompts and formulas are ragas' own; every call goes through our chat models, so it is cached, counted and budgeted.
Every failure ends as a status: ragas' own `evaluate` drops failed rows from the mean, which then rises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from ..core.chat import ChatModel, ChatSection
from ..core.components import Model, Resources
from ..core.errors import ConfigError
from ..core.types import Answer, Chunk, Embedder, Question, Score, Status
from ._judge_llm import Dialogue, Gateway, JudgeFailure, Sampling, as_ragas_llm
from ._ragas import prepare_ragas, ragas_embeddings, run_coroutine

__all__ = ["JUDGE_METRICS", "JudgeMetric", "JudgeSettings", "Verdict", "judge_calls", "judge_scores"]

JudgeMetric = Literal[
    "faithfulness",
    "answer_relevancy",
    "context_precision",
    "context_recall",
    "factual_correctness",
    "answer_correctness",
    "noise_sensitivity",
]
VERSION = 1
"""Raised when the same settings and replies give other scores."""
_CITATION = re.compile(r"\s*\[[^\[\]]+\]")


class JudgeSettings(Model):
    """An LLM that judges answers and contexts by RAGAS metrics."""

    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """The judge. A stronger LLM than the one judged, and never one of its own finetunes."""
    metrics: tuple[JudgeMetric, ...] = Field(
        default=("faithfulness", "answer_relevancy", "context_precision", "context_recall"), min_length=1
    )
    """What is judged. Calls a question, with K chunks in the context: faithfulness 2, answer_relevancy `strictness`,
    context_precision K, context_recall 1, factual_correctness 4, answer_correctness 3, noise_sensitivity 2K + 3 (there
    lower is better). answer_relevancy and answer_correctness need an embedding model too."""
    repeats: int = Field(default=1, ge=1, le=20)
    """Independent judgements a score, averaged. Multiplies the calls; at temperature 0 they differ little."""
    strictness: int = Field(default=3, ge=1, le=10)
    """Questions that answer_relevancy has written from each answer."""
    max_tokens: int = Field(default=2048, ge=64)
    """Most tokens of one reply. A reply that is cut is broken JSON; long answers have many claims."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0 judges alike each time; above 0 repeats differ."""
    seed: int | None = None
    """Sent with each call where set; not every server takes one."""
    strip_citations: bool = True
    """Takes references in square brackets out of answers first, which a judge would count as unsupported claims."""

    def identity(self, resources: Resources) -> dict[str, Any]:
        """All that determines a score besides inputs and embedder: judge, settings, prompts (by ragas' version)."""
        return {
            **self.model_dump(mode="json", exclude={"llm"}),
            "llm": self.llm.identity(resources),
            "ragas": version("ragas"),
            "version": VERSION,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge held of one claim.

    Attributes:
        question_id: Of the question.
        metric: For which metric, as in `Score.metric`.
        repeat: In which of the independent judgements, from 0.
        claim: A statement of the answer or the reference; a question, for answer_relevancy; the reference answer, for
            context_precision.
        against: What it was held against: `contexts`, `reference`, `answer`, `question` or a chunk's id.
        supported: The verdict. For context_precision: the chunk was useful; for answer_relevancy: not evasive.
        reason: The judge's own words; empty where it is not asked for them.
    """

    question_id: str
    metric: str
    repeat: int
    claim: str
    against: str
    supported: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Spec:
    """A ragas metric: its class and what `ascore` takes."""

    cls: str
    takes: tuple[str, ...]
    embedding_role: Literal["query", "document"] | None = None


_SPECS: dict[str, _Spec] = {
    "faithfulness": _Spec("Faithfulness", ("user_input", "response", "retrieved_contexts")),
    "answer_relevancy": _Spec("AnswerRelevancy", ("user_input", "response"), "query"),
    "context_precision": _Spec("ContextPrecision", ("user_input", "reference", "retrieved_contexts")),
    "context_recall": _Spec("ContextRecall", ("user_input", "reference", "retrieved_contexts")),
    "factual_correctness": _Spec("FactualCorrectness", ("response", "reference")),
    "answer_correctness": _Spec("AnswerCorrectness", ("user_input", "response", "reference"), "document"),
    "noise_sensitivity": _Spec("NoiseSensitivity", ("user_input", "response", "reference", "retrieved_contexts")),
}
JUDGE_METRICS: tuple[JudgeMetric, ...] = get_args(JudgeMetric)
"""RAGAS metrics that an LLM judges, without the prefix `ragas/`."""


@dataclass(frozen=True, slots=True)
class _Case:
    question: Question
    answer: Answer
    contexts: Sequence[Chunk]
    response: str
    reference: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: float | None
    status: Status
    detail: str
    verdicts: tuple[Verdict, ...] = ()


def judge_scores(
    questions: Sequence[Question],
    answers: Sequence[Answer],
    contexts: Sequence[Sequence[Chunk]],
    settings: JudgeSettings,
    resources: Resources,
    embedder: Embedder | None = None,
    model: ChatModel | None = None,
    answered: bool = False,
) -> tuple[list[Score], list[Verdict]]:
    """Has an LLM judge answers and contexts.

    Args:
        questions: N questions. Those that the documents do not answer are `not_applicable`: whether they were declined
            is measured without a judge.
        answers: Their answers, in order; one that failed scores with its status on the metrics of answers.
        contexts: For each the chunks that stood in the prompt, best first.
        settings: Judge, metrics and repeats.
        resources: For the chat model.
        embedder: For answer_relevancy and answer_correctness.
        model: The judge, where the caller has built it already.
        answered: Whether the judge has answered before: then its loss is a status, not an error.

    Returns:
        For each question and metric a score named `ragas/<metric>`: the mean of its repeats (its detail says how many
        failed, where fewer than half did), or the status of the first that failed: `timeout`, `parse_error` (two broken
        replies) or `judge_error`. And the verdict on each claim.

    Raises:
        ConfigError: A metric needs an embedder, and none is given.
        EndpointError: The judge cannot be reached at all. One that is lost half-way is no error: the judgements that it
            did not make are `judge_error`.
        BudgetError: The budget of `settings.llm` is used up; finished calls are cached.
    """
    _check_embedder(settings, embedder)
    rows = zip(questions, answers, contexts, strict=True)
    cases = [_case(question, answer, chunks, settings) for question, answer, chunks in rows]
    if not cases:
        return [], []
    prepare_ragas()
    gateway = Gateway(model if model is not None else settings.llm.build(resources), answered)
    makers = {name: _maker(name, settings, embedder) for name in settings.metrics}
    keys = [(case, name, repeat) for case in cases for name in settings.metrics for repeat in range(settings.repeats)]

    async def judge_all() -> list[Any]:
        import asyncio

        tasks = [_judge(gateway, settings, makers[name], case, name, repeat) for case, name, repeat in keys]
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = run_coroutine(judge_all())
    for error in (gateway.fatal, *outcomes):
        if isinstance(error, BaseException):
            raise error
    return _collect(cases, settings, outcomes)


def judge_calls(settings: JudgeSettings, context_sizes: Iterable[int]) -> int:
    """LLM calls that judging takes, if no reply is broken and none comes from the cache.

    Args:
        settings: Which metrics, and how often.
        context_sizes: Chunks in the context of each question.
    """
    fixed = {"faithfulness": 2, "context_recall": 1, "factual_correctness": 4, "answer_correctness": 3}
    calls = 0
    for size in context_sizes:
        varying = {
            "answer_relevancy": settings.strictness,
            "context_precision": size,
            "noise_sensitivity": 2 * size + 3,
        }
        calls += sum({**fixed, **varying}[name] for name in settings.metrics)
    return calls * settings.repeats


def _check_embedder(settings: JudgeSettings, embedder: Embedder | None) -> None:
    needing = [name for name in settings.metrics if _SPECS[name].embedding_role is not None]
    if needing and embedder is None:
        raise ConfigError(f"judge.metrics: {', '.join(needing)} need an embedding model; give one or leave them out")


def _case(question: Question, answer: Answer, chunks: Sequence[Chunk], settings: JudgeSettings) -> _Case:
    response, reference = answer.text, question.answer
    if settings.strip_citations:
        response, reference = _CITATION.sub("", response), _CITATION.sub("", reference)
    return _Case(question, answer, chunks, response.strip(), reference.strip())


def _maker(name: str, settings: JudgeSettings, embedder: Embedder | None) -> Any:
    """A function from a ragas LLM to the ragas metric; vectors are shared between its metrics."""
    from ragas.metrics import collections

    spec, arguments = _SPECS[name], {}
    if spec.embedding_role is not None and embedder is not None:
        arguments["embeddings"] = ragas_embeddings(embedder, spec.embedding_role)
    if name == "answer_relevancy":
        arguments["strictness"] = settings.strictness
    cls = getattr(collections, spec.cls)
    return lambda llm: cls(llm=llm, **arguments)


async def _judge(
    gateway: Gateway, settings: JudgeSettings, maker: Any, case: _Case, name: str, repeat: int
) -> _Outcome:
    """One judgement of one metric of one question; whatever goes wrong in it ends as a status."""
    given = _without_judge(name, case)
    if given is not None:
        return given
    sampling = Sampling(settings.max_tokens, settings.temperature, settings.seed)
    dialogue = Dialogue(gateway, sampling, repeat, draws=name == "answer_relevancy")
    inputs = {
        "user_input": case.question.text,
        "response": case.response,
        "reference": case.reference,
        "retrieved_contexts": [chunk.text for chunk in case.contexts],
    }
    value, status, detail = None, "ok", ""
    try:
        result = await maker(as_ragas_llm(dialogue)).ascore(**{key: inputs[key] for key in _SPECS[name].takes})
        value = float(result.value)
    except JudgeFailure as error:
        status, detail = error.status, error.detail
    except Exception as error:  # ragas and the embedder raise anything
        if gateway.fatal is not None:
            raise
        status, detail = "judge_error", f"ragas failed: {type(error).__name__}: {error}"
    verdicts = tuple(_verdicts(name, case, repeat, dialogue.replies))
    if value is not None and not math.isfinite(value):
        value, status, detail = None, "judge_error", f"ragas returned {value}"
    return _Outcome(value, status, detail, verdicts)


def _without_judge(name: str, case: _Case) -> _Outcome | None:
    """The outcome that is known without asking; None where the judge is needed."""
    takes = _SPECS[name].takes
    if not case.question.answerable:
        return _Outcome(None, "not_applicable", "the documents do not answer the question")
    if "response" in takes and case.answer.status != "ok":
        return _Outcome(None, case.answer.status, case.answer.detail)
    if "reference" in takes and not case.reference:
        return _Outcome(None, "not_applicable", "the question has no reference answer")
    if "retrieved_contexts" in takes and not case.contexts:
        if "response" in takes:
            return _Outcome(None, "not_applicable", "there was no context")
        return _Outcome(0.0, "ok", "nothing was retrieved")
    if "response" in takes and not case.response:
        if "retrieved_contexts" in takes:
            return _Outcome(None, "not_applicable", "the answer is empty")
        return _Outcome(0.0, "ok", "the answer is empty")
    return None


def _collect(
    cases: Sequence[_Case], settings: JudgeSettings, outcomes: Sequence[_Outcome]
) -> tuple[list[Score], list[Verdict]]:
    scores: list[Score] = []
    pairs = [(case, name) for case in cases for name in settings.metrics]
    for place, (case, name) in enumerate(pairs):
        group = outcomes[place * settings.repeats : (place + 1) * settings.repeats]
        scores.append(_mean(case.question.id, f"ragas/{name}", group))
    return scores, [verdict for outcome in outcomes for verdict in outcome.verdicts]


def _mean(question_id: str, metric: str, outcomes: Sequence[_Outcome]) -> Score:
    """The mean of the repeats; a score where more than half of them are there."""
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    failed = next((outcome for outcome in outcomes if outcome.value is None), None)
    if failed is None:
        return Score(question_id, metric, sum(values) / len(values), "ok", outcomes[0].detail)
    why = failed.detail
    if len(outcomes) > 1 and failed.status != "not_applicable":
        why = f"{len(outcomes) - len(values)} of {len(outcomes)} repeats failed, the first with {failed.status}: {why}"
    if 2 * len(values) <= len(outcomes):
        return Score(question_id, metric, None, failed.status, why)
    return Score(question_id, metric, sum(values) / len(values), "ok", why)


def _verdicts(name: str, case: _Case, repeat: int, replies: Sequence[BaseModel]) -> list[Verdict]:
    """The verdicts in a dialogue's replies, whose order is that of ragas' calls."""
    found: list[Verdict] = []
    texts = 0  # replies so far that hold claims, not verdicts: the first are the answer's, for factual_correctness
    judged = 0  # replies so far that hold verdicts
    for reply in replies:
        entries = _entries(reply)
        if entries is None:
            texts += 1
            continue
        for claim, side, supported, reason in entries:
            against = side or _against(name, case, texts, judged)
            shown = claim if claim is not None else case.reference
            found.append(Verdict(case.question.id, f"ragas/{name}", repeat, shown, against, supported, reason))
        judged += 1
    return found


def _against(name: str, case: _Case, texts: int, judged: int) -> str:
    if name == "context_precision":
        return case.contexts[judged].id
    if name == "factual_correctness":
        return "reference" if texts == 1 else "answer"
    if name == "noise_sensitivity":  # reference's, then answer's claims for each chunk; at last the answer's
        return case.contexts[judged // 2].id if judged < 2 * len(case.contexts) else "reference"
    return "contexts"


def _entries(reply: Any) -> list[tuple[str | None, str, bool, str]] | None:
    """(claim, what it was held against where the reply says so, verdict, reason) of a reply; None where it has none."""
    if hasattr(reply, "TP"):
        sides = ((reply.TP, "reference", True), (reply.FP, "reference", False), (reply.FN, "answer", False))
        return [(entry.statement, side, verdict, entry.reason) for part, side, verdict in sides for entry in part]
    if hasattr(reply, "classifications"):
        return [(entry.statement, "", bool(entry.attributed), entry.reason) for entry in reply.classifications]
    if hasattr(reply, "noncommittal"):
        return [(reply.question, "question", not reply.noncommittal, "")]
    if hasattr(reply, "verdict"):
        return [(None, "", bool(reply.verdict), reply.reason)]
    entries = getattr(reply, "statements", None) or getattr(reply, "claims", [])
    if not entries or isinstance(entries[0], str):
        return None
    return [(entry.statement, "", bool(entry.verdict), entry.reason) for entry in entries]
