"""The keys of a config, read off the settings models: every role of a component, what can fill it, every setting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..core.components import ComponentRole, Custom, Settings, kinds_of
from .config import ExperimentConfig

__all__ = [
    "ComponentEntry",
    "Role",
    "SettingEntry",
    "models_in",
    "one_line",
    "roles",
    "settings_of",
    "summary_of",
]

_EMPTY = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """One key of a settings model.

    Attributes:
        name: The key.
        type: In a config author's words.
        default: As YAML (JSON values); None where the key is required.
        meaning: What it changes and costs.
    """

    name: str
    type: str
    default: str | None
    meaning: str


@dataclass(frozen=True, slots=True)
class ComponentEntry:
    """One built-in component."""

    kind: str
    summary: str
    cost: str
    settings: tuple[SettingEntry, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A place in the config that takes a component.

    Attributes:
        name: As in the entry-point group `ragladder.<name>`.
        paths: Key paths where it stands.
        components: The built-in ones.
    """

    name: str
    paths: tuple[str, ...]
    components: tuple[ComponentEntry, ...]


def roles() -> tuple[Role, ...]:
    """Every role, in the order of the config."""
    found: dict[tuple[str, tuple[type[Settings], ...]], list[str]] = {}
    for path, field in _fields(ExperimentConfig):
        models = _components(field)
        if models:
            found.setdefault((_role_name(field, path), models), []).append(path)
    return tuple(
        Role(name, tuple(dict.fromkeys(paths)), tuple(_entry(model) for model in models))
        for (name, models), paths in found.items()
    )


def settings_of(model: type[BaseModel]) -> tuple[SettingEntry, ...]:
    """The keys of a settings model but `kind`."""
    return tuple(
        SettingEntry(name, _type_of(field), _default(field), one_line(field.description or ""))
        for name, field in model.model_fields.items()
        if name != "kind"
    )


def _entry(model: type[Settings]) -> ComponentEntry:
    return ComponentEntry(kinds_of(model)[0], summary_of(model), model.cost, settings_of(model))


def _fields(model: type[BaseModel], prefix: str = "", seen: tuple[type, ...] = ()) -> Iterator[tuple[str, FieldInfo]]:
    """All fields below a model with their key paths; components' own fields too, each model once a path."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        yield path, field
        for inner in models_in(field.annotation):
            if inner not in seen and inner is not Custom:
                yield from _fields(inner, f"{path}.", (*seen, model))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _components(field: FieldInfo) -> tuple[type[Settings], ...]:
    """The built-in settings that a component field takes; none for other fields."""
    models = models_in(field.annotation)
    return tuple(model for model in models if issubclass(model, Settings)) if Custom in models else ()


def _role_name(field: FieldInfo, path: str) -> str:
    """The field's role; parsers are told apart by format."""
    marks = [*field.metadata, *_marks(field.annotation)]
    name = next((mark.name for mark in marks if isinstance(mark, ComponentRole)), "component")
    return f"{name} ({path.rsplit('.', 1)[-1]})" if ".parse." in path else name


def _marks(annotation: Any) -> list[Any]:
    inner = [mark for part in get_args(annotation) for mark in _marks(part)]
    return [*getattr(annotation, "__metadata__", ()), *inner]


def summary_of(model: type[BaseModel]) -> str:
    """The first paragraph of its docstring, in one line."""
    return one_line(_EMPTY.split(model.__doc__ or "")[0])


def one_line(text: str) -> str:
    """Line breaks and runs of blanks as one blank."""
    return " ".join(text.split())


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, ensure_ascii=False, default=str)


def _type_of(field: FieldInfo) -> str:
    if _components(field):
        return "component"
    shown = str(field.annotation)
    if isinstance(field.annotation, type):
        shown = field.annotation.__name__
    shown = re.sub(r"\b(?:[a-zA-Z_]\w*\.)+(\w+)", r"\1", shown)
    shown = re.sub(r"Annotated\[(\w+), [^\]]*\]", r"\1", shown)
    words = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "NoneType": "none"}
    if shown.startswith("Literal["):
        return " or ".join(part.strip(" '") for part in shown[8:-1].split(","))
    return re.sub(r"\b(str|int|float|bool|NoneType)\b", lambda m: words[m.group()], shown.replace("|", "or"))
