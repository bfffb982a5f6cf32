"""The generated pages and schema, the component list, the shipped configs, and what `init` makes of them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml
from ragladder.ladder.cli.app import app
from ragladder.ladder.config import load_experiment
from ragladder.ladder.config_keys import roles
from ragladder.ladder.json_outputs import json_outputs
from ragladder.ladder.reference import ROOT, experiment_schema, reference_files
from ragladder.ladder.templates import shipped_configs

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", reference_files(), ids=str)
def test_what_is_generated_is_up_to_date(file: Path) -> None:
    written = (ROOT / file).read_text(encoding="utf-8")
    assert written == reference_files()[file], "run: python -m ragladder.ladder.reference"


def commands_of(command: Any, name: str = "") -> dict[str, Any]:
    """Every command below a group, by name."""
    children = getattr(command, "commands", {})
    if not children:
        return {name: command}
    return {
        key: one
        for child, inner in children.items()
        for key, one in commands_of(inner, f"{name} {child}".strip()).items()
    }


def test_every_command_takes_json_and_says_what_that_holds() -> None:
    commands = commands_of(typer.main.get_command(app))
    without = [name for name, one in commands.items() if not any("--json" in option.opts for option in one.params)]
    assert without == []
    assert set(commands) == set(json_outputs())


def test_every_key_of_json_is_described() -> None:
    page = reference_files()[Path("docs/reference/json.md")]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 300 and not [row for row in rows if row.endswith("|  |")]


def test_every_setting_is_described_and_every_component_says_what_it_costs() -> None:
    for role in roles():
        for entry in role.components:
            assert entry.summary and entry.cost, f"{role.name} {entry.kind}"
            bare = [setting.name for setting in entry.settings if not setting.meaning]
            assert not bare, f"{role.name} {entry.kind}"
    names = {role.name for role in roles()}
    assert {"chunker", "embedder", "index", "reranker", "generator", "context", "llm"} <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_fits_the_published_schema_and_loads(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=experiment.schema.json\n")
    data = yaml.safe_load(text)
    if (data["data"].get("format") or "") and not data["data"].get("path"):
        data["data"]["path"] = "."
    else:
        load_experiment(path)
    jsonschema.Draft202012Validator(experiment_schema()).validate(data)


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({"pipeline": {"chunk": "sentence"}}, True),
        ({"pipeline": {"chunk": "mine:Chunker"}}, True),
        ({"pipeline": {"chunk": {"kind": "mine:Chunker", "anything": 1}}}, True),
        ({"pipeline": {"chunk": {"kind": "sentence", "siez": 3}}}, False),
        ({"pipeline": {"chunk": "sentense"}}, False),
        ({"pipeline": {"chunck": "sentence"}}, False),
        ({"gate": {"alpha": "much"}}, False),
    ],
)
def test_the_schema_tells_right_from_wrong(change: dict[str, Any], right: bool) -> None:
    config = {"data": {"documents": "docs", "questions": "questions.jsonl"}, **change}
    assert jsonschema.Draft202012Validator(experiment_schema()).is_valid(config) is right


def test_components_are_listed_and_looked_up(cli: Callable[..., Any]) -> None:
    everything = cli("components")
    assert everything.code == 0 and "reranker" in everything.out and "your own" in everything.out
    one = cli("components", "chunker", "recursive")
    assert "overlap (integer; 32)" in one.out and "sentence_window" not in one.out
    data = json.loads(cli("components", "chunker", "--json").out)
    assert [role["name"] for role in data] == ["chunker"]
    assert {"kind", "summary", "cost", "settings"} <= set(data[0]["components"][0])
    wrong = cli("components", "chonker")
    assert wrong.code == 2 and "there is no role 'chonker'; did you mean 'chunker'?" in wrong.err
    assert cli("components", "chunker", "recursiv").code == 2


def test_shipped_configs_are_listed_shown_and_copied(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = cli("configs", "ls")
    assert listed.out.startswith("quickstart")
    assert all(one.name in listed.out and one.purpose for one in shipped_configs())
    assert {row["name"] for row in json.loads(cli("configs", "ls", "--json").out)} == {c.stem for c in CONFIGS}
    assert "location: http://localhost:6333" in cli("configs", "show", "qdrant-server").out
    assert cli("configs", "copy", "qdrant-server").code == 0
    assert load_experiment(tmp_path / "qdrant-server.yaml").name == "qdrant-server"
    again = cli("configs", "copy", "qdrant-server")
    assert again.code == 3 and "is there already" in again.err
    wrong = cli("configs", "show", "qdrant-sever")
    assert wrong.code == 2 and "did you mean 'qdrant-server'?" in wrong.err


def test_init_makes_a_folder_from_a_template(cli: Callable[..., Any], tmp_path: Path) -> None:
    made = cli("init", tmp_path / "mine", "--template", "judge-openai")
    assert made.code == 0 and "ragladder check judge-openai.yaml" in made.out
    made_files = sorted(file.name for file in (tmp_path / "mine").iterdir())
    assert made_files == ["experiment.schema.json", "judge-openai.yaml"]
    assert cli("init", tmp_path / "other", "--template", "nothing").code == 2
    assert not (tmp_path / "other").exists()


def test_init_starts_on_ones_own_documents_and_questions(
    words: Any, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "questions.csv"
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["question", "answer", "evidence"])
        for row in words.rows():
            if row.get("evidence"):
                writer.writerow([row["question"], row["answer"], row["evidence"][0]["text"]])
    made = cli("init", tmp_path / "mine", "--documents", words.docs, "--questions", table)
    assert made.code == 0, made.err
    assert "12 documents read" in made.out and "48 questions, split by document" in made.out
    assert "you can detect" in made.out and "next: ragladder climb" in made.out
    text = (tmp_path / "mine" / "ladder.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=experiment.schema.json\n")
    schema = json.loads((tmp_path / "mine" / "experiment.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))
    config = load_experiment(tmp_path / "mine" / "ladder.yaml")
    assert config.rungs.embedding is not None and config.rungs.llm is None
    monkeypatch.chdir(tmp_path)
    checked = cli("check", tmp_path / "mine" / "ladder.yaml")
    assert checked.code == 0, checked.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--documents", "docs"], 2, "go together"),
        (["--documents", "docs", "--questions", "nothing.csv"], 3, "there is no such file"),
        (["--documents", "nowhere", "--questions", "questions.jsonl"], 3, "nowhere"),
        (["--documents", "docs", "--questions", "questions.jsonl", "--template", "qdrant-server"], 2, "--template"),
    ],
)
def test_init_says_what_it_cannot_use(
    words: Any, cli: Callable[..., Any], arguments: list[str], code: int, says: str
) -> None:
    result = cli("init", "mine", *arguments)
    assert result.code == code and says in result.err
    assert not Path("mine").exists()


@pytest.mark.slow
def test_the_example_plugin_is_built_installed_and_used(words: Any, tmp_path: Path) -> None:
    example = ROOT / "examples" / "plugin"
    if not example.is_dir():
        pytest.skip("needs the source tree")
    copy = tmp_path / "plugin"
    copy.mkdir()
    for name in ("pyproject.toml", "ragladder_paragraphs.py"):
        (copy / name).write_text((example / name).read_text())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(copy)], check=True, cwd=tmp_path)
    line = [sys.executable, "-c", "import ragladder.ladder.cli as cli; cli.main()", "eval", str(words.config), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def evaluated(chunk: str) -> subprocess.CompletedProcess[str]:
        command = [*line, "--set", f"pipeline.chunk={chunk}"]
        return subprocess.run(command, cwd=words.root, env=environment, capture_output=True, text=True, check=False)

    done = evaluated("{kind: paragraphs, least: 30}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["ndcg@5"]["n_ok"] > 0
    wrong = evaluated("{kind: paragraphs, leats: 30}")
    assert wrong.returncode == 2 and "leats" in wrong.stderr
