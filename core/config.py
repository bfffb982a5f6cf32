"""Reads YAML into a pydantic model, with every problem reported at once by file, line and key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from .errors import ConfigError

__all__ = ["apply_overrides", "load_config", "parse_override", "read_yaml", "to_yaml", "validate"]

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[Any, ...]


def load_config(path: Path, model: type[M], overrides: Sequence[str] = ()) -> M:
    """Loads a config file.

    Args:
        path: A YAML file.
        model: What it must fit.
        overrides: `key.path=value`, the value being YAML; they win over the file.

    Raises:
        ConfigError: Listing all that is wrong, a line each: `file:line: key: what (suggestion)`.
    """
    data, lines = read_yaml(path)
    return validate(apply_overrides(data, overrides), model, str(path), lines)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Path_, int]]:
    """Reads a YAML mapping and the line of each key.

    Returns:
        The data, and for each key path its line (1-based).

    Raises:
        ConfigError: No such file, not YAML, not a mapping, or a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if node is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected 'key: value' lines at the top")
    lines: dict[Path_, int] = {}
    twice: list[str] = []
    _note_lines(node, (), lines, twice)
    if twice:
        raise ConfigError("\n".join(f"{path}:{entry}" for entry in twice))
    return yaml.safe_load(text), lines


def _note_lines(node: yaml.Node, path: Path_, lines: dict[Path_, int], twice: list[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            here = (*path, key.value)
            if key.value in seen:
                twice.append(f"{key.start_mark.line + 1}: {_dotted(here)}: this key stands twice")
            seen.add(key.value)
            lines[here] = key.start_mark.line + 1
            _note_lines(value, here, lines, twice)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*path, position)] = value.start_mark.line + 1
            _note_lines(value, (*path, position), lines, twice)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Splits `key.path=value` at its first `=`; the value is read as YAML.

    Raises:
        ConfigError: No `=`, an empty key, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected key.path=value")
    try:
        return tuple(key.strip().split(".")), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: the value is not valid YAML") from None


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of the data with overrides applied; missing levels are made, a bare component name becomes its `kind`."""
    result = _copy(data)
    for text in overrides:
        keys, value = parse_override(text)
        level: Any = result
        for depth, key in enumerate(keys[:-1]):
            child = level.get(key)
            if child is None:
                child = {}
            elif isinstance(child, str):
                child = {"kind": child}
            elif not isinstance(child, dict):
                raise ConfigError(f"--set {text}: '{_dotted(keys[: depth + 1])}' is not a section")
            level[key] = child
            level = child
        level[keys[-1]] = value
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value


def validate(data: Any, model: type[M], source: str, lines: Mapping[Path_, int] | None = None) -> M:
    """Fits data to a model.

    Args:
        data: What was read.
        model: What it must fit.
        source: File name for messages.
        lines: Line of each key path, where known.

    Raises:
        ConfigError: Listing all that is wrong.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_describe(problem, data, model, source, lines or {}) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None


def _describe(problem: Any, data: Any, model: type[BaseModel], source: str, lines: Mapping[Path_, int]) -> str:
    path = _data_path(problem["loc"], data, problem["type"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    where = f"{source}:{line}" if line else source
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        known = _field_names(model, problem["loc"][:-1])
        near = difflib.get_close_matches(str(path[-1]), known, 1)
        hint = f" (did you mean '{near[0]}'?)" if near else f" (known: {', '.join(sorted(known))})" if known else ""
        return f"{where}: {_dotted(path)}: unknown key{hint}"
    if kind == "missing":
        return f"{where}: {_dotted(path)}: this key is required"
    got = problem.get("input")
    shown = (
        f", got {got!r}" if isinstance(got, (str, int, float, bool, type(None))) and kind != "component_kind" else ""
    )
    message = message.removeprefix("Value error, ")
    return f"{where}: {_dotted(path) or '(top)'}: {message[:1].lower() + message[1:]}{shown}"


def _data_path(loc: Sequence[Any], data: Any, kind: str) -> Path_:
    """The key path of an error's location: union tags, which are no keys, taken out."""
    path: list[Any] = []
    level = data
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if (
            isinstance(level, Mapping)
            and part in level
            or isinstance(level, list)
            and isinstance(part, int)
            and part < len(level)
        ):
            path.append(part)
            level = level[part]
        elif last and kind == "missing":
            path.append(part)
    return tuple(path)


def _field_names(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Names of the fields of the model that stands at an error's location."""
    candidates: list[Any] = [model]
    for part in loc:
        following: list[Any] = []
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                if part in candidate.model_fields:
                    following += _members(candidate.model_fields[part].annotation)
                elif part in _kinds(candidate):
                    following.append(candidate)
        candidates = following or candidates
    return [n for c in candidates if isinstance(c, type) and issubclass(c, BaseModel) for n in c.model_fields]


def _members(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType, list, tuple, dict):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation]


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(str(part) for part in path)


def to_yaml(model: BaseModel) -> str:
    """A model as YAML that loads back to an equal one."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
