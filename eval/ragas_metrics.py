"""RAGAS metrics that need no LLM: contexts by string and by document; answers by string, n-grams and embeddings.

Values are those of ragas itself (Es et al., "RAGAS: Automated Evaluation of Retrieval Augmented Generation", 2023).
Three things to know when reading them:

- The two `non_llm_context_*` metrics compare whole texts by Levenshtein distance and count a pair from 0.5 on, so a
  short piece of evidence inside a long chunk does not count. `token_recall@k` and its kin see that.
- `bleu_score` compares an answer's first sentence only with the reference's sentences as alternatives.
- `exact_match` and `string_present` compare the raw texts, case and punctuation included.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import ConfigError
from ..core.types import Answer, Chunk, Embedder, Question, Score
from ._ragas import prepare_ragas, ragas_embeddings, run_coroutine

__all__ = [
    "RAGAS_ANSWER_METRICS",
    "RAGAS_CONTEXT_METRICS",
    "RAGAS_METRICS",
    "RAGAS_QUOTE_METRICS",
    "ragas_scores",
]

RAGAS_CONTEXT_METRICS = (
    "non_llm_context_recall",
    "non_llm_context_precision_with_reference",
    "id_based_context_recall",
    "id_based_context_precision",
)
"""Need retrieved chunks and gold evidence. The id-based ones compare documents."""
RAGAS_ANSWER_METRICS = (
    "non_llm_string_similarity",
    "rouge_score",
    "bleu_score",
    "chrf_score",
    "exact_match",
    "string_present",
    "semantic_similarity",
)
"""Need an answer and its reference; `semantic_similarity` an embedder as well. `rouge_score` is ROUGE-L F1 on stems."""
RAGAS_QUOTE_METRICS = ("quoted_spans_alignment",)
"""Needs an answer and retrieved chunks: the share of what the answer quotes that stands there word for word."""
RAGAS_METRICS = RAGAS_CONTEXT_METRICS + RAGAS_ANSWER_METRICS + RAGAS_QUOTE_METRICS
"""RAGAS metrics that need neither an LLM nor embeddings, without the prefix `ragas/`."""

_Measure = Callable[["_Case"], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class _Case:
    question: Question
    retrieved: Sequence[Chunk]
    references: Sequence[str]
    answer: Answer | None


def ragas_scores(
    questions: Sequence[Question],
    retrieved: Sequence[Sequence[Chunk]],
    answers: Sequence[Answer] | None = None,
    reference_contexts: Sequence[Sequence[str]] | None = None,
    embedder: Embedder | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Score]:
    """Scores retrieval and answers with the RAGAS metrics that need no LLM.

    Args:
        questions: N questions.
        retrieved: For each the chunks that stood in the prompt, best first.
        answers: For each its answer, in order; without them the context metrics alone are computed. One that failed
            scores with its status on the answer metrics.
        reference_contexts: For each its gold texts; the questions' evidence where not given.
        embedder: For `semantic_similarity`, which is left out without one.
        metrics: Names out of `RAGAS_METRICS`; all that the other arguments allow where not given.

    Returns:
        For each question and metric a score named `ragas/<metric>`, 0 to 1 (`semantic_similarity` -1 to 1). Context
        metrics of a question without evidence, and answer metrics without a reference answer, are `not_applicable`;
        where ragas fails the status is `judge_error` and the detail its message.

    Raises:
        ConfigError: An unknown metric, or one whose input is missing.
        ValueError: Rows of unequal length.
    """
    names = _chosen(metrics, answers is not None, embedder is not None)
    cases = _cases(questions, retrieved, answers, reference_contexts)
    if not cases or not names:
        return []
    prepare_ragas()
    measures = _measures(names, embedder, cases)

    async def score_all() -> list[Score]:
        return [await _score(name, measures[name], case) for case in cases for name in names]

    return run_coroutine(score_all())


def _chosen(metrics: Sequence[str] | None, has_answers: bool, has_embedder: bool) -> tuple[str, ...]:
    possible = RAGAS_CONTEXT_METRICS + (RAGAS_ANSWER_METRICS + RAGAS_QUOTE_METRICS if has_answers else ())
    if not has_embedder:
        possible = tuple(name for name in possible if name != "semantic_similarity")
    if metrics is None:
        return possible
    for name in metrics:
        if name not in RAGAS_METRICS:
            raise ConfigError(f"unknown RAGAS metric '{name}'; known without an LLM: {', '.join(RAGAS_METRICS)}")
        if name not in possible:
            needed = "an embedder" if has_answers else "answers"
            raise ConfigError(f"RAGAS metric '{name}' needs {needed}; give it or leave the metric out")
    return tuple(dict.fromkeys(metrics))


def _cases(
    questions: Sequence[Question],
    retrieved: Sequence[Sequence[Chunk]],
    answers: Sequence[Answer] | None,
    references: Sequence[Sequence[str]] | None,
) -> list[_Case]:
    if references is None:
        references = [[evidence.text for evidence in question.evidence] for question in questions]
    rows = zip(questions, retrieved, references, answers or [None] * len(questions), strict=True)
    return [_Case(question, chunks, texts, answer) for question, chunks, texts, answer in rows]


async def _score(name: str, measure: _Measure, case: _Case) -> Score:
    """One metric of one question; whatever goes wrong ends as a status."""
    given = _without_ragas(name, case)
    if given is not None:
        return given
    metric, question_id = f"ragas/{name}", case.question.id
    try:
        value = float(await measure(case))
    except Exception as error:  # ragas and the libraries below it raise anything
        return Score(question_id, metric, None, "judge_error", f"ragas failed: {type(error).__name__}: {error}")
    if not math.isfinite(value):
        return Score(question_id, metric, None, "judge_error", f"ragas returned {value}")
    # sums of floats may pass 1 by a rounding error
    return Score(question_id, metric, min(value, 1.0))


def _without_ragas(name: str, case: _Case) -> Score | None:
    """The score where inputs are missing and ragas would raise or return NaN; None where it can be asked."""
    metric, question = f"ragas/{name}", case.question
    if name in RAGAS_CONTEXT_METRICS:
        if not case.references or not question.evidence:
            return Score(question.id, metric, None, "not_applicable", "the question has no gold evidence")
        if not case.retrieved:
            return Score(question.id, metric, 0.0, "ok", "nothing was retrieved")
        return None
    answer = case.answer
    if answer is not None and answer.status != "ok":
        return Score(question.id, metric, None, answer.status, answer.detail)
    if name in RAGAS_QUOTE_METRICS:
        # ragas gives 1 to an answer that quotes nothing; a mean of such ones would say nothing of the quotes
        from ragas.metrics.collections.quoted_spans.util import extract_quoted_spans

        quotes = answer is not None and extract_quoted_spans(answer.text)
        return None if quotes else Score(question.id, metric, None, "not_applicable", "the answer quotes nothing")
    if not question.answer.strip():
        return Score(question.id, metric, None, "not_applicable", "the question has no reference answer")
    return None


def _measures(names: Sequence[str], embedder: Embedder | None, cases: Sequence[_Case]) -> dict[str, _Measure]:
    measures: dict[str, _Measure] = {}
    if any(name in RAGAS_CONTEXT_METRICS for name in names):
        measures |= _context_measures()
    if any(name in RAGAS_ANSWER_METRICS for name in names):
        measures |= _answer_measures()
    if any(name in RAGAS_QUOTE_METRICS for name in names):
        measures |= _quote_measures()
    if "semantic_similarity" in names and embedder is not None:
        measures["semantic_similarity"] = _semantic_measure(embedder, cases)
    return measures


def _context_measures() -> dict[str, _Measure]:
    """The metrics that only ragas' older API has.

    Called below their public methods, which build callback groups and usage events (one writes a file in the user's
    home) for each pair of texts.
    """
    from ragas.dataset_schema import SingleTurnSample
    from ragas.metrics._context_precision import IDBasedContextPrecision, NonLLMContextPrecisionWithReference
    from ragas.metrics._context_recall import IDBasedContextRecall, NonLLMContextRecall
    from ragas.metrics._string import NonLLMStringSimilarity

    class Similarity(NonLLMStringSimilarity):
        """Levenshtein similarity without callbacks and usage events."""

        async def single_turn_ascore(self, sample: Any, callbacks: Any = None, timeout: float | None = None) -> float:
            return await self._single_turn_ascore(sample, callbacks)

    recall = NonLLMContextRecall(_distance_measure=Similarity())
    precision = NonLLMContextPrecisionWithReference(distance_measure=Similarity())

    def by_text(metric: Any) -> _Measure:
        def measure(case: _Case) -> Awaitable[float]:
            contexts = [chunk.text for chunk in case.retrieved]
            sample = SingleTurnSample(retrieved_contexts=contexts, reference_contexts=list(case.references))
            return metric._single_turn_ascore(sample, [])

        return measure

    def by_document(metric: Any) -> _Measure:
        def measure(case: _Case) -> Awaitable[float]:
            wanted: list[str | int] = [evidence.doc_id for evidence in case.question.evidence]
            found: list[str | int] = [chunk.doc_id for chunk in case.retrieved]
            sample = SingleTurnSample(retrieved_context_ids=found, reference_context_ids=wanted)  # type: ignore[arg-type]
            return metric._single_turn_ascore(sample, [])

        return measure

    return {
        "non_llm_context_recall": by_text(recall),
        "non_llm_context_precision_with_reference": by_text(precision),
        "id_based_context_recall": by_document(IDBasedContextRecall()),
        "id_based_context_precision": by_document(IDBasedContextPrecision()),
    }


def _answer_measures() -> dict[str, _Measure]:
    from ragas.metrics import collections

    metrics = (
        collections.NonLLMStringSimilarity(),
        collections.RougeScore(),
        collections.BleuScore(),
        collections.CHRFScore(),
        collections.ExactMatch(),
        collections.StringPresence(),
    )
    return {metric.name: _answer_measure(metric) for metric in metrics}


def _answer_measure(metric: Any) -> _Measure:
    async def measure(case: _Case) -> float:
        response = case.answer.text if case.answer is not None else ""
        return (await metric.ascore(reference=case.question.answer, response=response)).value

    return measure


def _quote_measures() -> dict[str, _Measure]:
    from ragas.metrics.collections import QuotedSpansAlignment

    metric = QuotedSpansAlignment()

    async def measure(case: _Case) -> float:
        response = case.answer.text if case.answer is not None else ""
        return (await metric.ascore(response=response, retrieved_contexts=[c.text for c in case.retrieved])).value

    return {metric.name: measure}


def _semantic_measure(embedder: Embedder, cases: Sequence[_Case]) -> _Measure:
    from ragas.metrics.collections import SemanticSimilarity

    embeddings = ragas_embeddings(embedder, "document")
    answers = [case.answer.text for case in cases if case.answer is not None and case.answer.status == "ok"]
    embeddings.embed_texts([text or " " for text in answers + [case.question.answer for case in cases]])  # one batch
    return _answer_measure(SemanticSimilarity(embeddings=embeddings))
