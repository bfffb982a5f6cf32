"""What a rung found out besides its verdict: training and learning curves, tables, warnings, plain facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..gate import Comparison
from ..records import RungRecord
from .words import setting

__all__ = [
    "Curve",
    "FoundTable",
    "compared",
    "comparisons",
    "curves",
    "facts",
    "found_tables",
    "learning_curves",
    "mixtures",
    "warnings_of",
]

_SHOWN_DETAILS = ("history", "warnings", "trials", "candidates")
_X_NAMES = ("step", "global_step", "epoch", "round")
_SIZES = ("questions", "pairs", "examples", "share")
_MOST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Curve:
    """One number along a training, as points (x, y) in order of x."""

    name: str
    x_name: str
    points: tuple[tuple[float, float], ...]

    @property
    def lowest(self) -> float:
        """Smallest value."""
        return min(y for _, y in self.points)

    @property
    def highest(self) -> float:
        """Largest value."""
        return max(y for _, y in self.points)


@dataclass(frozen=True, slots=True)
class FoundTable:
    """Rows that a rung found out.

    Attributes:
        title: Where they stood in the details.
        columns: Heads.
        rows: Cells in words; as many a row as columns.
        more: Rows beyond those shown.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int


def comparisons(rung: RungRecord) -> list[Comparison]:
    """The rung's comparisons: dev (where there is one), test, the best prompt, guardrails."""
    dev = [Comparison.model_validate(rung.dev)] if rung.dev else []
    looks = [one for one in (rung.decision.primary, rung.decision.prompt) if one is not None]
    return [*dev, *looks, *rung.decision.guardrails]


def compared(rung: RungRecord) -> list[tuple[str, Comparison]]:
    """The rung's comparisons, and what each was for: dev, test, an adapter against the best prompt, guardrails."""
    return [(_purpose(rung, one), one) for one in comparisons(rung)]


def _purpose(rung: RungRecord, one: Comparison) -> str:
    if one.split == "dev":
        return "Dev: chose it"
    where = "Dev and test" if one.split == "dev+test" else "Test"
    if one is rung.decision.prompt:
        return f"{where}: against the best prompt"
    return f"{where}: the gate" if one is rung.decision.primary else f"{where}: guardrail"


def curves(history: Any) -> list[Curve]:
    """The numbers of a training history (a list of rows) as lines; a number with fewer than two points is left out."""
    rows = [row for row in history if isinstance(row, Mapping)] if isinstance(history, Sequence) else []
    x_name = next((name for name in _X_NAMES if any(_is_number(row.get(name)) for row in rows)), "")
    lines: dict[str, list[tuple[float, float]]] = {}
    for position, row in enumerate(rows):
        x = row.get(x_name) if x_name else position
        for name, value in row.items():
            if name not in _X_NAMES and _is_number(value) and _is_number(x):
                lines.setdefault(name, []).append((float(x), float(value)))  # type: ignore[arg-type]
    return [Curve(name, x_name or "row", tuple(points)) for name, points in lines.items() if len(points) > 1]


def learning_curves(details: Mapping[str, Any]) -> list[Curve]:
    """Scores by the amount of training data."""
    found = []
    points = _points(details.get("curve"))
    size = next((name for name in _SIZES if points and all(_is_number(row.get(name)) for row in points)), "")
    if size:
        for name in dict.fromkeys(name for row in points for name in row if name not in _SIZES):
            line = sorted((float(row[size]), float(row[name])) for row in points if _is_number(row.get(name)))
            if len(line) > 1:
                found.append(Curve(name, size, tuple(line)))
    return found


def mixtures(details: Mapping[str, Any]) -> list[Curve]:
    """The dev score by how much of the finetuned weights is mixed into the base's."""
    mixed = details.get("candidates")
    if not isinstance(mixed, Sequence) or isinstance(mixed, str):
        return []
    rows = [row for row in mixed if isinstance(row, Sequence) and len(row) == 2 and all(map(_is_number, row))]
    points = sorted((float(row[0]), float(row[1])) for row in rows)
    return [Curve("dev score", "share", tuple(points))] if len({x for x, _ in points}) > 1 else []


def _points(curve: Any) -> list[Mapping[str, Any]]:
    rows = curve.get("points") if isinstance(curve, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, Sequence) else []


def warnings_of(rung: RungRecord) -> list[str]:
    """The warnings among a rung's findings, also where it is one text."""
    found = rung.details.get("warnings") or []
    return [found] if isinstance(found, str) else [text if isinstance(text, str) else setting(text) for text in found]


def found_tables(details: Mapping[str, Any], prefix: str = "") -> list[FoundTable]:
    """Lists of records among the findings, for instance the answers before and after, as tables."""
    found: list[FoundTable] = []
    for name, value in details.items():
        if name in _SHOWN_DETAILS:
            continue
        title = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found += found_tables(value, f"{title}: ")
        elif _is_table(value):
            columns = tuple(dict.fromkeys(str(column) for row in value for column in row))
            rows = tuple(tuple(_cell(row.get(column)) for column in columns) for row in value[:_MOST_ROWS])
            found.append(FoundTable(title.replace("_", " "), columns, rows, len(value) - len(rows)))
    return found


def facts(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A rung's other findings as name and value; nested names are joined with a dot, long lists cut to 12."""
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        if (name in _SHOWN_DETAILS and not _is_number(value)) or _is_table(value):
            continue
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in facts(value)]
        elif isinstance(value, (list, tuple)) and len(value) > 12:
            found.append((name, f"{setting(list(value[:12]))} … {len(value)} in all"))
        else:
            found.append((name, _cell(value)))
    return found


def _is_table(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else setting(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
