"""What can be written into a config, read off the settings models: the component list, the JSON schema, the docs.

`python -m ragladder.ladder.reference` writes `configs/experiment.schema.json`, `docs/reference/config.md` and
`docs/reference/commands.md` again; a test fails where they are stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..core.components import ComponentRole, Custom, Settings, kinds_of
from .config import ExperimentConfig

__all__ = [
    "ROOT",
    "ComponentEntry",
    "Role",
    "SettingEntry",
    "commands_page",
    "config_page",
    "experiment_schema",
    "reference_files",
    "roles",
    "settings_of",
]

ROOT = Path(__file__).resolve().parent.parent
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
        SettingEntry(name, _type_of(field), _default(field), _one_line(field.description or ""))
        for name, field in model.model_fields.items()
        if name != "kind"
    )


def _entry(model: type[Settings]) -> ComponentEntry:
    return ComponentEntry(kinds_of(model)[0], _summary(model), model.cost, settings_of(model))


def _fields(model: type[BaseModel], prefix: str = "", seen: tuple[type, ...] = ()) -> Iterator[tuple[str, FieldInfo]]:
    """All fields below a model with their key paths; components' own fields too, each model once a path."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        yield path, field
        for inner in _models_in(field.annotation):
            if inner not in seen and inner is not Custom:
                yield from _fields(inner, f"{path}.", (*seen, model))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _components(field: FieldInfo) -> tuple[type[Settings], ...]:
    """The built-in settings that a component field takes; none for other fields."""
    models = _models_in(field.annotation)
    return tuple(model for model in models if issubclass(model, Settings)) if Custom in models else ()


def _role_name(field: FieldInfo, path: str) -> str:
    """The field's role; parsers are told apart by format."""
    marks = [*field.metadata, *_marks(field.annotation)]
    name = next((mark.name for mark in marks if isinstance(mark, ComponentRole)), "component")
    return f"{name} ({path.rsplit('.', 1)[-1]})" if ".parse." in path else name


def _marks(annotation: Any) -> list[Any]:
    inner = [mark for part in get_args(annotation) for mark in _marks(part)]
    return [*getattr(annotation, "__metadata__", ()), *inner]


def _summary(model: type[BaseModel]) -> str:
    return _one_line(_EMPTY.split(model.__doc__ or "")[0])


def _one_line(text: str) -> str:
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


# --- JSON schema ---------------------------------------------------------------------------------------------------


@cache
def _schema_text() -> str:
    schema = ExperimentConfig.model_json_schema()
    kinds = {name for name, body in schema["$defs"].items() if "kind" in body.get("properties", {})}
    for name in kinds:
        body = schema["$defs"][name]
        body["required"] = ["kind", *(key for key in body.get("required", ()) if key != "kind")]
    custom = schema["$defs"]["Custom"]["properties"]["kind"]
    custom["pattern"] = ":"
    _with_bare_names(schema, schema["$defs"])
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ragladder experiment",
        "description": "One YAML file, one experiment. Plugins are known here as module:attribute only.",
    }
    return json.dumps({**schema, **head}, indent=1, ensure_ascii=False) + "\n"


def _with_bare_names(node: Any, defs: dict[str, Any]) -> None:
    """A component may be written as its bare name: then it has its defaults."""
    if isinstance(node, list):
        for child in node:
            _with_bare_names(child, defs)
        return
    if not isinstance(node, dict):
        return
    for child in node.values():
        _with_bare_names(child, defs)
    members = node.get("oneOf")
    if not members or {"$ref": "#/$defs/Custom"} not in members:
        return
    names = []
    for member in members:
        body = defs[member["$ref"].rsplit("/", 1)[-1]]
        kind = body["properties"]["kind"]
        if "const" in kind and body["required"] == ["kind"]:
            names.append(kind["const"])
    node["anyOf"] = [*node.pop("oneOf"), {"enum": names}, {"type": "string", "pattern": ":"}]


def experiment_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an experiment's YAML file, for editors."""
    return json.loads(_schema_text())


# --- pages -----------------------------------------------------------------------------------------------------------

_HEAD = "<!-- Written by `python -m ragladder.ladder.reference`; edit the docstrings instead. -->\n\n"


def config_page() -> str:
    """`docs/reference/config.md`: every key of a config."""
    parts = [
        _HEAD + "# Every key of a config\n",
        "One YAML file is one experiment. `ragladder check` names each mistake with its line; editors that know JSON "
        "schema complete the keys with `# yaml-language-server: $schema=experiment.schema.json` as the first line. "
        "A component is a bare name (`chunk: sentence`), a mapping with `kind`, or `module:attribute` of your own "
        "([how](../extending.md)).\n",
    ]
    done: set[type] = set()
    parts += _sections(ExperimentConfig, "", done)
    for role in roles():
        parts.append(f"## Component: {role.name}\n")
        parts.append("Stands at " + ", ".join(f"`{path}`" for path in role.paths) + ".\n")
        for entry in role.components:
            cost = f" *Cost: {entry.cost}.*" if entry.cost else ""
            parts.append(f"### {role.name}: `{entry.kind}`\n\n{entry.summary}{cost}\n")
            if entry.settings:
                parts.append(_table(entry.settings))
    return "\n".join(parts)


def _sections(model: type[BaseModel], path: str, done: set[type]) -> list[str]:
    if model in done:
        return []
    done.add(model)
    title = f"`{path}`" if path else "Top level"
    if "kind" in model.model_fields:
        title += f" with `kind: {' or '.join(kinds_of(model))}`"
    parts = [f"## {title}\n\n{_summary(model)}\n", _table(settings_of(model))]
    for name, field in model.model_fields.items():
        below = f"{path}.{name}".lstrip(".")
        # a component's own sections (an LLM's prompt) are listed below it
        for inner in _models_in(field.annotation):
            if inner is not Custom:
                parts += (
                    _sections(inner, below, done)
                    if not issubclass(inner, Settings)
                    else _inner_sections(inner, below, done)
                )
    return parts


def _inner_sections(component: type[BaseModel], path: str, done: set[type]) -> list[str]:
    parts: list[str] = []
    for name, field in component.model_fields.items():
        for inner in _models_in(field.annotation):
            if inner is not Custom and not issubclass(inner, Settings):
                parts += _sections(inner, f"{path}.{name}", done)
    return parts


def _table(settings: Sequence[SettingEntry]) -> str:
    lines = ["| key | type | default | |", "|---|---|---|---|"]
    for one in settings:
        default = "*required*" if one.default is None else f"`{_cell(_short(one.default))}`"
        lines.append(f"| `{one.name}` | {_cell(one.type)} | {default} | {_cell(one.meaning)} |")
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def commands_page() -> str:
    """`docs/reference/commands.md`: every command with its options, from the CLI itself."""
    import typer.main

    from .cli.app import app

    parts = [
        _HEAD + "# Every command\n",
        "Exit codes: 0 done (a gate that says *stop* is a result), 1 an unexpected error, 2 config, 3 data, 4 a step "
        "failed, 5 budget used up, 130 Ctrl-C. `--json` prints JSON on standard output and nothing else. Progress goes "
        "to standard error; `NO_COLOR=1` takes the colours away. Shell completion: `ragladder --install-completion`.\n",
    ]
    root = typer.main.get_command(app)
    parts += _commands(root, "ragladder")
    return "\n".join(parts)


def _commands(command: Any, name: str) -> list[str]:
    children = getattr(command, "commands", {})
    if children:
        return [part for child in children for part in _commands(children[child], f"{name} {child}")]
    usage = " ".join([name, *(_argument(p) for p in command.params if p.param_type_name == "argument")])
    parts = [f"## `{usage}`\n", _EMPTY.sub("\n\n", (command.help or "").strip()) + "\n"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    arguments = [p for p in command.params if p.param_type_name == "argument" and getattr(p, "help", None)]
    rows = [(_argument(p), _one_line(p.help)) for p in arguments]
    rows += [(_option(p), _one_line(p.help or "") + _shown_default(p)) for p in options]
    if rows:
        parts.append("| | |\n|---|---|\n" + "".join(f"| `{_cell(a)}` | {_cell(b)} |\n" for a, b in rows))
    return parts


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.rstrip("_").upper()
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    annotation = parameter.type_descriptor.annotation
    if annotation is bool:
        return names
    choices = [str(value) for value in get_args(annotation) if isinstance(value, str)]
    word = {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(annotation, "TEXT")
    return f"{names} {parameter.metavar or '|'.join(choices) or word}"


def _shown_default(parameter: Any) -> str:
    default = parameter.default
    if default in (None, False, (), []) or callable(default):
        return ""
    return f" Default: {default}."


def reference_files() -> dict[Path, str]:
    """Generated file, below the repository's root, and what it must hold."""
    return {
        Path("configs/experiment.schema.json"): _schema_text(),
        Path("docs/reference/config.md"): config_page(),
        Path("docs/reference/commands.md"): commands_page(),
    }


if __name__ == "__main__":
    for file, text in reference_files().items():
        (ROOT / file).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / file).write_text(text, encoding="utf-8")
        print(file)
