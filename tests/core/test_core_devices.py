"""Devices by name, models by name, and fingerprints of model folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ragladder.core.devices import fingerprint, locate_model, resolve_device
from ragladder.core.errors import ConfigError, DataError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def test_a_fingerprint_follows_names_and_contents_not_places_and_times(model: Path, tmp_path: Path) -> None:
    before = fingerprint(model)
    os.utime(model / "config.json", (1, 1))
    assert fingerprint(model) == before
    assert fingerprint(model.rename(tmp_path / "moved")) == before
    moved = tmp_path / "moved"
    (moved / "config.json").rename(moved / "other.json")
    assert fingerprint(moved) != before


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "new/model.safetensors", "modeling.py"])
def test_what_changes_a_fingerprint(model: Path, name: str) -> None:
    before = fingerprint(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("edited")
    assert fingerprint(model) != before


@pytest.mark.parametrize("name", ["checkpoint-3/model.safetensors", ".cache/download/config.json", "README.md"])
def test_what_does_not_change_a_fingerprint(model: Path, name: str) -> None:
    before = fingerprint(model)
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("{}")
    assert fingerprint(model) == before


def test_a_model_that_itself_is_a_checkpoint_has_a_fingerprint(model: Path) -> None:
    before = fingerprint(model)
    assert fingerprint(model.rename(model.with_name("checkpoint-9"))) == before


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no model files"):
        fingerprint(tmp_path)


def test_a_folder_wins_over_a_hub_name_and_a_missing_one_is_an_error(model: Path, tmp_path: Path) -> None:
    assert locate_model("model", tmp_path) == str(model)
    assert locate_model("someone/model", tmp_path) == "someone/model"
    with pytest.raises(DataError, match="there is no such folder"):
        locate_model("./none", tmp_path)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cpu:x", "cuda:99", "cuda:-1", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="runtime.device"):
        resolve_device(name)


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
