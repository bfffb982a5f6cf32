"""Axes, conditions, constraints: which points there are, which are the same, and what is wrong with the others."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ragladder.core.errors import ConfigError
from ragladder.ladder.config import PipelineConfig, with_changes
from ragladder.ladder.sweep.expressions import Constraint
from ragladder.ladder.sweep.load import axis_of
from ragladder.ladder.sweep.search import configurations, drawn
from ragladder.ladder.sweep.settings import SweepSettings
from ragladder.ladder.sweep.space import Space, key_of, merged, needed

BASE = PipelineConfig()


def space(**given: Any) -> Space:
    return Space(BASE, SweepSettings.model_validate(given))


# --- constraints ---


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("a <= 2", {"a": 2}, True),
        ("a < 2", {"a": 2}, False),
        ("a * b + 1 == 7", {"a": 2, "b": 3}, True),
        ("a - b - 1 > 0", {"a": 3, "b": 1}, True),
        ("a / (b + 1) >= 1.5", {"a": 3, "b": 1}, True),
        ("-a < b", {"a": 1, "b": 0}, True),
        ("retrieve.mode != 'dense'", {"retrieve.mode": "dense"}, False),
        ("evidence_recall@2000c >= 0.5", {"evidence_recall@2000c": 0.6}, True),
        ("chunk.overlap <= 3", {"chunk.overlap": None}, True),  # the chunker has none: not bound
    ],
)
def test_a_constraint_is_worked_out(text: str, values: dict[str, Any], holds: bool) -> None:
    constraint = Constraint.parse(text)
    assert constraint.holds(values) is holds
    assert set(constraint.names) == set(values)


@pytest.mark.parametrize("text", ["a", "a <= ", "<= 2", "a ? 2", "a <= 2 3", "(a <= 2", "a = 2", ""])
def test_what_is_no_comparison_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="constraint"):
        Constraint.parse(text)


def test_a_word_is_not_compared_with_a_number() -> None:
    with pytest.raises(ValueError, match="cannot be worked out"):
        Constraint.parse("retrieve.mode <= 2").holds({"retrieve.mode": "dense"})


# --- points ---


def test_a_grid_is_the_product_of_its_axes_in_their_order() -> None:
    found = configurations(space(space={"chunk.size": [256, 512], "retrieve.top_k": [1, 2, 3]}))
    assert [(c.point["chunk.size"], c.point["retrieve.top_k"]) for c in found] == [
        (256, 1), (256, 2), (256, 3), (512, 1), (512, 2), (512, 3),
    ]  # fmt: skip
    assert found[4].pipeline == with_changes(BASE, {"chunk.size": 512, "retrieve.top_k": 2})


def test_a_conditional_axis_is_left_out_where_its_condition_is_not_met() -> None:
    axes = {"retrieve.weight": [0.3, 0.7], "retrieve.mode": ["dense", "hybrid"], "retrieve.fusion": ["weighted"]}
    found = configurations(
        space(
            space=axes,
            when={"retrieve.weight": {"retrieve.mode": "hybrid"}, "retrieve.fusion": {"retrieve.mode": ["hybrid"]}},
        )
    )
    assert [c.point for c in found] == [
        {"retrieve.mode": "dense"},
        {"retrieve.weight": 0.3, "retrieve.mode": "hybrid", "retrieve.fusion": "weighted"},
        {"retrieve.weight": 0.7, "retrieve.mode": "hybrid", "retrieve.fusion": "weighted"},
    ]


def test_what_the_mode_ignores_makes_no_new_configuration() -> None:
    axes = {"retrieve.mode": ["dense", "bm25", "hybrid"], "retrieve.weight": [0.2, 0.4], "retrieve.rrf_k": [10, 60]}
    found = configurations(space(space={**axes, "retrieve.fusion": ["rrf", "weighted"]}))
    # dense, bm25, two rrf_k, two weights
    assert len(found) == 6
    assert len({c.key for c in found}) == 6


def test_another_kind_comes_with_its_defaults_and_the_axes_below_it() -> None:
    found = configurations(space(space={"chunk.size": [64, 128], "chunk.kind": ["recursive", "sentence"]}))
    assert {(c.pipeline.chunk.kind, c.pipeline.chunk.size) for c in found} == {
        ("recursive", 64), ("recursive", 128), ("sentence", 64), ("sentence", 128),
    }  # fmt: skip


def test_a_size_below_the_overlap_is_left_out_where_other_points_stand() -> None:
    found = configurations(space(space={"chunk": ["token"], "chunk.size": [16, 64], "chunk.overlap": [0, 32]}))
    assert [(c.point["chunk.size"], c.point["chunk.overlap"]) for c in found] == [(16, 0), (64, 0), (64, 32)]


def test_constraints_on_settings_are_checked_before_anything_is_scored() -> None:
    given = space(
        space={"chunk": ["token"], "chunk.size": [64, 256], "retrieve.top_k": [2, 10]},
        constraints=["chunk.size * retrieve.top_k <= 700", "context_tokens <= 100"],
    )
    assert [c.point["chunk.size"] * c.point["retrieve.top_k"] for c in configurations(given)] == [128, 640, 512]
    assert [c.text for c in given.after] == ["context_tokens <= 100"]


def test_a_space_without_a_valid_point_says_so_with_an_example() -> None:
    given = space(space={"chunk": ["token"], "chunk.size": [64, 128]}, constraints=["chunk.size > 500"])
    with pytest.raises(ConfigError, match=r"no point .* is valid; the first: the constraint 'chunk.size > 500'"):
        given.check()
    with pytest.raises(ConfigError, match="no point"):
        drawn(given, 3, seed=0)


@pytest.mark.parametrize(
    ("axis", "values", "said"),
    [
        ("chunk.size", [128, 0], "greater than or equal to"),
        ("chunk.siez", [128], "did you mean 'size'"),
        ("retrieve.weight", [0.3, [0.3, 0.3, 0.4]], "one number is wanted"),
        ("chunk.kind", ["token", "tokn"], "did you mean 'token'"),
    ],
)
def test_a_value_that_no_point_can_use_is_named(axis: str, values: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space(space={axis: values, "retrieve.top_k": [1, 2]}).check()


def test_draws_are_different_valid_and_the_same_for_the_same_seed() -> None:
    axes = {"retrieve.top_k": [*range(1, 40)], "retrieve.per_document": [*range(1, 60)], "chunk.size": [64]}
    given = space(space=axes)
    first, again, other = (drawn(given, 10, seed) for seed in (1, 1, 2))
    assert [c.point for c in first] == [c.point for c in again] != [c.point for c in other]
    assert len({c.key for c in first}) == 10
    assert len(drawn(space(space={"retrieve.top_k": [1, 2, 3]}), 10, 0)) == 3


def test_points_can_be_drawn_one_by_one_with_their_conditions() -> None:
    given = space(
        space={"retrieve.mode": ["dense", "hybrid"], "retrieve.rrf_k": [1, 2]},
        when={"retrieve.rrf_k": {"retrieve.mode": "hybrid"}},
    )
    points = [given.draw(random.Random(seed)) for seed in range(20)]
    assert all(("retrieve.rrf_k" in point) == (point["retrieve.mode"] == "hybrid") for point in points)


def test_merged_changes_drop_what_stood_below_a_replaced_section() -> None:
    assert merged({"chunk.size": 3, "context": "title"}, {"chunk": "token"}) == {"context": "title", "chunk": "token"}


def test_changes_that_change_nothing_are_not_needed() -> None:
    pipeline = with_changes(BASE, {"retrieve.top_k": 2})
    changes = {"retrieve.top_k": 2, "retrieve.mode": BASE.retrieve.mode}
    assert needed(BASE, changes, pipeline) == {"retrieve.top_k": 2}
    assert key_of(pipeline) != key_of(BASE)


# --- axes of the command line ---


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("chunk.size=128,256", ("chunk.size", [128, 256])),
        ("pipeline.chunk.size=128, 256", ("chunk.size", [128, 256])),
        ("chunk=token,sentence", ("chunk", ["token", "sentence"])),
        ("chunk={kind: token, size: 64},section", ("chunk", [{"kind": "token", "size": 64}, "section"])),
        ("retrieve.weight=0.3", ("retrieve.weight", [0.3])),
        ("score.ks=[1,2]", None),
        ("name=a,b", None),
    ],
)
def test_a_comma_list_is_an_axis(text: str, axis: Any) -> None:
    assert axis_of(text) == axis


def test_an_axis_without_values_or_yaml_is_refused() -> None:
    for text in ("chunk.size=", "chunk=[a", "chunk={a"):
        with pytest.raises(ConfigError, match="--set"):
            axis_of(text)


# --- the section ---


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"space": {"chunk.size": []}}, "no values for chunk.size"),
        ({"space": {"chunk.size": [1]}, "when": {"chunk.overlap": {"chunk.kind": "token"}}}, "no such axis"),
        ({"objectives": ["mrr", "mrr"]}, "stands twice"),
        ({"objectives": []}, "at least 1"),
        ({"search": {"kind": "nsga2"}}, "two objectives"),
        ({"search": {"kind": "racing"}, "objectives": ["latency_p95"]}, "cannot come first"),
        ({"search": {"kind": "gird"}}, "grid"),
        ({"constraints": ["context_tokens = 3"]}, "is not understood"),
    ],
)
def test_a_section_that_cannot_work_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SweepSettings.model_validate(given)
