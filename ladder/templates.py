"""Config files and data that come with the package."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from ..core.errors import ConfigError, DataError, did_you_mean

__all__ = [
    "EDITOR_LINE",
    "ShippedConfig",
    "copy_config",
    "find_config",
    "shipped_configs",
    "write_editor_schema",
    "write_template",
]

_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*")
_EDITORS = "# yaml-language-server:"
_SCHEMA = "experiment.schema.json"
EDITOR_LINE = f"{_EDITORS} $schema={_SCHEMA}\n"
"""First line of a config that has the schema beside it: editors then complete and check its keys."""


@dataclass(frozen=True, slots=True)
class ShippedConfig:
    """A config that comes with the package.

    Attributes:
        name: File name without `.yaml`.
        purpose: The first sentence of its opening comment.
        text: The file.
    """

    name: str
    purpose: str
    text: str


def shipped_configs() -> tuple[ShippedConfig, ...]:
    """All of them, the quickstart first."""
    found = []
    for file in (files("ragladder") / "configs").iterdir():
        if file.name.endswith(".yaml"):
            text = file.read_text(encoding="utf-8")
            found.append(ShippedConfig(file.name.removesuffix(".yaml"), _purpose(text), text))
    return tuple(sorted(found, key=lambda one: (one.name != "quickstart", one.name)))


def _purpose(text: str) -> str:
    comment = []
    for line in text.splitlines():
        if line.startswith(_EDITORS):
            continue
        if not line.startswith("# "):
            break
        comment.append(line[2:].strip())
    return " ".join(comment).removesuffix(":")


def find_config(name: str) -> ShippedConfig:
    """The shipped config of that name.

    Raises:
        ConfigError: There is none.
    """
    found = {one.name: one for one in shipped_configs()}
    name = name.removesuffix(".yaml")
    if name not in found:
        hint = did_you_mean(name, found, "there are: " + ", ".join(found))
        raise ConfigError(f"no shipped config is called '{name}' ({hint})")
    return found[name]


def copy_config(name: str, target: Path) -> None:
    """Writes a shipped config to a new file.

    Raises:
        ConfigError: There is no such config.
        DataError: The file is there already, or cannot be written.
    """
    config = find_config(name)
    if target.exists():
        raise DataError(f"{target} is there already; name another file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_without_editor_line(config.text), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error


def _without_editor_line(text: str) -> str:
    """The line that names the schema is right beside the schema alone."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_EDITORS))


def write_editor_schema(folder: Path) -> None:
    """Puts the JSON schema of configs into a folder, for editors."""
    text = (files("ragladder") / "configs" / _SCHEMA).read_text(encoding="utf-8")
    (folder / _SCHEMA).write_text(text, encoding="utf-8")


def write_template(folder: Path, name: str = "quickstart") -> Path:
    """Makes a new folder with a shipped config; the quickstart with its documents, questions and model.

    Returns:
        The config file.

    Raises:
        ConfigError: There is no such config.
        DataError: The folder is there already and not empty, or cannot be written.
    """
    config = find_config(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not empty; name a new folder")
    target = folder / f"{config.name}.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if config.name == "quickstart":
            with as_file(files("ragladder") / "configs") as source:
                shutil.copytree(source / "quickstart", folder / "quickstart", ignore=_LEFT_OUT)
        target.write_text(config.text, encoding="utf-8")
        write_editor_schema(folder)
    except OSError as error:
        raise DataError(f"{folder}: the {name} template could not be written: {error.strerror or error}") from error
    return target
