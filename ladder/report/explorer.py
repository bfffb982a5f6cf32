"""The data behind the table of questions, as two blocks of compressed JSON: one that the table needs, a larger one that
is read when a row is first opened. A passage that many questions retrieved is kept once.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..measures import lower_is_better
from .run_folder import RunFolder
from .words import arm_name, cause_name, status_name

__all__ = ["arms_in_order", "explorer_blocks", "explorer_data", "packed"]


def packed(value: Any) -> str:
    """JSON, compressed, in letters and digits that no HTML parser can take for markup; the page unpacks it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate, which UTF-8 cannot hold, becomes a question mark; no time stamp, so that equal data stay equal.
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode("ascii")


def arms_in_order(run: RunFolder) -> list[str]:
    """Every arm that was scored or answered: baseline, rungs in climbing order, then others by name."""
    record = run.record
    known = [record.baseline.arm, *(rung.candidate.arm for rung in record.rungs if rung.candidate), record.final.arm]
    seen = set(run.scores.get("arm", ())) | {row["arm"] for row in run.answers}
    return list(dict.fromkeys([arm for arm in known if arm in seen] + sorted(seen - set(known))))


def explorer_data(run: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two blocks of a run.

    Returns:
        The index (questions, scores as columns, causes) and the details (evidence, passages, answers, verdicts).
    """
    record = run.record
    arms = [(arm, arm_name(arm)) for arm in arms_in_order(run)]
    return explorer_blocks(run, arms, record.answer_metric, (record.baseline.arm, record.final.arm))


def explorer_blocks(
    run: RunFolder, arms: Sequence[tuple[str, str]], metric: str, ends: tuple[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two blocks for given arms.

    Args:
        run: Questions, scores, answers and verdicts.
        arms: Key and name of each, in order.
        metric: That is shown first.
        ends: The arms that are compared first.
    """
    position = {row["id"]: number for number, row in enumerate(run.questions)}
    scores, missing = _scores(run.scores, position)
    answers, chunks, causes = _answers(run.answers, position)
    index = {
        "questions": [
            [row["id"], row["question"], row.get("answer", ""), row.get("split") or "", row.get("tags") or {}]
            for row in run.questions
        ],
        "arms": [list(arm) for arm in arms],
        "scores": scores,
        "missing": missing,
        "causes": causes,
        "causeNames": {cause: cause_name(cause)[0] for by in causes.values() for cause in by if cause},
        "answerMetric": metric,
        "baseline": ends[0],
        "final": ends[1],
        "lower": sorted(
            name for name in {name for columns in scores.values() for name in columns} if lower_is_better(name)
        ),
    }
    details = {
        "evidence": [row.get("evidence") or [] for row in run.questions],
        "answers": answers,
        "chunks": chunks,
        "verdicts": _verdicts(run.verdicts, position),
    }
    return index, details


def _verdicts(rows: Sequence[Mapping[str, Any]], position: Mapping[str, int]) -> dict[str, dict[int, list[Any]]]:
    """What the judge held of each claim, by arm and question: metric, repeat, claim, against, verdict, reason."""
    found: dict[str, dict[int, list[Any]]] = {}
    names = ("metric", "repeat", "claim", "against", "supported", "reason")
    for row in rows:
        number = position.get(row["question_id"])
        if number is not None:
            found.setdefault(row["arm"], {}).setdefault(number, []).append([row.get(name) for name in names])
    return found


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
