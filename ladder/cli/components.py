"""`ragladder components`: what can stand in a config, its settings and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ._show import print_json
from .options import Json

if TYPE_CHECKING:
    from ...core.errors import ConfigError
    from ..config_keys import ComponentEntry, Role

__all__ = ["components"]

_OWN = """\
your own: write `kind: my_module:MyClass` (a file in the working directory will do), or register the name as an entry
point in the group ragladder.<role>. With a pydantic model as `MyClass.Settings` it takes settings and is made by
MyClass(settings, resources); without one it is called without arguments. See docs/extending.md."""


def components(
    role: Annotated[str | None, typer.Argument(help="For instance chunker; all where not given.")] = None,
    kind: Annotated[str | None, typer.Argument(help="One component, with its settings.")] = None,
    json: Json = False,
) -> None:
    """List the built-in components: what each does, what it costs, its settings; and how to add your own."""
    from ..config_keys import roles

    wanted = [one for one in roles() if role is None or _matches(one.name, role)]
    if not wanted:
        raise _unknown("role", str(role), [one.name.split(" ")[0] for one in roles()])
    if kind is not None:
        wanted = _only(wanted, kind)
    if json:
        from dataclasses import asdict

        print_json([asdict(one) for one in wanted])
        return
    for one in wanted:
        print(f"{one.name}  ({', '.join(one.paths[:2])}{', …' if len(one.paths) > 2 else ''})")
        width = max(len(entry.kind) for entry in one.components)
        for entry in one.components:
            print(f"  {entry.kind:{width}}  {entry.summary}" + (f" Cost: {entry.cost}." if entry.cost else ""))
            if role is not None:
                _print_settings(entry)
    print(_OWN if role is None else "next: ragladder components, for all roles and how to add your own")


def _matches(name: str, asked: str) -> bool:
    return asked in (name, name.split(" ")[0])


def _only(wanted: list[Role], kind: str) -> list[Role]:
    from dataclasses import replace

    found = [
        replace(one, components=tuple(entry for entry in one.components if entry.kind == kind))
        for one in wanted
        if any(entry.kind == kind for entry in one.components)
    ]
    if not found:
        raise _unknown("built-in", kind, [entry.kind for one in wanted for entry in one.components])
    return found


def _unknown(what: str, asked: str, names: Sequence[str]) -> ConfigError:
    from ...core.errors import ConfigError, did_you_mean

    known = list(dict.fromkeys(names))
    near = f"{did_you_mean(asked, known)} ".lstrip()
    return ConfigError(f"there is no {what} '{asked}'; {near}there are: {', '.join(known)}")


def _print_settings(entry: ComponentEntry) -> None:
    for setting in entry.settings:
        default = "required" if setting.default is None else setting.default
        print(f"      {setting.name} ({setting.type}; {default}): {setting.meaning}")
