"""Components from outside: entry points and modules, and what their arguments may be."""

from __future__ import annotations

import importlib.metadata
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError
from ragladder.core.components import Custom, Resources, Settings, component_section, kinds_of, load_attribute
from ragladder.core.errors import ComponentError


class WholeSettings(Settings):
    kind: Literal["whole", "all"] = "whole"


SECTION: TypeAdapter[Any] = TypeAdapter(component_section("cutter", WholeSettings))

MODULE = """
from pydantic import BaseModel
class Mine:
    class Settings(BaseModel):
        size: int = 1
        depth: int = 1
    def __init__(self, settings, resources):
        self.size = settings.size
class Odd:
    Settings = dict
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = "outside_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def register(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str, str]) -> None:
    known = [EntryPoint(name=name, group=group, value=value) for name, group, value in entries]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda name: [e for e in known if e.name == name])


def test_a_component_has_every_name_of_its_kind() -> None:
    assert kinds_of(WholeSettings) == ("whole", "all")
    assert SECTION.validate_python("all") == WholeSettings(kind="all")


def test_an_entry_point_is_chosen_by_its_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("mine", "ragladder.cutter", f"{module}:Mine"))
    custom = SECTION.validate_python({"kind": "mine", "size": 3})
    assert isinstance(custom, Custom) and custom.build(Resources()).size == 3


def test_an_entry_point_of_another_role_is_not_taken(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("mine", "ragladder.parser", f"{module}:Mine"))
    with pytest.raises(ValidationError, match="unknown cutter 'mine'"):
        SECTION.validate_python("mine")


def test_an_entry_point_whose_import_fails_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("mine", "ragladder.cutter", "no_such_module:Mine"))
    with pytest.raises(ComponentError, match="loading its entry point 'no_such_module:Mine' failed"):
        load_attribute("mine")
    with pytest.raises(ValidationError, match="loading its entry point"):
        SECTION.validate_python("mine")


def test_two_installed_components_of_one_name_are_not_guessed_between(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("mine", "ragladder.cutter", "a:Mine"), ("mine", "ragladder.parser", "b:Mine"))
    with pytest.raises(ComponentError, match="2 installed components are called 'mine': .* 'a:Mine' or 'b:Mine'"):
        load_attribute("mine")


def test_every_wrong_argument_is_named_even_where_the_model_would_drop_it(module: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SECTION.validate_python({"kind": f"{module}:Mine", "siez": 3, "depth": "x"})
    assert "siez: unknown key (did you mean 'size'?)" in str(raised.value) and "; depth: " in str(raised.value)


def test_settings_that_are_no_model_are_refused(module: str) -> None:
    with pytest.raises(ValidationError, match="must be a pydantic model"):
        SECTION.validate_python(f"{module}:Odd")


def test_edited_code_is_a_new_component(module: str, tmp_path: Path) -> None:
    custom = Custom(kind=f"{module}:Mine")
    before = custom.identity(Resources())
    assert before == custom.identity(Resources(device="cuda"))
    (tmp_path / f"{module}.py").write_text(MODULE + "# edited")
    assert custom.identity(Resources()) != before


def test_code_without_a_file_cannot_be_told_apart_and_is_refused() -> None:
    with pytest.raises(ComponentError, match="has no source file"):
        Custom(kind="builtins:object").identity(Resources())


def test_a_module_in_the_working_directory_does_not_replace_an_installed_one(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / f"{module}.py").write_text("")
    (tmp_path / "cwd" / f"{module}_near.py").write_text("here = 1")
    monkeypatch.chdir(tmp_path / "cwd")
    assert load_attribute(f"{module}:Mine").__name__ == "Mine"
    assert load_attribute(f"{module}_near:here") == 1


def test_paths_start_from_the_base_folder(tmp_path: Path) -> None:
    resources = Resources(base_dir=tmp_path)
    assert resources.path("a/b") == tmp_path / "a" / "b"
    assert resources.path("/a") == Path("/a") and resources.path("~") == Path.home()
