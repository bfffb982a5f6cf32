"""The data behind the table of questions, as two JSON blocks: a small one that the table needs, a large one that is
read only when a row is opened. A passage that many questions retrieved is kept once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .run_folder import RunFolder
from .words import arm_name, cause_name, status_name

__all__ = ["arms_in_order", "explorer_data", "script_json"]


def script_json(value: Any) -> Any:
    """JSON that is safe inside a script element: no character of it can end the element or open a comment."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def arms_in_order(run: RunFolder) -> list[str]:
    """Every arm that was scored or answered: baseline, rungs in climbing order, then others by name."""
    record = run.record
    known = [record.baseline.arm, *(rung.candidate.arm for rung in record.rungs if rung.candidate), record.final.arm]
    seen = set(run.scores.get("arm", ())) | {row["arm"] for row in run.answers}
    return list(dict.fromkeys([arm for arm in known if arm in seen] + sorted(seen - set(known))))


def explorer_data(run: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two blocks.

    Returns:
        The index (questions, scores as columns, causes) and the details (evidence, passages, answers).
    """
    position = {row["id"]: number for number, row in enumerate(run.questions)}
    arms = arms_in_order(run)
    scores, missing = _scores(run.scores, position)
    answers, chunks, causes = _answers(run.answers, position)
    index = {
        "questions": [
            [row["id"], row["question"], row.get("answer", ""), row.get("split") or "", row.get("tags") or {}]
            for row in run.questions
        ],
        "arms": [[arm, arm_name(arm)] for arm in arms],
        "scores": scores,
        "missing": missing,
        "causes": causes,
        "causeNames": {cause: cause_name(cause)[0] for by in causes.values() for cause in by if cause},
        "answerMetric": run.record.answer_metric,
        "baseline": run.record.baseline.arm,
        "final": run.record.final.arm,
    }
    details = {"evidence": [row.get("evidence") or [] for row in run.questions], "answers": answers, "chunks": chunks}
    return index, details


def _scores(table: Mapping[str, Sequence[Any]], position: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values by arm and metric, one a question; and why one is not there, by arm, metric and question."""
    values: dict[str, dict[str, list[float | None]]] = {}
    missing: dict[str, dict[str, dict[int, str]]] = {}
    if not table:
        return values, missing
    names = ("arm", "question_id", "metric", "value", "status", "detail")
    for arm, question, metric, value, status, detail in zip(*(table[name] for name in names), strict=True):
        number = position.get(question)
        if number is None:
            continue
        column = values.setdefault(arm, {}).setdefault(metric, [None] * len(position))
        if status == "ok" and value is not None:
            column[number] = round(value, 4)
        else:
            why = status_name(status) if status != "ok" else "no value"
            missing.setdefault(arm, {}).setdefault(metric, {})[number] = why + (f": {detail}" if detail else "")
    return values, missing


def _answers(
    rows: Sequence[Mapping[str, Any]], position: Mapping[str, int]
) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    """Answers by arm, the passages they refer to, and causes by arm."""
    answers: dict[str, list[Any]] = {}
    causes: dict[str, list[str | None]] = {}
    numbers: dict[tuple[str, str, str], int] = {}
    for row in rows:
        number = position.get(row["question_id"])
        if number is None:
            continue
        arm = row["arm"]
        contexts = [_context(context, numbers) for context in row.get("contexts") or ()]
        status = row.get("status", "ok")
        answers.setdefault(arm, [None] * len(position))[number] = {
            "text": row.get("text") or "",
            "status": "" if status == "ok" else status_name(status),
            "detail": row.get("detail") or "",
            "contexts": contexts,
            "seconds": row.get("seconds") or 0,
            "tokens": (row.get("prompt_tokens") or 0) + (row.get("completion_tokens") or 0),
        }
        causes.setdefault(arm, [None] * len(position))[number] = row.get("cause")
    return answers, [list(key) for key in numbers], causes


def _context(context: Mapping[str, Any], numbers: dict[tuple[str, str, str], int]) -> list[Any]:
    heading = context.get("heading") or ""
    heading = heading if isinstance(heading, str) else " › ".join(heading)
    key = (context.get("ref") or context.get("doc_id") or "", heading, context["text"])
    score = context.get("score")
    gold = [list(span) for span in context.get("gold") or ()]
    return [numbers.setdefault(key, len(numbers)), None if score is None else round(score, 4), gold]
