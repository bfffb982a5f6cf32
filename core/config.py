"""Reads YAML into a pydantic model, with every problem reported at once by file, line and key."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from .errors import ConfigError, did_you_mean

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
    changed = apply_overrides(data, overrides)
    return validate(changed, model, str(path), lines, {_locate(changed, text): text for text in overrides})


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Path_, int]]:
    """Reads a YAML mapping and the line of each key.

    Returns:
        The data, and for each key path its line (1-based).

    Raises:
        ConfigError: No such file, not YAML, not a mapping, a key twice, or a key that is not text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if node is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected 'key: value' lines at the top")
    lines: dict[Path_, int] = {}
    problems: list[str] = []
    _note_lines(node, (), lines, problems, frozenset())
    if problems:
        raise ConfigError("\n".join(f"{path}:{entry}" for entry in problems))
    return data, lines


def _note_lines(
    node: yaml.Node, path: Path_, lines: dict[Path_, int], problems: list[str], above: frozenset[int]
) -> None:
    if id(node) in above:
        problems.append(f"{node.start_mark.line + 1}: {_dotted(path)}: an alias that contains itself")
        return
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here, line = (*path, key.value), key.start_mark.line + 1
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                # YAML reads yes, no, on, off, null, numbers and dates as other than text
                problems.append(f"{line}: {_dotted(here)}: a key must be text; put it in quotes")
            elif key.value in seen:
                problems.append(f"{line}: {_dotted(here)}: this key stands twice")
            seen.add(key.value)
            lines[here] = line
            _note_lines(value, here, lines, problems, above)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*path, position)] = value.start_mark.line + 1
            _note_lines(value, (*path, position), lines, problems, above)


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
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {text}: the value is not valid YAML") from None


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of the data with overrides applied.

    Missing levels are made, a bare component name becomes its `kind`, a number picks an entry of a list, and a key of
    the data that itself holds dots (an axis of a sweep) is found by its whole name.

    Raises:
        ConfigError: An override is not `key.path=value`, or leads below something that is no section or list.
    """
    result = _copy(data)
    for text in overrides:
        keys, value = parse_override(text)
        level: Any = result
        rest = keys
        while True:
            key, rest = _next_key(level, rest, text, keys)
            if not rest:
                level[key] = value
                break
            child = level[key] if isinstance(level, list) else level.get(key)
            if child is None:
                child = {}
            elif isinstance(child, str):
                child = {"kind": child}
            level[key] = child
            level = child
    return result


def _next_key(level: Any, rest: tuple[str, ...], text: str, keys: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """The key at one level of an override's path, and what is left of the path below it."""
    above = _dotted(keys[: len(keys) - len(rest)])
    if isinstance(level, dict):
        whole = (n for n in range(len(rest), 1, -1) if ".".join(rest[:n]) in level)
        taken = next(whole, 1)
        return ".".join(rest[:taken]), rest[taken:]
    if not isinstance(level, list):
        raise ConfigError(f"--set {text}: '{above}' is not a section")
    if not rest[0].isdecimal() or int(rest[0]) >= len(level):
        raise ConfigError(f"--set {text}: '{above}' is a list of {len(level)}: name an entry by its number, from 0")
    return int(rest[0]), rest[1:]


def _locate(data: Any, override: str) -> Path_:
    """The key path that an applied override set."""
    keys, _ = parse_override(override)
    path: list[Any] = []
    level, rest = data, keys
    while rest and isinstance(level, (dict, list)):
        key, rest = _next_key(level, rest, override, keys)
        path.append(key)
        level = level[key] if isinstance(level, list) else level.get(key)
    return tuple(path)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value


def validate(
    data: Any,
    model: type[M],
    source: str,
    lines: Mapping[Path_, int] | None = None,
    overrides: Mapping[Path_, str] | None = None,
) -> M:
    """Fits data to a model.

    Args:
        data: What was read.
        model: What it must fit.
        source: File name for messages.
        lines: Line of each key path, where known.
        overrides: Key paths that a `--set` gave, and its text: what is wrong there is not the file's fault.

    Raises:
        ConfigError: Listing all that is wrong.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            path = _data_path(problem["loc"], data, problem["type"], model)
            where = _where(path, source, lines or {}, overrides or {})
            problems.append(f"{where}: {_describe(problem, path, model)}")
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None


def _where(path: Path_, source: str, lines: Mapping[Path_, int], overrides: Mapping[Path_, str]) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in overrides:
            return f"--set {overrides[path[:length]]}"
        if path[:length] in lines:
            return f"{source}:{lines[path[:length]]}"
    return source


def _describe(problem: Any, path: Path_, model: type[BaseModel]) -> str:
    kind, message, got = problem["type"], problem["msg"], problem.get("input")
    name = _dotted(path) or "(top)"
    if kind == "extra_forbidden":
        known = _field_names(model, problem["loc"][:-1])
        hint = did_you_mean(str(path[-1]), known, f"known: {', '.join(sorted(known))}" if known else "")
        return f"{name}: unknown key" + (f" ({hint})" if hint else "")
    if kind == "missing":
        return f"{name}: this key is required"
    if got is None and kind.endswith("_type"):
        return f"{name}: nothing stands after this key; give it a value or leave the key out"
    message = message.removeprefix("Value error, ")
    scalar = isinstance(got, (str, int, float, bool, type(None))) and kind != "component_kind"
    return f"{name}: {message[:1].lower() + message[1:]}" + (f", got {got!r}" if scalar else "")


def _data_path(loc: Sequence[Any], data: Any, kind: str, model: type[BaseModel]) -> Path_:
    """The key path of an error's location: union tags, which are no keys, taken out."""
    path: list[Any] = []
    level = data
    for position, (part, is_tag) in enumerate(zip(loc, _walk(model, loc)[1], strict=True)):
        last = position == len(loc) - 1
        in_list = isinstance(level, list) and isinstance(part, int) and part < len(level)
        if not is_tag and (in_list or (isinstance(level, Mapping) and part in level)):
            path.append(part)
            level = level[part]
        elif last and kind == "missing":
            path.append(part)
    return tuple(path)


def _field_names(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Names of the fields of the models that can stand at an error's location."""
    return list(dict.fromkeys(name for found in _walk(model, loc)[0] for name in found.model_fields))


def _walk(model: type[BaseModel], loc: Sequence[Any]) -> tuple[list[type[BaseModel]], list[bool]]:
    """The models that can stand at an error's location, and which of its parts are tags of a union.

    A tag comes first below a union, also where a member has a key of that name (`kind: llm` with a section `llm`).
    """
    candidates, tags = [model], []
    for part in loc:
        tagged = [one for one in candidates if part in _kinds(one)] if len(candidates) > 1 else []
        fields = [one.model_fields[part].annotation for one in candidates if part in one.model_fields]
        tags.append(bool(tagged))
        candidates = tagged or [inner for field in fields for inner in _members(field)] or candidates
    return candidates, tags


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type names."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(str(part) for part in path)


def to_yaml(model: BaseModel) -> str:
    """A model as YAML that loads back to an equal one."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
