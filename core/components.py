"""Components: parsers, chunkers, rerankers and the like, chosen by name in a config file.

A built-in component is a frozen `Settings` model with a literal `kind` and a `build` method. A section of the config
that takes one is `Section[...]`, made by `component_section`: a union of the built-in settings, told apart by `kind`, plus
`Custom` for `module:attribute` and for names registered under the entry-point group `ragladder.<role>`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from .errors import ComponentError

__all__ = ["Custom", "Model", "Resources", "Settings", "component_section", "kinds_of", "load_attribute"]


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
    """A component from outside: `kind` is `module:attribute` or an entry-point name, the other keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str

    @model_validator(mode="after")
    def _arguments_fit(self) -> Custom:
        target = load_attribute(self.kind)
        settings = getattr(target, "Settings", None)
        if settings is None and self.model_extra:
            raise PydanticCustomError(
                "component_arguments",
                "'{kind}' has no Settings model, so it takes no settings; got {keys}",
                {"kind": self.kind, "keys": ", ".join(sorted(self.model_extra))},
            )
        if settings is not None:
            try:
                settings.model_validate(self.model_extra or {})
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise PydanticCustomError(
                    "component_arguments",
                    "'{kind}': {where}: {why}",
                    {"kind": self.kind, "where": where, "why": first["msg"]},
                ) from None
        return self

    def build(self, resources: Resources) -> Any:
        """Makes the component: `target(settings, resources)` where it has a `Settings` model, else `target()`."""
        target = load_attribute(self.kind)
        settings = getattr(target, "Settings", None)
        return target() if settings is None else target(settings.model_validate(self.model_extra or {}), resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings and the hash of the component's source file, so that edited code is a new component."""
        import hashlib
        import inspect

        source = inspect.getsourcefile(load_attribute(self.kind))
        digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
        return {**self.model_dump(mode="json"), "source_sha256": digest}


def load_attribute(name: str) -> Any:
    """Loads `module:attribute`, or the entry point called `name` in a group that starts with `ragladder.`.

    The working directory is searched first, so that a module beside the config file is found.

    Raises:
        ComponentError: No such module, attribute or entry point, or the module fails to import.
    """
    if ":" not in name:
        found = [entry for entry in entry_points() if entry.group.startswith("ragladder.") and entry.name == name]
        if not found:
            raise ComponentError(f"no component is called '{name}'; use module:attribute for your own")
        return found[0].load()
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ComponentError(f"component '{name}': importing '{module_name}' failed: {error!r}") from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ComponentError(f"component '{name}': module '{module_name}' has no '{attribute}'{hint}")
    return getattr(module, attribute)


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
        return ":" in kind or any(entry.name == kind for entry in entry_points(group=f"ragladder.{role}"))

    def named(value: Any) -> Any:
        """Checks the kind here: pydantic reports what a validator raises, but not what a discriminator does."""
        value = {"kind": value} if isinstance(value, str) else value
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        if not isinstance(kind, str):
            raise PydanticCustomError("component_kind", "say which {role} by the key 'kind'", {"role": role})
        if kind not in kinds and not is_custom(kind):
            near = difflib.get_close_matches(kind, kinds, 1)
            hint = f"did you mean '{near[0]}'?" if near else "built in: " + ", ".join(sorted(kinds))
            raise PydanticCustomError(
                "component_kind", "unknown {role} '{kind}' ({hint})", {"role": role, "kind": kind, "hint": hint}
            )
        return value

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return kind if kind in kinds else "custom"

    members: list[Any] = [Annotated[model, Tag(kind)] for model in models for kind in kinds_of(model)]
    members.append(Annotated[Custom, Tag("custom")])
    return Annotated[Union[tuple(members)], Discriminator(tag), BeforeValidator(named)]
