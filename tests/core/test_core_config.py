"""Config files: all problems at once, by file, line and key; overrides; round trips."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from ragladder.core.components import Custom, Model, Resources, Settings, component_section
from ragladder.core.config import apply_overrides, load_config, parse_override, read_yaml, to_yaml
from ragladder.core.errors import ConfigError


class WindowSettings(Settings):
    kind: Literal["window"] = "window"
    size: int = Field(default=10, gt=0)


class WholeSettings(Settings):
    kind: Literal["whole"] = "whole"


Section = component_section("cutter", WindowSettings, WholeSettings)


class Experiment(Model):
    name: str
    cut: Section = WindowSettings()  # type: ignore[valid-type]
    weights: tuple[float, ...] = ()


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def test_a_good_file_loads_and_a_bare_name_means_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "name: a\ncut: whole\n"), Experiment)
    assert config.cut == WholeSettings()


def test_every_problem_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "nane: a\ncut:\n  kind: window\n  siez: 3\n  size: 0\n")
    with pytest.raises(ConfigError) as raised:
        load_config(path, Experiment)
    message = str(raised.value)
    assert f"{path}:1: nane: unknown key (did you mean 'name'?)" in message
    assert f"{path}:4: cut.siez: unknown key (did you mean 'size'?)" in message
    assert f"{path}:5: cut.size: input should be greater than 0, got 0" in message
    assert "name: this key is required" in message


def test_an_unknown_component_is_named_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"experiment.yaml:2: cut: unknown cutter 'windw' \(did you mean 'window'\?\)"
    ):
        load_config(write(tmp_path, "name: a\ncut: windw\n"), Experiment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("- a\n", "expected 'key: value' lines"),
        ("name: [\n", ":2: not valid YAML"),
        ("name: a\nname: b\n", ":2: name: this key stands twice"),
        ("name: a\non: b\n", ":2: on: a key must be text; put it in quotes"),
        ("name: a\ncut:\n  7: b\n", ":3: cut.7: a key must be text"),
        ("name: a\n? [x, y]\n: b\n", "not valid YAML"),
        ("name: 2026-13-45\n", "not valid YAML"),
        ("name: &a [*a]\n", ":1: name.0: an alias that contains itself"),
        ("name: a\n---\nname: b\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, text), Experiment)
    assert expected in str(raised.value)


def test_a_missing_file_a_folder_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(path)


def test_overrides_win_and_reach_below_a_bare_name(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ncut: window\n")
    config = load_config(path, Experiment, ["cut.size=3", "weights=[0.5, 1]", "name=x=y"])
    assert (config.cut.size, config.weights, config.name) == (3, (0.5, 1.0), "x=y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ncut:\n", "experiment.yaml:2: cut: say which cutter by the key 'kind'"),
        ("name:\n", "experiment.yaml:1: name: nothing stands after this key; give it a value or leave the key out"),
        ("name: a\nweights:\n", "experiment.yaml:2: weights: nothing stands after this key"),
    ],
)
def test_a_key_without_a_value(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, text), Experiment)
    assert expected in str(raised.value)


def test_what_is_wrong_with_an_override_is_not_laid_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ncut: {kind: window, size: 3}\nweights: x\n")
    with pytest.raises(ConfigError) as raised:
        load_config(path, Experiment, ["cut.size=0"])
    message = str(raised.value)
    assert "--set cut.size=0: cut.size: input should be greater than 0, got 0" in message
    assert f"{path}:3: weights: " in message and f"{path}:2" not in message


def test_an_override_reaches_into_a_list_and_a_key_with_dots() -> None:
    data = {"space": {"chunk": [{"size": 1}, "whole"], "chunk.size": [1]}}
    changed = apply_overrides(data, ["space.chunk.0.size=2", "space.chunk.1.size=3", "space.chunk.size=[4]"])
    assert changed == {"space": {"chunk": [{"size": 2}, {"kind": "whole", "size": 3}], "chunk.size": [4]}}
    assert data["space"]["chunk.size"] == [1]


@pytest.mark.parametrize("text", ["space.2=1", "space.x=1", "space.-1=1"])
def test_an_override_of_an_entry_that_a_list_does_not_have(text: str) -> None:
    with pytest.raises(ConfigError, match="'space' is a list of 2: name an entry by its number, from 0"):
        apply_overrides({"space": [1, 2]}, [text])


@pytest.mark.parametrize("text", ["day=2026-13-45", "novalue", "=3", "a=[", "name.deeper.still=1"])
def test_overrides_that_do_not_fit(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, "name: 3\n"), Experiment, [text])


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1), st.sampled_from("abcd"), st.integers())
def test_an_override_changes_its_key_alone(data: dict[str, int], key: str, value: int) -> None:
    assert apply_overrides(data, [f"{key}={value}"]) == {**data, key: value}


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1),
    st.integers(1, 10**6),
    st.lists(st.floats(allow_nan=False, allow_infinity=False)),
)
def test_yaml_round_trip(name: str, size: int, weights: list[float]) -> None:
    config = Experiment(name=name, cut=WindowSettings(size=size), weights=tuple(weights))
    assert Experiment.model_validate(yaml.safe_load(to_yaml(config))) == config


@given(st.text(min_size=1).filter(lambda s: "=" not in s and s.strip() and "." not in s), st.text())
def test_an_override_splits_at_the_first_equals_sign(key: str, value: str) -> None:
    quoted = yaml.safe_dump(value, default_style='"')
    assert parse_override(f"{key}={quoted}") == ((key.strip(),), value)


MODULE = """
from pydantic import BaseModel, ConfigDict
class Mine:
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        size: int = 1
    def __init__(self, settings, resources):
        self.size = settings.size
class Bare:
    pass
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_cutter.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_module")
def test_a_component_of_ones_own(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "name: a\ncut: {kind: 'own_cutter:Mine', size: 4}\n"), Experiment)
    assert isinstance(config.cut, Custom)
    assert config.cut.build(Resources()).size == 4
    assert config.cut.identity(Resources())["source_sha256"]


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("{kind: 'own_cutter:Mine', siez: 4}", "siez"),
        ("{kind: 'own_cutter:Bare', size: 4}", "takes no settings"),
    ],
)
def test_a_misspelt_argument_of_ones_own_component_is_an_error(tmp_path: Path, cut: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(write(tmp_path, f"name: a\ncut: {cut}\n"), Experiment)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("own_cutter:Mne", "did you mean 'Mine'"), ("no_such_module:X", "importing 'no_such_module' failed")],
)
def test_a_component_that_does_not_load_is_reported_beside_the_rest(tmp_path: Path, kind: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, f"nane: a\ncut: {{kind: '{kind}'}}\n"), Experiment)
    assert f"experiment.yaml:2: cut: component '{kind}'" in str(raised.value) and expected in str(raised.value)
    assert "experiment.yaml:1: nane: unknown key" in str(raised.value)
