"""After a training: the base against the finetuned LLM, question by question, on the edge cases and beyond.

Edge cases were chosen by the failures of one side, so any other model looks good on them: they are for reading, and the
gate never looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...eval.judge import Verdict
from ..gate import compare_metric
from ..scoring import clusters, kept_verdicts
from ..workbench import Evaluation, Workbench
from .llm_data import edge_cases

__all__ = ["on_test", "side_by_side", "told"]

MOST_ROWS = 20  # of each kind; all answers are in the run's answers.jsonl
# Those of the others are about passages, not about what the answer claims.
_OF_ANSWERS = ("ragas/faithfulness", "ragas/factual_correctness", "ragas/answer_correctness")


def side_by_side(
    bench: Workbench, metric: str, before: Evaluation, after: Evaluation, edge: Sequence[str] | None = None
) -> dict[str, Any]:
    """What became of the edge cases, and what was newly lost, with both answers and the judge's verdicts on them.

    Args:
        bench: Verdicts, and when a score is good enough.
        metric: What both are compared by.
        before: Answers without the training, of the same questions.
        after: Answers with it.
        edge: The edge cases; those of `before` where not given.

    Returns:
        JSON values: `questions` (the edge cases), `mended`, `newly_lost`, `wins`, `ties`, `losses`, `difference` with
        `low` and `high` (95% interval) over the edge cases, and `answers`, a row a question.
    """
    edge = edge_cases(bench, before) if edge is None else tuple(edge)
    scores, good = (before.values(metric), after.values(metric)), bench.config.score.good_enough
    mended = [q for q in edge if (scores[1].get(q) or 0.0) >= good]
    lost = [q for q, v in scores[0].items() if (v or 0.0) >= good and (scores[1].get(q) or 0.0) < good]
    became = {q: "mended" if q in mended else "still wrong" for q in edge[:MOST_ROWS]}
    became |= dict.fromkeys(lost[:MOST_ROWS], "newly lost")
    return {
        "questions": list(edge),
        "mended": mended,
        "newly_lost": lost,
        **_compared(bench, metric, before, after, edge),
        "answers": _rows(bench, before, after, became, scores),
    }


def on_test(
    bench: Workbench, metric: str, note: Callable[[str], None]
) -> Callable[[Evaluation, Evaluation], dict[str, Any]]:
    """For `Proposal.after`: the incumbent against the candidate on the test questions that the incumbent loses."""

    def compare(incumbent: Evaluation, candidate: Evaluation) -> dict[str, Any]:
        found = side_by_side(bench, metric, incumbent, candidate)
        note(f"  {told(found, 'test', 'the incumbent')}")
        return {"edge_cases_on_test": found}

    return compare


def told(found: dict[str, Any], split: str, before: str) -> str:
    """The result of `side_by_side` in words."""
    edge, mended, lost = (len(found[name]) for name in ("questions", "mended", "newly_lost"))
    return f"edge cases on {split}: {mended} of {edge} that {before} loses are mended, {lost} others newly lost"


def _compared(
    bench: Workbench, metric: str, before: Evaluation, after: Evaluation, edge: Sequence[str]
) -> dict[str, Any]:
    names = ("wins", "ties", "losses", "difference", "low", "high")
    wanted, config = set(edge), bench.config
    scores = [[s for s in one.scores if s.question_id in wanted] for one in (after, before)]
    groups, alpha = clusters(bench.questions), config.gate.alpha
    found = compare_metric(metric, scores[0], scores[1], groups, before.split, alpha, config.seed)
    return {name: getattr(found, name) for name in names}


def _rows(
    bench: Workbench,
    before: Evaluation,
    after: Evaluation,
    became: dict[str, str],
    scores: Sequence[Any],
) -> list[dict[str, Any]]:
    sides = []
    for name, evaluation, values in zip(("before", "after"), (before, after), scores, strict=True):
        answers = {a.question_id: a.text if a.status == "ok" else f"({a.status})" for a in evaluation.answers}
        sides.append((name, answers, values, _claims(kept_verdicts(bench, evaluation))))
    rows = []
    for question in before.questions:
        if question.id not in became:
            continue
        row: dict[str, Any] = {
            "question_id": question.id,
            "became": became[question.id],
            "question": question.text,
            "reference": question.answer,
        }
        for name, answers, values, claims in sides:
            row |= {name: answers[question.id], f"{name}_score": values.get(question.id)}
            if bench.config.score.judge is not None:
                row[f"{name}_claims"] = claims.get(question.id, [])
        rows.append(row)
    return rows


def _claims(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """The judge's first verdict on each claim of an answer, in words, by question."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.repeat == 0 and verdict.metric in _OF_ANSWERS:
            held = "supported" if verdict.supported else "not supported"
            said = f"{held} by the {verdict.against}: {verdict.claim} [{verdict.metric.removeprefix('ragas/')}]"
            found.setdefault(verdict.question_id, []).append(said)
    return found
