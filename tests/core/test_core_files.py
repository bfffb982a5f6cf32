"""Folders that are there whole or not at all, and the last few things that are kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.cache import LastFew
from ragladder.core.files import whole_folder


def filled(folder: Path, text: str, existing: Literal["refuse", "replace", "keep"] = "refuse") -> None:
    with whole_folder(folder, existing) as made:
        assert not folder.exists() or made != folder
        (made / "a.txt").write_text(text)


def test_a_folder_is_there_once_it_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "one"
    filled(folder, "1")
    assert (folder / "a.txt").read_text() == "1" and [*folder.parent.iterdir()] == [folder]


def test_an_error_while_it_is_filled_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "one") as made:
        (made / "a.txt").write_text("half")
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("existing", "left"), [("refuse", "old"), ("replace", "new"), ("keep", "old")])
def test_what_becomes_of_a_folder_with_content(
    existing: Literal["refuse", "replace", "keep"], left: str, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    filled(folder, "old")
    if existing == "refuse":
        with pytest.raises(OSError):
            filled(folder, "new", existing)
    else:
        filled(folder, "new", existing)
    assert (folder / "a.txt").read_text() == left and [*tmp_path.iterdir()] == [folder]


def test_an_empty_folder_gives_way(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    filled(tmp_path / "one", "1")
    assert (tmp_path / "one" / "a.txt").read_text() == "1"


@given(st.lists(st.sampled_from("abcde")), st.integers(0, 3))
def test_the_last_few_are_made_once_while_they_are_kept(keys: list[str], most: int) -> None:
    kept: LastFew[Any] = LastFew(most)
    made: list[str] = []
    recent: list[str] = []
    for key in keys:
        before = len(made)
        assert kept.get(key, lambda key=key: made.append(key) or key.upper()) == key.upper()
        assert (len(made) == before) == (key in recent)
        recent = [*(one for one in recent if one != key), key][-most:] if most else []
