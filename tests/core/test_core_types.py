"""Shared concepts: headings at an offset, identities, errors' exit codes."""

from __future__ import annotations

import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core import errors
from ragladder.core.types import Chunk, Document, Evidence, Question, Section

SECTIONS = (Section(2, 20, 1, ("A",)), Section(5, 10, 2, ("A", "B")), Section(12, 20, 2, ("A", "C")))
DOCUMENT = Document("d", "x" * 25, "t", "r", SECTIONS)


@pytest.mark.parametrize(
    ("offset", "path"),
    [(0, ()), (2, ("A",)), (5, ("A", "B")), (9, ("A", "B")), (10, ("A",)), (12, ("A", "C")), (20, ()), (99, ())],
)
def test_the_heading_at_an_offset_is_the_innermost(offset: int, path: tuple[str, ...]) -> None:
    assert DOCUMENT.heading_path(offset) == path


@given(st.integers(-5, 40))
def test_a_heading_holds_the_offset_it_is_given_for(offset: int) -> None:
    path = DOCUMENT.heading_path(offset)
    holding = [s for s in SECTIONS if s.start <= offset < s.end]
    assert path == (max(holding, key=lambda s: s.level).path if holding else ())


def test_a_chunk_is_named_by_its_place_and_a_question_without_evidence_is_unanswerable() -> None:
    assert Chunk("a/b.md", 3, 5, "xy").id == "a/b.md:3-5"
    assert not Question("q", "?", "").answerable
    assert Question("q", "?", "", (Evidence("d", "x"),)).answerable


def test_exit_codes_are_those_of_the_tree() -> None:
    codes = {name: getattr(errors, name).exit_code for name in errors.__all__ if name[0].isupper()}
    assert codes == {
        "RagladderError": 1,
        "ConfigError": 2,
        "ComponentError": 2,
        "MissingExtra": 2,
        "DataError": 3,
        "StageError": 4,
        "EndpointError": 4,
        "UnreachableError": 4,
        "BudgetError": 5,
    }


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    errors.require("json", "cpu", "anything")
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    for module in ("no_such_package", "no_such.package", "made_by_hand"):
        with pytest.raises(errors.MissingExtra, match=rf"'{module}' is needed for searching: .*ragladder\[cpu\]"):
            errors.require(module, "cpu", "searching")
