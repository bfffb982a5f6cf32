"""What can be written into a config, read off the settings models: the JSON schema and the docs.

`python -m ragladder.ladder.reference` writes `configs/experiment.schema.json` and the pages of `docs/reference` again;
a test fails where they are stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from ..core.components import Custom, Settings, kinds_of
from .config import ExperimentConfig
from .config_keys import SettingEntry, models_in, one_line, roles, settings_of, summary_of
from .json_outputs import json_outputs

__all__ = ["ROOT", "commands_page", "config_page", "experiment_schema", "json_page", "reference_files"]

ROOT = Path(__file__).resolve().parent.parent
_EMPTY = re.compile(r"\n\s*\n")


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
    parts = [f"## {title}\n\n{summary_of(model)}\n", _table(settings_of(model))]
    for name, field in model.model_fields.items():
        below = f"{path}.{name}".lstrip(".")
        # a component's own sections (an LLM's prompt) are listed below it
        for inner in models_in(field.annotation):
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
        for inner in models_in(field.annotation):
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
        "failed, 5 budget used up, 130 Ctrl-C. `--json` prints JSON on standard output and nothing else "
        "([its keys](json.md)). Progress goes to standard error; `NO_COLOR=1` takes the colours away. Shell "
        "completion: `ragladder --install-completion`.\n",
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
    rows = [(_argument(p), one_line(p.help)) for p in arguments]
    rows += [(_option(p), one_line(p.help or "") + _shown_default(p)) for p in options]
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


def json_page() -> str:
    """`docs/reference/json.md`: what every command prints with `--json`."""
    parts = [
        _HEAD + "# What `--json` prints\n",
        "One JSON value on standard output, nothing else; errors go to standard error, with the exit code. New "
        "versions add keys; what they rename or take out stands in the changelog.\n",
    ]
    shown: list[type[BaseModel]] = []
    for name, (output, many) in json_outputs().items():
        parts.append(f"## `ragladder {name} --json`\n")
        if many:
            parts.append("A list of:\n")
        if isinstance(output, type):
            parts.append(
                f"[{_type_name(output)}](#{_type_name(output).lower().replace(' ', '-')}): {summary_of(output)}\n"
            )
            shown += [model for model in (output, *_below(output)) if model not in shown]
        else:
            parts.append("| key | |\n|---|---|\n" + "".join(f"| `{k}` | {_cell(v)} |\n" for k, v in output.items()))
    names = [_type_name(model) for model in shown]
    if len(set(names)) < len(names):
        raise ValueError(f"two models of the same name are printed: {sorted(names)}")
    for model in sorted(shown, key=_type_name):
        rows = "".join(f"| `{one.name}` | {_cell(one.type)} | {_cell(one.meaning)} |\n" for one in settings_of(model))
        parts.append(f"## {_type_name(model)}\n\n{summary_of(model)}\n\n| key | type | |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def _below(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models within a model; settings stand on the page of the config."""
    found: list[type[BaseModel]] = []
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            if not issubclass(inner, Settings) and inner not in found:
                found += [one for one in (inner, *_below(inner)) if one not in found]
    return found


def _type_name(model: type[BaseModel]) -> str:
    """Its name; that of a finding, which two parts have, with the part."""
    part = model.__module__.split(".")[1]
    return f"{model.__name__} of {part}" if model.__name__ == "Finding" else model.__name__


def reference_files() -> dict[Path, str]:
    """Generated file, below the repository's root, and what it must hold."""
    return {
        Path("configs/experiment.schema.json"): _schema_text(),
        Path("docs/reference/config.md"): config_page(),
        Path("docs/reference/commands.md"): commands_page(),
        Path("docs/reference/json.md"): json_page(),
    }


if __name__ == "__main__":
    for file, text in reference_files().items():
        (ROOT / file).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / file).write_text(text, encoding="utf-8")
        print(file)
