"""The ladder on a terminal; plain aligned text where the output is piped."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from ..records import LadderRecord, RungRecord
from .metric_words import deciding_metrics, meanings
from .words import VERDICTS, arm_name, cost_words, forgone_words, headline, interval, number, signed

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ladder_table"]

WIDTH = 100
"""Of piped text, in characters."""
_ASCII = str.maketrans({"→": "->", "−": "-", "–": "-"} | {mark: None for _, mark in VERDICTS.values() if mark != "–"})
"""Piped text is for grep and for logs: ASCII, so that a minus is a minus."""
_STYLES = {"adopt": "green", "reject": "red", "inconclusive": "yellow", "skip": "dim", "stop": "cyan"}


def ladder_table(record: LadderRecord, console: Console) -> None:
    """Prints the ladder: a line a rung, then reasons, the answer in one sentence and the next step.

    Args:
        record: What `ladder.json` holds.
        console: Where to print. Colours and lines are drawn on a terminal only, colours not where `NO_COLOR` is set.
    """
    heads = ("Rung", "Verdict", "Rung metric on test", "Gain (95% interval)", f"{record.answer_metric} on test", "Cost")
    rows = [_baseline(record), *(_rung(record, rung) for rung in record.rungs)]
    if console.is_terminal:
        _rich(heads, rows, record, console)
    else:
        console.print("\n".join(_plain(heads, rows)), markup=False, highlight=False, soft_wrap=True)
    width = min(console.width, 110) if console.is_terminal else WIDTH
    for metric, words in meanings(deciding_metrics(record)):
        _wrapped(f"{metric}: {words}", console, width, hang=2, style="dim")
    console.print()
    for rung in record.rungs:
        for reason in rung.decision.reasons:
            _wrapped(f"{arm_name(rung.name)}: {reason}", console, width, hang=2)
        if words := forgone_words(record, rung):
            _wrapped(f"  {words}", console, width, hang=2)
    console.print()
    _wrapped(headline(record), console, width, style="bold")
    if record.next_step:
        _wrapped(f"Next: {record.next_step}", console, width, hang=6)


def _baseline(record: LadderRecord) -> tuple[str, ...]:
    final = "start, final" if record.final.arm == record.baseline.arm else "start"
    return (arm_name(record.baseline.arm), final, "", "", _answer(record, record.baseline.scores.get("test")), "")


def _rung(record: LadderRecord, rung: RungRecord) -> tuple[str, ...]:
    gate = rung.decision.primary
    word, mark = VERDICTS[rung.decision.verdict]
    final = rung.candidate is not None and rung.candidate.arm == record.final.arm
    return (
        arm_name(rung.name),
        f"{mark} {word}" + (", final" if final else ""),
        f"{gate.metric} {number(gate.incumbent)} → {number(gate.candidate)}" if gate else "test not looked at",
        f"{signed(gate.difference)} ({interval(gate.low, gate.high, plus=True)})" if gate else "",
        _answer(record, rung.candidate.scores.get("test") if rung.candidate else None),
        cost_words(rung.cost),
    )


def _answer(record: LadderRecord, scores: object) -> str:
    estimate = scores.get(record.answer_metric) if isinstance(scores, dict) else None
    if estimate is None or estimate.mean is None:
        return "–"
    missing = estimate.n - estimate.n_ok
    return number(estimate.mean) + (f" ({missing} of {estimate.n} missing)" if missing else "")


def _rich(heads: tuple[str, ...], rows: list[tuple[str, ...]], record: LadderRecord, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("Rung", "Verdict", "Rung metric\nand gain on test", heads[4].replace(" ", "\n", 1), "Cost"):
        table.add_column(
            head,
            justify="right" if head.startswith(record.answer_metric) else "left",
            no_wrap=head != "Rung",
            min_width=len("finetuning") if head == "Rung" else None,  # else it would be cut at 80 columns
        )
    styles = ["dim", *(_STYLES[rung.decision.verdict] for rung in record.rungs)]
    for (rung, verdict, metric, gain, answer, cost), style in zip(rows, styles, strict=True):
        # Short lines below one another, so that the table fits into 80 columns.
        measured = "\n".join(part for part in (metric.replace(" ", "\n", 1) if gain else metric, gain) if part)
        table.add_row(
            Text(rung),
            Text(verdict.replace(", ", "\n"), style),
            Text(measured),
            Text(answer),
            Text(cost.replace(", ", "\n")),
        )
    console.print(table)


def _plain(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Two lines a rung, so that names, intervals and cost fit into the width."""
    first, second = (0, 1, 4, 5), (2, 3)
    rows = [tuple(text.translate(_ASCII).strip() for text in row) for row in rows]
    columns = [[heads[i], *(row[i] for row in rows)] for i in first]
    widths = [max(len(text) for text in column) for column in columns]
    lines = []
    for position, row in enumerate([heads, *rows]):
        lines.append("  ".join(row[i].ljust(width) for i, width in zip(first, widths, strict=True)).rstrip())
        below = "  ".join(row[i] for i in second if row[i])
        if position and below:
            lines.append(f"    {below}")
    return [*lines, ""]


def _wrapped(text: str, console: Console, width: int, hang: int = 0, style: str | None = None) -> None:
    lines = textwrap.fill(text, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)
    console.print(lines, markup=False, highlight=False, soft_wrap=True, style=style)
