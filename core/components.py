"""Components: parsers, chunkers, rerankers and the like, chosen by name in a config file.

A built-in component is a frozen `Settings` model with a literal `kind` and a `build` method. The type of a config
section that takes one is made by `component_section`: a union of the built-in settings, told apart by `kind`, plus
`Custom` for `module:attribute` and for names registered under the entry-point group `ragladder.<role>`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from .errors import ComponentError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "ComponentRole",
    "Custom",
    "Model",
    "Resources",
    "Settings",
    "component_section",
    "kinds_of",
    "load_attribute",
]


class Model(BaseModel):
    """Base of every config section and record: frozen, unknown keys refused, field docstrings kept for the docs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Resources:
    """What components may use and what never changes a result.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`, `mps`; already resolved, never `auto`.
        workers: Processes or threads for work that can be shared out.
        base_dir: Folder that relative paths of the config start from.
        cache_dir: Where components may keep what they can make again.
        env: Environment variables, for credentials named by `*_env` settings.
    """

    device: str = "cpu"
    workers: int = 1
    base_dir: Path = Path(".")
    cache_dir: Path = Path(".ragladder")
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def path(self, text: str) -> Path:
        """A path of the config as a path of this machine: `~` expanded, relative ones below `base_dir`."""
        path = Path(text).expanduser()
        return path if path.is_absolute() else self.base_dir / path


@dataclass(frozen=True, slots=True)
class ComponentRole:
    """Marks a config field that takes a component; `name` is the role, as in the entry-point group."""

    name: str


class Settings(Model):
    """Base of the settings of a built-in component. Subclasses set `kind: Literal[...]` and define `build`.

    Attributes:
        version: Raised when the component's result changes for the same settings; part of every stage key.
        cost: What it costs, in a few words, for `ragladder components` and the docs.
    """

    version: ClassVar[int] = 1
    cost: ClassVar[str] = ""

    def build(self, resources: Resources) -> Any:
        """Makes the component."""
        raise NotImplementedError

    def identity(self, resources: Resources) -> dict[str, Any]:
        """All that determines the component's result, as JSON values; models add a fingerprint of their weights."""
        return {**self.model_dump(mode="json"), "version": self.version}


class Custom(Model):
    """A component from outside: `kind` is `module:attribute` or an entry-point name; other keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str
    """`module:attribute`, or the name of an entry point in a group `ragladder.<role>`."""

    @model_validator(mode="after")
    def _arguments_fit(self) -> Custom:
        # Raised as pydantic's own error, so that it is reported with its line and beside all other problems.
        try:
            settings = _settings_model(load_attribute(self.kind))
        except ComponentError as error:
            raise PydanticCustomError("component_kind", "{why}", {"why": str(error)}) from None
        given = self.model_extra or {}
        if settings is None:
            problems = ["it has no Settings model, so it takes no settings; got " + ", ".join(sorted(given))]
            problems = problems if given else []
        else:
            problems = _unfit(settings, given)
        if problems:
            raise PydanticCustomError(
                "component_arguments", "'{kind}': {why}", {"kind": self.kind, "why": "; ".join(problems)}
            )
        return self

    def build(self, resources: Resources) -> Any:
        """Makes the component: `target(settings, resources)` where it has a `Settings` model, else `target()`."""
        target = load_attribute(self.kind)
        settings = _settings_model(target)
        return target() if settings is None else target(settings.model_validate(self.model_extra or {}), resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings and the hash of the component's source file, so that edited code is a new component.

        Raises:
            ComponentError: It has no source file, so a later edit of it could not be noticed.
        """
        import hashlib
        import inspect

        module = inspect.getmodule(load_attribute(self.kind)) or sys.modules.get(self.kind.partition(":")[0])
        source = getattr(module, "__file__", None)
        if not source or not Path(source).is_file():
            raise ComponentError(f"component '{self.kind}' has no source file; put it into a module of its own")
        digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        return {**self.model_dump(mode="json"), "source_sha256": digest}


def _settings_model(target: Any) -> type[BaseModel] | None:
    settings = getattr(target, "Settings", None)
    if settings is None or (isinstance(settings, type) and issubclass(settings, BaseModel)):
        return settings
    raise ComponentError(f"the Settings of {target!r} must be a pydantic model")


def _unfit(settings: type[BaseModel], given: Mapping[str, Any]) -> list[str]:
    """What is wrong with a custom component's arguments; a misspelt one also where its model would drop it."""
    problems = []
    if settings.model_config.get("extra") in (None, "ignore"):
        known = {*settings.model_fields, *(f.alias for f in settings.model_fields.values() if f.alias)}
        for name in sorted(set(given) - known):
            hint = did_you_mean(name, known)
            problems.append(f"{name}: unknown key" + (f" ({hint})" if hint else ""))
    try:
        settings.model_validate(given)
    except ValidationError as error:
        problems += [f"{'.'.join(str(part) for part in one['loc']) or '(top)'}: {one['msg']}" for one in error.errors()]
    return problems


def load_attribute(name: str) -> Any:
    """Loads `module:attribute`, or the entry point called `name` in a group that starts with `ragladder.`.

    The working directory is searched too, after the installed packages (a file there must not replace one of them).

    Raises:
        ComponentError: No such module, attribute or entry point, more than one, or the module fails to import.
    """
    if ":" not in name:
        return _load_entry_point(name)
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ComponentError(f"component '{name}': importing '{module_name}' failed: {error!r}") from error
    if not hasattr(module, attribute):
        hint = did_you_mean(attribute, dir(module))
        said = f"component '{name}': module '{module_name}' has no '{attribute}'"
        raise ComponentError(said + (f" ({hint})" if hint else ""))
    return getattr(module, attribute)


def _load_entry_point(name: str) -> Any:
    found = {entry.value: entry for entry in _entry_points(name) if entry.group.startswith("ragladder.")}
    if not found:
        raise ComponentError(f"no component is called '{name}'; use module:attribute for your own")
    if len(found) > 1:
        raise ComponentError(
            f"{len(found)} installed components are called '{name}': write which one is meant, "
            + " or ".join(f"'{value}'" for value in sorted(found))
        )
    [(value, entry)] = found.items()
    try:
        return entry.load()
    except Exception as error:
        raise ComponentError(f"component '{name}': loading its entry point '{value}' failed: {error!r}") from error


def _entry_points(name: str) -> list[EntryPoint]:
    # Imported late: it costs start-up time, and few configs name a component from outside.
    from importlib.metadata import entry_points

    return list(entry_points(name=name))


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The names under which a settings model is chosen."""
    return get_args(model.model_fields["kind"].annotation)


def component_section(role: str, *models: type[Settings]) -> Any:
    """The type of a config field that takes one component.

    Args:
        role: What it is called in messages and in the entry-point group, for instance `chunker`.
        *models: The built-in settings.

    Returns:
        An annotated union; a bare name in YAML means that component with its defaults.
    """
    kinds = [kind for model in models for kind in kinds_of(model)]

    def is_custom(kind: str) -> bool:
        return ":" in kind or any(entry.group == f"ragladder.{role}" for entry in _entry_points(kind))

    def named(value: Any) -> Any:
        """Checks the kind here: pydantic reports what a validator raises, but not what a discriminator does."""
        value = {"kind": value} if isinstance(value, str) else value
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        if not isinstance(kind, str):
            raise PydanticCustomError("component_kind", "say which {role} by the key 'kind'", {"role": role})
        if kind not in kinds and not is_custom(kind):
            hint = did_you_mean(kind, kinds, "built in: " + ", ".join(sorted(kinds)))
            raise PydanticCustomError(
                "component_kind", "unknown {role} '{kind}' ({hint})", {"role": role, "kind": kind, "hint": hint}
            )
        return value

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return kind if kind in kinds else "custom"

    members: list[Any] = [Annotated[model, Tag(kind)] for model in models for kind in kinds_of(model)]
    members.append(Annotated[Custom, Tag("custom")])
    return Annotated[Union[tuple(members)], Discriminator(tag), BeforeValidator(named), ComponentRole(role)]
