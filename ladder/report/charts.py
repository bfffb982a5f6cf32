"""Small inline SVG charts. Places along x are percentages: a chart fits any width and its letters keep their size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Mark", "Scale", "axis", "curve", "interval_plot", "scale_over", "stacked_bar"]


@dataclass(frozen=True, slots=True)
class Scale:
    """A stretch of numbers and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Place of a value in percent of the width, kept within it."""
        return min(max(100 * (value - self.low) / (self.high - self.low), 0.0), 100.0)

    def label(self, tick: float) -> str:
        """A tick's number with as many digits as the ticks need."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1.0
        text = f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
        return text.replace("-", "−")


@dataclass(frozen=True, slots=True)
class Mark:
    """A mean with its interval.

    Attributes:
        mean: Where the dot stands; None draws nothing.
        low: Lower end; None draws no line.
        high: Upper end.
        tone: CSS class that colours it.
        hollow: Draws a ring, for what is compared against.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    tone: str = "new"
    hollow: bool = False


def scale_over(values: Iterable[float | None], include: Sequence[float] = (), ticks: int = 4) -> Scale:
    """A scale with round ticks that holds the values.

    Args:
        values: None is left out.
        include: Values that must be on the scale, for instance zero for differences.
        ticks: About how many steps between ticks.
    """
    there = [value for value in (*values, *include) if value is not None and math.isfinite(value)]
    low, high = (min(there), max(there)) if there else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    raw = (high - low) / ticks
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(round(n * step, 10) for n in range(first, last + 1))
    return Scale(marks[0], marks[-1], marks)


def interval_plot(
    scale: Scale, marks: Sequence[Mark], label: str, reference: float | None = None, height: int = 34
) -> Any:
    """Dots with their intervals on one line, or on two where there are two marks.

    Args:
        scale: Of the row of plots it belongs to.
        marks: Top one first.
        label: What is seen, for those who do not see it.
        reference: Draws a dashed line, for instance at zero or at the baseline.
        height: In pixels.
    """
    parts = [
        f'<line class="grid" x1="{_p(scale.at(t))}" x2="{_p(scale.at(t))}" y1="0" y2="{height}"/>' for t in scale.ticks
    ]
    if reference is not None:
        x = _p(scale.at(reference))
        parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    for position, mark in enumerate(marks):
        parts += _mark(scale, mark, height * (position + 1) / (len(marks) + 1))
    return _svg("plot", label, height, parts)


def _mark(scale: Scale, mark: Mark, y: float) -> list[str]:
    if mark.mean is None:
        return []
    parts = []
    tone = mark.tone + (" hollow" if mark.hollow else "")
    if mark.low is not None and mark.high is not None:
        low, high = _p(scale.at(mark.low)), _p(scale.at(mark.high))
        parts.append(f'<line class="whisker {tone}" x1="{low}" x2="{high}" y1="{y:g}" y2="{y:g}"/>')
        parts += [
            f'<line class="whisker {tone}" x1="{x}" x2="{x}" y1="{y - 4:g}" y2="{y + 4:g}"/>' for x in (low, high)
        ]
    parts.append(f'<circle class="dot {tone}" cx="{_p(scale.at(mark.mean))}" cy="{y:g}" r="5"/>')
    return parts


def axis(scale: Scale) -> Any:
    """The numbers below (or above) a row of plots."""
    parts = [
        f'<text class="tick" x="{_p(scale.at(t))}" y="12" text-anchor="middle">{scale.label(t)}</text>'
        for t in scale.ticks
    ]
    return _svg("axis", "", 16, parts)


def stacked_bar(counts: Mapping[str, int], label: str, height: int = 30) -> Any:
    """Shares of a whole as one bar; numbers stand in the parts that are wide enough.

    Args:
        counts: CSS class of a part (its colour): how many.
        label: What is seen, for those who do not see it.
        height: In pixels.
    """
    total = sum(counts.values())
    if not total:
        return _svg("bar", label, height, [f'<rect class="empty" x="0" y="0" width="100%" height="{height}"/>'])
    parts, left = [], 0.0
    for name, count in counts.items():
        if not count:
            continue
        width = 100 * count / total
        parts.append(f'<rect class="part {name}" x="{_p(left)}" y="0" width="{_p(width)}" height="{height}"/>')
        if width >= 5:
            middle, base = _p(left + width / 2), height / 2 + 4.5
            parts.append(f'<text class="in {name}" x="{middle}" y="{base:g}" text-anchor="middle">{count}</text>')
        left += width
    return _svg("bar", label, height, parts)


def curve(points: Sequence[tuple[float, float]], label: str) -> Any:
    """A line through points (x, y), stretched over its box; the numbers stand beside it in the page."""
    from markupsafe import Markup, escape

    xs, ys = [x for x, _ in points], [y for _, y in points]
    width, height = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    flat = max(ys) == min(ys)
    places = [(100 * (x - min(xs)) / width, 50.0 if flat else 96 - 92 * (y - min(ys)) / height) for x, y in points]
    line = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    return Markup(
        f'<svg class="curve" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<polyline points="{line}"/></svg>'
    )


def _svg(kind: str, label: str, height: int, parts: Sequence[str]) -> Any:
    from markupsafe import Markup, escape

    named = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return Markup(f'<svg class="{kind}" width="100%" height="{height}" {named}>{"".join(parts)}</svg>')


def _p(percent: float) -> str:
    return f"{percent:.2f}%"
