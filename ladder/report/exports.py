"""Tables beside the page, for spreadsheets and scripts: what the report shows, as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...core.files import write_atomic
from .explorer import arms_in_order
from .flow import Flow
from .run_folder import RunFolder
from .view import View
from .words import headline

__all__ = ["csv_bytes", "write_exports"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_exports(run: RunFolder, view: View, folder: Path) -> None:
    """Writes report.json, scores.csv and questions.csv beside the page.

    Text that a spreadsheet would take for a formula gets an apostrophe before it in the CSV files.

    Args:
        run: What was read.
        view: What was worked out.
        folder: Where to.
    """
    text = json.dumps(_report(run, view), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomic(folder / "report.json", (text + "\n").encode("utf-8", "replace"))
    write_atomic(folder / "scores.csv", csv_bytes(_score_rows(view)))
    write_atomic(folder / "questions.csv", csv_bytes(_question_rows(run)))


def _report(run: RunFolder, view: View) -> dict[str, Any]:
    record = run.record
    return {
        "run": record.run_id,
        "summary": record.summary,
        "headline": headline(record),
        "next_step": record.next_step,
        "answer_metric": record.answer_metric,
        "rungs": [
            {
                "rung": rung.name,
                "verdict": rung.decision.verdict,
                "reasons": list(rung.decision.reasons),
                "forgone": _plain(rung.forgone),
            }
            for rung in record.rungs
        ],
        "flow": _flow(view.flow) if view.flow else None,
        "rung_flows": {name: _flow(flow) for name, flow in view.rung_flows.items()},
        "costs": [asdict(cost) | {"score": _plain(cost.score), "rung": _plain(cost.rung)} for cost in view.costs],
        "slices": [asdict(table) for table in view.slices],
        "knobs": {
            name: [
                {"objective": sweep.objective, "method": sweep.method, "knobs": [asdict(knob) for knob in sweep.knobs]}
                for sweep in sweeps
            ]
            for name, sweeps in view.sweeps.items()
        },
    }


def _plain(model: Any) -> Any:
    return None if model is None else model.model_dump(mode="json")


def _flow(flow: Flow) -> dict[str, Any]:
    links = [
        [{"before": before, "after": after, "questions": n} for (before, after), n in gap.items()] for gap in flow.links
    ]
    return {"columns": list(flow.titles), "counts": [dict(counts) for counts in flow.counts], "links": links}


def _score_rows(view: View) -> Iterable[list[Any]]:
    yield ["split", "arm", "metric", "mean", "low", "high", "n_ok", "n"]
    for table in view.tables:
        for _, rows in table.families:
            for row in rows:
                for arm, cell in zip(table.arms, row.cells, strict=True):
                    e = cell.estimate
                    if e is not None:
                        yield [table.split, arm, row.metric, e.mean, e.low, e.high, e.n_ok, e.n]


def _question_rows(run: RunFolder) -> Iterable[list[Any]]:
    """A row a question and arm; metrics and tags are columns. An empty cell is a score that is not there."""
    scores: dict[tuple[str, str], dict[str, Any]] = {}
    names = ("arm", "question_id", "metric", "value")
    for arm, question, metric, value in zip(*(run.scores.get(n, ()) for n in names), strict=True):
        scores.setdefault((arm, question), {})[metric] = value
    answers = {(row["arm"], row["question_id"]): row for row in run.answers}
    metrics = list(dict.fromkeys(metric for one in scores.values() for metric in one))
    tags = sorted({tag for row in run.questions for tag in row.get("tags") or {}})
    head = ["question_id", "split", "arm", "cause", "status", "seconds", "tokens", "question", "reference", "answer"]
    yield [*head, *(f"tag:{tag}" for tag in tags), *metrics]
    for arm in arms_in_order(run):
        for row in run.questions:
            key = (arm, row["id"])
            if key in scores or key in answers:
                yield _question_row(arm, row, answers.get(key, {}), scores.get(key, {}), tags, metrics)


def _question_row(
    arm: str,
    row: Mapping[str, Any],
    answer: Mapping[str, Any],
    scores: Mapping[str, Any],
    tags: Sequence[str],
    metrics: Sequence[str],
) -> list[Any]:
    tokens = (answer.get("prompt_tokens") or 0) + (answer.get("completion_tokens") or 0)
    known = [row["id"], row.get("split") or "", arm, answer.get("cause"), answer.get("status")]
    texts = [row["question"], row.get("answer"), answer.get("text")]
    tagged = [(row.get("tags") or {}).get(tag) for tag in tags]
    return [*known, answer.get("seconds"), tokens, *texts, *tagged, *(scores.get(metric) for metric in metrics)]


def csv_bytes(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as CSV in UTF-8; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for row in rows:
        writer.writerow(["'" + v if isinstance(v, str) and v.startswith(_FORMULA) else v for v in row])
    return out.getvalue().encode("utf-8", "replace")
