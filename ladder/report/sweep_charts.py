"""Draws trials: two objectives against each other, and lines through the values of all knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import Scale
from .sweep_views import SweepView, Tried

__all__ = ["ScatterDot", "front_dots", "parallel_lines", "scatter", "share_bar"]

_HEIGHT = 240
_TOP, _BOTTOM = 42, 282


@dataclass(frozen=True, slots=True)
class ScatterDot:
    """A dot of a scatter plot.

    Attributes:
        x: On the horizontal scale.
        y: On the vertical scale.
        label: What it is, shown when it is pointed at.
        tone: CSS class that colours it.
        named: Writes the label beside the dot.
    """

    x: float
    y: float
    label: str
    tone: str = "old"
    named: bool = False


def scatter(x: Scale, y: Scale, dots: Sequence[ScatterDot], label: str) -> Any:
    """Dots on two scales, with the vertical scale's numbers; `axis` draws the horizontal one's below.

    Args:
        x: Horizontal scale.
        y: Vertical scale.
        dots: The last is on top.
        label: What is seen, for those who do not see it.
    """
    from markupsafe import Markup, escape

    parts = []
    for tick in y.ticks:
        at = _y(y, tick)
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="-8" y="{at + 4:.1f}" text-anchor="end">{y.label(tick)}</text>')
    parts += [f'<line class="grid" x1="{x.at(t):.2f}%" x2="{x.at(t):.2f}%" y1="0" y2="{_HEIGHT}"/>' for t in x.ticks]
    taken: list[tuple[float, float]] = []
    for dot in dots:
        left, top = x.at(dot.x), _y(y, dot.y)
        parts.append(
            f'<circle class="dot {dot.tone}" cx="{left:.2f}%" cy="{top:.1f}" r="5"><title>{escape(dot.label)}</title>'
            "</circle>"
        )
        if dot.named:
            anchor, shift = ("end", -10) if left > 55 else ("start", 10)
            line = _free(left, top, taken)
            parts.append(
                f'<text class="dot-name" x="{left:.2f}%" y="{line + 4:.1f}" dx="{shift}" text-anchor="{anchor}">'
                f"{escape(dot.label)}</text>"
            )
    return Markup(
        f'<svg class="scatter" width="100%" height="{_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _free(left: float, top: float, taken: list[tuple[float, float]]) -> float:
    """A line for a name near its dot, on which no other name nearby stands yet; it is noted as taken."""
    lines = [top + step for step in (0, -16, 16, -32, 32, -48, 48)]
    free = (line for line in lines if all(abs(line - y) > 14 or abs(left - x) > 70 for x, y in taken))
    line = next(free, top)
    taken.append((left, line))
    return line


def _y(scale: Scale, value: float) -> float:
    return _HEIGHT * (1 - scale.at(value) / 100)


def front_dots(view: SweepView) -> list[ScatterDot]:
    """The trials of a sweep by second and first objective; those on the Pareto front last, so on top."""
    there = [one for one in view.tried if one.other is not None]
    return [
        ScatterDot(one.other or 0.0, one.score, _words(one, view), "final" if one.front else "old")
        for one in sorted(there, key=lambda one: one.front)
    ]


def _words(one: Tried, view: SweepView) -> str:
    point = ", ".join(f"{name} {value}" for name, value in one.point.items())
    second = "" if one.other is None else f", {view.second} {one.other:.4g}"
    return f"{view.objective} {one.score:.3f}{second}: {point}"


def share_bar(share: float, label: str) -> Any:
    """A share of one as a bar."""
    from markupsafe import Markup, escape

    return Markup(
        f'<svg class="share" width="100%" height="12" role="img" aria-label="{escape(label)}">'
        f'<rect class="empty" width="100%" height="12" rx="2"/>'
        f'<rect class="filled" width="{100 * min(max(share, 0.0), 1.0):.1f}%" height="12" rx="2"/></svg>'
    )


def parallel_lines(view: SweepView, label: str) -> Any:
    """Parallel coordinates (Inselberg 1985): an upright line a knob, the score last, a line through them a trial.

    Args:
        view: Its trials; the best is drawn on top, and the better third above the others.
        label: What is seen, for those who do not see it.
    """
    from markupsafe import Markup, escape

    count = len(view.knobs) + 1
    columns = [100 * (i + 0.5) / count for i in range(count)]  # half a step at either side, for the words
    places = [{value.label: _step(i, len(knob.values)) for i, value in enumerate(knob.values)} for knob in view.knobs]
    box = f'width="100%" height="{_BOTTOM + 10}"'
    stretched = f'viewBox="0 0 100 {_BOTTOM + 10}" preserveAspectRatio="none"'
    parts = [f'<svg aria-hidden="true" x="0" y="0" {box} {stretched}>{_trial_lines(view, columns, places)}</svg>']
    scores = [(view.scale.label(tick), _height(view.scale, tick)) for tick in view.scale.ticks]
    marks = [*(list(place.items()) for place in places), scores]
    names = [*(knob.name for knob in view.knobs), view.objective]
    for i, x in enumerate(columns):
        parts += _upright(x, names[i], marks[i], i)
    return Markup(f'<svg class="parallel" {box} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def _trial_lines(view: SweepView, columns: Sequence[float], places: Sequence[Mapping[str, float]]) -> str:
    from markupsafe import escape

    lines, shown = [], view.lines
    for rank, one in enumerate(shown):
        ends = [place[one.point[knob.name]] for knob, place in zip(view.knobs, places, strict=True)]
        ends.append(_height(view.scale, one.score))
        points = " ".join(f"{x:.2f},{y:.1f}" for x, y in zip(columns, ends, strict=True))
        tone = "best" if one.best else "better" if rank >= len(shown) * 2 / 3 else "other"
        title = f"<title>{escape(_words(one, view))}</title>"
        lines.append(f'<polyline class="{tone}" points="{points}">{title}</polyline>')
    return "".join(lines)


def _upright(x: float, name: str, marks: Sequence[tuple[str, float]], position: int) -> list[str]:
    """A line with its name, on two levels in turn, and its values."""
    from markupsafe import escape

    level = 14 if position % 2 == 0 else 30
    shown = marks if len(marks) <= 14 else [marks[0], marks[-1]]
    return [
        f'<line class="upright" x1="{x:.2f}%" x2="{x:.2f}%" y1="{_TOP}" y2="{_BOTTOM}"/>',
        f'<text class="column" x="{x:.2f}%" y="{level}" text-anchor="middle">{escape(name)}</text>',
        *(
            f'<text class="tick on" x="{x:.2f}%" y="{y + 4:.1f}" text-anchor="middle">{escape(_cut(text))}</text>'
            for text, y in shown
        ),
    ]


def _height(scale: Scale, score: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * scale.at(score) / 100


def _step(position: int, count: int) -> float:
    return (_TOP + _BOTTOM) / 2 if count < 2 else _BOTTOM - (_BOTTOM - _TOP) * position / (count - 1)


def _cut(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:8]}…{text[-11:]}"
