"""The report's charts as Plotly figures, to zoom into and point at: plain data, drawn by plotly.js when asked for.

Colours are names of the page's CSS variables, which differ between light and dark; `min_width` is in pixels. The rest
of the format: https://plotly.com/javascript/reference/
"""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..records import EstimateRecord
from .sweep_views import SweepView, Tried

if TYPE_CHECKING:
    from .findings import Curve
    from .view import Step

__all__ = ["curves_figure", "front_figure", "knobs_figure", "ladder_figure", "lines_figure", "plotly_script"]

_MOST_POINTS = 400
"""Trials drawn as points of a knob; of more, only those far from the others."""
Figure = dict[str, Any]


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """plotly.js of the installed package, compressed, in letters and digits; the page unpacks it."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode("ascii")


def ladder_figure(steps: Sequence[Step], metric: str) -> Figure:
    """The answer metric of each arm on test, with its interval, from the baseline up.

    Args:
        steps: Baseline and rungs; one that was not measured on test is left out.
        metric: The answer metric.
    """
    shown = [(step, step.answer) for step in steps if step.answer is not None and step.answer.mean is not None]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [_text(step.title) for step, _ in shown],
        "y": [estimate.mean for _, estimate in shown],
        "error_y": _reach([estimate for _, estimate in shown]),
        "marker": {"size": 11, "color": ["--final" if step.final else "--new" for step, _ in shown]},
        "text": [f"{estimate.n_ok} of {estimate.n} questions" for _, estimate in shown],
        "hovertemplate": "%{x}: %{y:.4f}<br>%{text}<extra></extra>",
    }
    return {"data": [trace], "layout": {"yaxis": {"title": {"text": _text(f"{metric} on test")}}}}


def front_figure(view: SweepView) -> Figure:
    """The trials by second and first objective; those on the Pareto front are a trace of their own."""
    groups = (("others", False, "--old"), ("Pareto front", True, "--final"))
    traces = []
    for name, front, colour in groups:
        there = [one for one in view.tried if one.other is not None and one.front is front]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [one.other for one in there],
                "y": [one.score for one in there],
                "text": [_words(one) for one in there],
                "hovertemplate": "%{y:.4f} at %{x:.4g}<br>%{text}<extra></extra>",
                "marker": {"size": 9, "color": colour},
            }
        )
    axes = {"xaxis": {"title": {"text": _text(view.second)}}, "yaxis": {"title": {"text": _text(view.objective)}}}
    return {"data": traces, "layout": {**axes, "showlegend": True}}


def knobs_figure(view: SweepView) -> Figure:
    """Every trial's score by each knob's values, as boxes with their points."""
    few = len(view.tried) <= _MOST_POINTS
    traces = []
    for knob in view.knobs:
        order = {value.label: place for place, value in enumerate(knob.values)}
        there = sorted(view.tried, key=lambda one, name=knob.name, places=order: places[one.point[name]])
        traces.append(
            {
                "type": "box",
                "name": _text(knob.name),
                "x": [[_text(knob.name)] * len(there), [_text(one.point[knob.name]) for one in there]],
                "y": [one.score for one in there],
                "boxpoints": "all" if few else "outliers",
                "jitter": 0.4,
                "pointpos": 0,
                "marker": {"size": 5, "color": "--new"},
                "line": {"color": "--old", "width": 1},
                "text": [_words(one) for one in there],
                "hovertemplate": "%{y:.4f}<br>%{text}<extra></extra>",
            }
        )
    layout = {"yaxis": {"title": {"text": _text(view.objective)}}, "xaxis": {"type": "multicategory"}}
    return {"data": traces, "layout": layout, "min_width": 34 * sum(len(knob.values) for knob in view.knobs)}


def lines_figure(view: SweepView) -> Figure:
    """Parallel coordinates (Inselberg 1985): a line a trial; a click on a value keeps the trials that have it.

    `meta` holds the knobs and values of the lines, and of the marks in their order.
    """
    names = [knob.name for knob in view.knobs]
    labels = [[value.label for value in knob.values] for knob in view.knobs]
    places = [{label: _step(i, len(known)) for i, label in enumerate(known)} for known in labels]
    shown, traces = view.lines, []
    for rank, one in enumerate(shown):
        ends = [place[one.point[name]] for name, place in zip(names, places, strict=True)]
        better = rank >= len(shown) * 2 / 3
        width, colour = (3, "--final") if one.best else (1.5, "--new") if better else (1, "--old")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": list(range(len(names) + 1)),
                "y": [*ends, view.scale.at(one.score) / 100],
                "line": {"color": colour, "width": width},
                "opacity": 1.0 if better else 0.5,
                "hovertemplate": f"{_text(view.objective)} {one.score:.4f}<br>{_words(one)}<extra></extra>",
                "meta": {name: one.point[name] for name in names},
            }
        )
    values = [(column, label) for column, place in enumerate(places) for label in place]
    marks = [_value_mark(column, places[column][label], label) for column, label in values]
    layout = {**_uprights(view, names), "annotations": marks, "showlegend": False, "hovermode": "closest"}
    layout["meta"] = [[names[column], label] for column, label in values]
    return {"data": traces, "layout": layout, "min_width": 112 * (len(names) + 1)}


def _value_mark(column: int, height: float, label: str) -> Figure:
    """A knob's value on its upright, which can be clicked."""
    where = {"x": column, "y": height, "showarrow": False, "font": {"size": 11}}
    looks = {"bgcolor": "--card", "bordercolor": "--line", "captureevents": True}
    return {**where, **looks, "text": _text(_short(label)), "hovertext": _text(label)}


def _uprights(view: SweepView, names: Sequence[str]) -> Figure:
    """The axes of parallel coordinates: a knob each, and the objective at the right."""
    ticks = view.scale.ticks
    knobs = {"tickvals": list(range(len(names))), "ticktext": [_text(name) for name in names], "tickangle": 0}
    score = {"tickvals": [view.scale.at(t) / 100 for t in ticks], "ticktext": [view.scale.label(t) for t in ticks]}
    titled = {"side": "right", "title": {"text": _text(view.objective)}, "showgrid": False}
    return {
        "xaxis": {**knobs, "zeroline": False, "range": [-0.5, len(names) + 0.02]},
        "yaxis": {**score, **titled, "zeroline": False},
    }


def curves_figure(curves: Sequence[Curve]) -> Figure:
    """Lines of a training, two in a row, each with axes of its own."""
    traces, layout = [], dict[str, Any]()
    for number, curve in zip(["", *range(2, len(curves) + 1)], curves, strict=True):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": _text(curve.name),
                "x": [x for x, _ in curve.points],
                "y": [y for _, y in curve.points],
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
                "line": {"color": "--new"},
                "marker": {"size": 5},
                "hovertemplate": f"{_text(curve.x_name)} %{{x}}: %{{y:.5g}}<extra></extra>",
            }
        )
        layout[f"xaxis{number}"] = {"title": {"text": _text(curve.x_name)}}
        layout[f"yaxis{number}"] = {"title": {"text": _text(curve.name.replace("_", " "))}}
    columns = min(2, len(curves))
    layout["grid"] = {"rows": -(-len(curves) // columns), "columns": columns, "pattern": "independent"}
    return {"data": traces, "layout": {**layout, "showlegend": False}}


def _reach(estimates: Sequence[EstimateRecord]) -> dict[str, Any]:
    up = [0.0 if e.high is None or e.mean is None else e.high - e.mean for e in estimates]
    down = [0.0 if e.low is None or e.mean is None else e.mean - e.low for e in estimates]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": "--new", "thickness": 2}


def _words(one: Tried) -> str:
    return "<br>".join(_text(f"{name} {value}") for name, value in one.point.items())


def _text(words: str) -> str:
    """Words as Plotly shows them: it reads some HTML tags and `%{…}`, which no text of a run may be taken for."""
    return html.escape(words, quote=False).replace("%{", "%&#123;")


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:8]}…{label[-9:]}"


def _step(position: int, count: int) -> float:
    return 0.5 if count < 2 else position / (count - 1)
