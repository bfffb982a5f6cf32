"""Scales, bars, and the data in the page: what must hold for any values."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reading import unpacked
from ragladder.ladder.report.charts import scale_over, stacked_bar
from ragladder.ladder.report.explorer import packed


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_packed_data_are_the_same_value_and_cannot_end_a_script(value: object) -> None:
    text = packed(value)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    clean = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    assert unpacked(text) == json.loads(clean)


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=8))
def test_scale_holds_its_values_in_order(values: list[float | None]) -> None:
    scale = scale_over(values)
    there = sorted(value for value in values if value is not None)
    assert list(scale.ticks) == sorted(scale.ticks) and 2 <= len(scale.ticks) <= 9
    places = [scale.at(value) for value in there]
    assert places == sorted(places)
    slack = 1e-8 * (scale.high - scale.low)
    assert all(scale.low - slack <= value <= scale.high + slack for value in there)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 1000)))
def test_stacked_bar_fills_its_width(counts: dict[str, int]) -> None:
    widths = [
        float(w)
        for w in re.findall(r'class="part \w" x="[\d.]+%" y="0" width="([\d.]+)%"', str(stacked_bar(counts, "x")))
    ]
    assert len(widths) == sum(count > 0 for count in counts.values())
    assert not widths or sum(widths) == pytest.approx(100, abs=0.05)
