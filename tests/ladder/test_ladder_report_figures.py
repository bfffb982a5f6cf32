"""The figures that Plotly draws: what must hold of them without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.ladder.report import figures
from ragladder.ladder.report.findings import Curve
from ragladder.ladder.report.sweep_views import SweepView, of_trials

CSS = (Path(figures.__file__).parent / "report.css").read_text(encoding="utf-8")


def view_of(scores: list[float], values: list[str]) -> SweepView:
    """Trials over two knobs."""
    rows = [
        {
            "trial": number,
            "objective": "ndcg@10",
            "mean": score,
            "status": "ok",
            "changes": json.dumps({"chunk.size": value, "retrieve.top_k": number % 2}),
        }
        for number, (score, value) in enumerate(zip(scores, values, strict=True))
    ]
    return of_trials(rows, {"chunk": {"size": 0}, "retrieve": {"top_k": 9}}, "grid")[0]


VIEW = view_of([0.1, 0.4, 0.2, 0.3], ["<b>128</b>", "256", "%{x}", "a name that is far too long to stand on a chart"])


def words_of(value: Any) -> Iterator[str]:
    """All strings within a figure but `meta`, which is compared and never shown."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (word for key, one in value.items() if key != "meta" for word in words_of(one))
    elif isinstance(value, list):
        yield from (word for one in value for word in words_of(one))


CURVES = [Curve(name, "step", ((1.0, 2.0), (2.0, 1.0))) for name in ("loss", "dev_loss", "learning_rate")]
MADE = {
    "lines": figures.lines_figure(VIEW),
    "knobs": figures.knobs_figure(VIEW),
    "front": figures.front_figure(VIEW),
    "curves": figures.curves_figure(CURVES),
}


@pytest.mark.parametrize("name", MADE)
def test_plotly_knows_every_key_and_the_page_every_colour(name: str) -> None:
    figure = json.loads(json.dumps(MADE[name]))
    colours = {word for word in words_of(figure) if word.startswith("--")}
    assert colours and all(f"{colour}: #" in CSS for colour in colours)
    text = re.sub(r'"--\w+"', '"#123456"', json.dumps(figure))
    drawn = json.loads(text)
    go.Figure(data=drawn["data"], layout=drawn["layout"])  # raises on a key or value that Plotly does not have


def test_text_of_a_run_is_neither_html_nor_a_template() -> None:
    words = [word for name in ("lines", "knobs") for word in words_of(MADE[name])]
    assert any("&lt;b&gt;128" in word for word in words)
    assert not any("<b>128" in word or "%{x}" in word for word in words)


def test_every_trial_is_a_line_and_every_value_can_be_clicked() -> None:
    lines = MADE["lines"]
    assert len(lines["data"]) == 4
    marked = {(knob, value) for knob, value in lines["layout"]["meta"]}
    assert len(lines["layout"]["annotations"]) == len(lines["layout"]["meta"])
    assert marked == {(knob, value) for line in lines["data"] for knob, value in line["meta"].items()}
    best = max(lines["data"], key=lambda line: line["y"][-1])
    assert best["line"]["color"] == "--final" and best["meta"]["chunk.size"] == "256"


def test_curves_have_axes_of_their_own() -> None:
    axes = [(line["xaxis"], line["yaxis"]) for line in MADE["curves"]["data"]]
    assert axes == [("x", "y"), ("x2", "y2"), ("x3", "y3")]
    assert MADE["curves"]["layout"]["grid"]["rows"] == 2


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=20))
def test_heights_of_lines_keep_the_order_of_scores(scores: list[float]) -> None:
    view = view_of(scores, [str(number % 3) for number in range(len(scores))])
    lines = figures.lines_figure(view)["data"]
    heights = [line["y"][-1] for line in lines]
    assert heights == sorted(heights) and len(heights) == len(scores)
    assert all(0 <= height <= 1 for line in lines for height in line["y"])


def test_the_script_is_the_installed_packages() -> None:
    import base64
    import gzip

    from plotly.offline import get_plotlyjs

    packed = figures.plotly_script()
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
