"""How the command starts: quick, in plain text, with exit codes and sentences for mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import ragladder
from ragladder.ladder.json_outputs import json_outputs

HEAVY = ("torch", "transformers", "numpy", "pydantic", "pandas", "ragas", "rich", "sentence_transformers", "yaml")


def run(*arguments: str, code: str = "from ragladder.ladder.cli import main; main()") -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", f"import sys; sys.argv[0] = 'ragladder'; {code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_nothing_heavy_is_imported_to_start(argument: str) -> None:
    code = f"""
from ragladder.ladder.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", [name for name in {HEAVY} if name in sys.modules])"""
    done = run(argument, code=code)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "loaded: []", done.stdout + done.stderr


def test_version() -> None:
    assert run("--version").stdout == f"ragladder {ragladder.__version__}\n"


def test_help_names_every_command_in_a_whole_sentence_of_plain_text() -> None:
    text = run("--help").stdout
    for name in ("init", "check", "climb", "report", "runs", "ask", "eval", "compare", "export", "doctor"):
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith("."), line
        assert not line.endswith("..."), line
    assert "\x1b" not in text
    assert "\n    ragladder init mine --documents DOCS --questions QUESTIONS.csv\n    ragladder climb mine/" in text


@pytest.mark.parametrize("group", ["runs", "configs", "data", "judge", "embed", "llm"])
def test_a_group_lists_its_commands_in_whole_sentences(group: str) -> None:
    listed = run(group, "--help").stdout.split("Commands:\n")[1]
    assert listed.rstrip().endswith(".") and "..." not in listed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["climb"], "Missing argument"),
        (["clmb"], "No such command 'clmb'"),
        (["climb", "x.yaml", "--siez"], "No such option"),
        (["eval", "x.yaml", "--split", "none"], "'none' is not one of"),
        (["climb", "no-such.yaml"], "error: no-such.yaml: no such file"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_says_why_on_standard_error(arguments: list[str], expected: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr and "Traceback" not in done.stderr


def test_init_says_what_to_run_next_and_refuses_a_full_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my first"
    done = run("init", str(folder))
    assert done.returncode == 0 and (folder / "quickstart.yaml").is_file()
    assert done.stdout.splitlines()[-1] == f"next: cd '{folder}' && ragladder climb quickstart.yaml"
    first = (folder / "quickstart.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=experiment.schema.json"
    assert (folder / "experiment.schema.json").is_file()
    again = run("init", str(folder))
    assert again.returncode == 3 and again.stderr.startswith("error: ") and again.stdout == ""


def test_json_of_small_commands_is_what_the_reference_says(tmp_path: Path) -> None:
    folder, copied = tmp_path / "made", tmp_path / "copy.yaml"
    printed = {
        "init": run("init", str(folder), "--json"),
        "configs show": run("configs", "show", "quickstart", "--json"),
        "configs copy": run("configs", "copy", "quickstart", str(copied), "--json"),
        "configs ls": run("configs", "ls", "--json"),
        "components": run("components", "chunker", "--json"),
        "doctor": run("doctor", "--json"),
        "check": run("check", str(folder / "quickstart.yaml"), "--json"),
    }
    for name, done in printed.items():
        assert done.returncode == 0, f"{name}: {done.stderr}"
        keys, many = json_outputs()[name]
        found = json.loads(done.stdout)
        assert isinstance(keys, Mapping) and set(found[0] if many else found) == set(keys), name
    assert json.loads(printed["init"].stdout)["config"] == str(folder / "quickstart.yaml")
    assert json.loads(printed["configs copy"].stdout)["config"] == str(copied) and copied.is_file()


def test_no_run_yet_says_how_to_make_one(tmp_path: Path) -> None:
    assert "ragladder climb CONFIG" in run("runs", "ls", "--cache-dir", str(tmp_path)).stdout
    empty = run("ask", "latest", " ", "--cache-dir", str(tmp_path))
    assert empty.returncode == 2 and empty.stderr.startswith("error: the question is empty")
    asked = run("ask", "latest", "why?", "--cache-dir", str(tmp_path))
    assert asked.returncode == 3 and asked.stderr.startswith("error: no run is called 'latest'")
    assert "ragladder climb CONFIG" in asked.stderr


def test_a_suggested_command_finds_the_same_runs() -> None:
    from ragladder.ladder.cli.options import cache_dir_option, command

    assert cache_dir_option(Path(".ragladder")) == ""
    assert cache_dir_option(Path("a b")) == " --cache-dir 'a b'"
    assert command("climb", Path("x.yaml"), ["a={b: 1}"]) == "ragladder climb x.yaml --set 'a={b: 1}'"


LOGGING = """
import logging
from ragladder.ladder.cli.logs import third_party_logs
third_party_logs({verbose})
logging.getLogger("bm25s").setLevel(logging.DEBUG)
logging.basicConfig()
for level in ("debug", "info", "warning"):
    getattr(logging.getLogger("bm25s"), level)(level)
    getattr(logging.getLogger("other"), level)(level)"""


@pytest.mark.parametrize(("verbose", "shown"), [(False, ["warning"]), (True, ["info", "warning"])])
def test_libraries_cannot_bring_their_debug_lines_to_the_terminal(verbose: bool, shown: list[str]) -> None:
    done = run(code=LOGGING.format(verbose=verbose))
    levels = [line.split(": ")[-1] for line in done.stderr.splitlines()]
    assert levels == [level for level in shown for _ in range(2)]


def test_ctrl_c_exits_with_130_and_says_the_command_to_resume() -> None:
    code = """
import os, signal
from ragladder.ladder.cli import app as module
@module.app.command("wait")
def wait(): os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs deaf to it
module.main()"""
    done = run("wait", code=code)
    assert done.returncode == 130 and "go on by the same command:\n  ragladder wait\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from ragladder.ladder.cli import main; main()", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert done.stderr == "" and done.returncode != -signal.SIGPIPE
