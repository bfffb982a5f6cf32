"""What can be wrong with what a user gives: the message, the exit code, and that nothing is left half-done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ragladder.ladder.records import LadderRecord

Cli = Callable[..., Any]
Change = Callable[[dict[str, Any]], Any]


def refused(ran: Any, code: int, *said: str) -> None:
    """The command failed in one clear message on standard error."""
    assert ran.code == code, ran
    assert ran.err.startswith("error: "), ran.err
    assert "Traceback" not in ran.err
    for text in said:
        assert text in ran.err, ran.err


def nothing_begun(space: Any) -> None:
    """No run folder and no unfinished stage."""
    assert not space.runs()
    assert not list(space.cache.glob("stages/.*"))
    assert not list(space.cache.rglob("*.tmp"))


def changed(space: Any, change: Change) -> Any:
    settings = space.settings()
    change(settings)
    space.write(settings)
    return space


def line_of(space: Any, text: str) -> int:
    return next(n for n, line in enumerate(space.config.read_text().splitlines(), 1) if text in line)


# --- config -----------------------------------------------------------------------------------------------------------

CONFIG_MISTAKES: dict[str, tuple[Change, str, tuple[str, ...]]] = {
    "misspelt key": (
        lambda s: s["pipeline"]["chunk"].update(siez=64),
        "siez:",
        ("pipeline.chunk.siez: unknown key (did you mean 'size'?)",),
    ),
    "misspelt section": (lambda s: s.update(pipelin={}), "pipelin:", ("unknown key (did you mean 'pipeline'?)",)),
    "unknown component": (
        lambda s: s["pipeline"].update(generate="extractiv"),
        "extractiv",
        ("did you mean 'extractive'?",),
    ),
    "sweep axis that does not exist": (
        lambda s: s["rungs"]["retrieval"]["space"].update({"retrieve.topk": [3]}),
        "retrieve.topk",
        ("rungs.retrieval.space", "retrieve.topk", "did you mean 'top_k'?"),
    ),
    "sweep value that does not fit": (
        lambda s: s["rungs"]["retrieval"]["space"].update({"retrieve.top_k": [-1]}),
        "retrieve.top_k",
        ("rungs.retrieval.space", "greater than or equal to 1"),
    ),
    "misspelt key beside a section named like its kind": (
        lambda s: s["pipeline"].update(generate={**endpoint("http://127.0.0.1:9/v1"), "prompt": {"templat": "plain"}}),
        "templat:",
        ("pipeline.generate.prompt.templat: unknown key (did you mean 'template'?)",),
    ),
    "misspelt key in a section named like its kind": (
        lambda s: s["pipeline"].update(generate=endpoint("http://127.0.0.1:9/v1", modle="m")),
        "modle:",
        ("pipeline.generate.llm.modle: unknown key (did you mean 'model'?)",),
    ),
    "prompt that does not exist": (
        lambda s: (
            s["pipeline"].update(generate=endpoint("http://127.0.0.1:9/v1")),
            s["rungs"].update(llm={"prompts": {"generate.prompt.template": ["plian"]}}),
        ),
        "generate.prompt.template",
        ("rungs.llm.prompts", "unknown template (did you mean 'plain'?)"),
    ),
    "rung metric that is not computed": (
        lambda s: s["rungs"]["retrieval"].update(metric="ndcg@7"),
        "",
        ("rungs.retrieval.metric 'ndcg@7' is not computed", "ndcg@5"),
    ),
    "answer metric that is not computed": (lambda s: s["score"].update(answer_metric="rouge9"), "", ("rouge9",)),
    "guardrail that is not computed": (
        lambda s: s["gate"].update(guardrails={"ndgc@5": 0.1}),
        "",
        ("ndgc@5", "not computed"),
    ),
    "key of an endpoint that is not set": (
        lambda s: s["pipeline"].update(generate=endpoint("http://127.0.0.1:9/v1", api_key_env="RAGLADDER_NO_SUCH_KEY")),
        "",
        ("RAGLADDER_NO_SUCH_KEY",),
    ),
}


def endpoint(url: str, **more: Any) -> dict[str, Any]:
    llm = {"kind": "openai", "base_url": url, "model": "m", "retries": 0, "timeout": 5, **more}
    return {"kind": "llm", "llm": llm}


CASES = [("check", mistake) for mistake in CONFIG_MISTAKES]
CASES += [("climb", "misspelt key"), ("climb", "key of an endpoint that is not set")]


@pytest.mark.parametrize(("command", "mistake"), CASES)
def test_a_mistake_in_the_config(mistake: str, command: str, words: Any, cli: Cli) -> None:
    change, text, said = CONFIG_MISTAKES[mistake]
    changed(words, change)
    ran = cli(command, words.config)
    refused(ran, 2, *said)
    if text:
        assert f"{words.config}:{line_of(words, text)}:" in ran.err
    nothing_begun(words)


def test_all_mistakes_are_told_at_once(words: Any, cli: Cli) -> None:
    changed(words, lambda s: (s["pipeline"].update(retreive={}), s.update(seed="x"), s["gate"].update(alpha=2)))
    refused(cli("check", words.config), 2, "retreive", "seed", "gate.alpha")


def test_a_config_that_is_not_there_not_yaml_or_not_text(words: Any, cli: Cli) -> None:
    refused(cli("check", "other.yaml"), 2, "other.yaml: no such file")
    words.config.write_text("name: x\ndata: [1, 2\n")
    refused(cli("check", words.config), 2, "experiment.yaml:", "not valid YAML")
    words.config.write_bytes("name: caf\xe9\n".encode("latin-1"))
    refused(cli("check", words.config), 2, "not UTF-8")


def test_an_override_is_checked_like_the_file(words: Any, cli: Cli) -> None:
    refused(cli("check", words.config, "--set", "pipeline.chunk.siez=3"), 2, "did you mean 'size'?")
    refused(cli("check", words.config, "--set", "seed"), 2, "expected key.path=value")


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "climb"])
def test_a_corpus_that_is_missing_or_empty(command: str, words: Any, cli: Cli) -> None:
    shutil.rmtree(words.docs)
    refused(cli(command, words.config), 3, str(words.docs), "no such folder")
    words.docs.mkdir()
    refused(cli(command, words.config), 3, str(words.docs), "no file")
    nothing_begun(words)


def bad_pdfs(folder: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(folder / "locked.pdf")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnot really\n")


@pytest.mark.parametrize("parser", ["pypdf", "pdfplumber"])
def test_files_that_cannot_be_read_are_listed_and_not_fatal(parser: str, words: Any, cli: Cli) -> None:
    bad_pdfs(words.docs)
    ran = cli("climb", words.config, "--set", f"pipeline.parse.pdf={parser}")
    assert ran.code == 0
    data = words.ladder()["data"]
    assert data["documents"] == 12
    assert set(data["failures"]) == {"locked.pdf", "broken.pdf"}
    assert "password" in data["failures"]["locked.pdf"] or "encrypted" in data["failures"]["locked.pdf"]
    for name in data["failures"]:
        assert name in ran.out + ran.err


def test_files_that_cannot_be_read_are_fatal_where_that_is_wanted(words: Any, cli: Cli) -> None:
    bad_pdfs(words.docs)
    ran = cli("climb", words.config, "-q", "--set", "pipeline.parse.strict=true")
    refused(ran, 3, "locked.pdf", "broken.pdf", "2 of 14 files")
    nothing_begun(words)


def test_a_text_in_another_encoding_is_read(words: Any, cli: Cli) -> None:
    (words.docs / "cafe.txt").write_bytes(("Das Café öffnet früh. Die Tür schließt um zehn Uhr. " * 5).encode("cp1252"))
    assert cli("climb", words.config, "-q").code == 0
    assert words.ladder()["data"] | {"documents": 13, "failures": {}} == words.ladder()["data"]


# --- questions --------------------------------------------------------------------------------------------------------


def test_evidence_that_is_nowhere_is_counted(words: Any, cli: Cli) -> None:
    rows = words.rows()
    lost = [row for row in rows if row["split"] == "dev" and row.get("evidence")][:3]
    for row in lost:
        row["evidence"][0]["text"] = "Nothing of the kind is written in any of these documents at all."
    words.write_rows(rows)
    ran = cli("climb", words.config)
    assert ran.code == 0
    ladder = words.ladder()
    assert ladder["data"]["evidence_lost"] == {"train": 0, "dev": 3, "test": 0}
    assert ladder["diagnosis"]["causes"]["lost_in_parsing"] == 3


@pytest.mark.parametrize("broken", ["text", "doc_id"])
def test_questions_of_other_documents(broken: str, words: Any, cli: Cli) -> None:
    rows = words.rows()
    for row in rows:
        for evidence in row.get("evidence", []):
            evidence[broken] = "Nothing of the kind is written in any of these documents at all."
    words.write_rows(rows)
    refused(cli("climb", words.config, "-q"), 3, "no evidence", "48 questions")
    nothing_begun(words)


def test_questions_that_cannot_be_read(words: Any, cli: Cli) -> None:
    rows = words.rows()
    words.write_rows([*rows, rows[0]])
    refused(cli("check", words.config), 3, f"questions.jsonl:{len(rows) + 1}:", "id 'q0-0' stands twice", ":1)")
    text = words.questions.read_text().splitlines()
    words.questions.write_text("\n".join([text[0], '{"id": "broken', *text[1:]]))
    refused(cli("check", words.config), 3, "questions.jsonl:2:", "not valid JSON")
    words.questions.write_text("\n".join([text[0], '{"id": "x", "questoin": "?"}', *text[1:]]))
    refused(cli("check", words.config), 3, "questions.jsonl:2:", "questoin")
    words.questions.write_bytes("\n".join([text[0], '{"id": "caf\xe9"}']).encode("latin-1"))
    refused(cli("check", words.config), 3, "questions.jsonl:2:", "UTF-8")
    words.questions.write_bytes("\n".join(text).encode("utf-16"))
    refused(cli("check", words.config), 3, "questions.jsonl:1:", "UTF-8")
    words.questions.write_text("")
    refused(cli("check", words.config), 3, "holds none")
    words.questions.unlink()
    refused(cli("check", words.config), 3, "questions", "no such file")
    nothing_begun(words)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_split_without_questions(split: str, words: Any, cli: Cli) -> None:
    changed(words, lambda s: s["rungs"].update(embedding={"metric": "ndcg@5"}))
    words.write_rows([row for row in words.rows() if row["split"] != split])
    for command in ("check", "climb"):
        refused(cli(command, words.config), 3, f"none has split '{split}'")
    nothing_begun(words)


def test_train_questions_are_needed_only_by_rungs_that_train(words: Any, cli: Cli) -> None:
    words.write_rows([row for row in words.rows() if row["split"] != "train"])
    assert cli("check", words.config).code == 0


# --- models and endpoints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "climb"])
def test_a_model_path_that_is_no_model(command: str, words: Any, cli: Cli) -> None:
    (words.root / "empty").mkdir()
    for path in ("./nothing", "./empty"):
        for key in ("embed.model", "generate"):
            value = path if key == "embed.model" else f"{{kind: llm, llm: {{kind: local, model: {path}}}}}"
            ran = cli(command, words.config, "--set", f"pipeline.{key}={value}")
            refused(ran, 3, path.removeprefix("./"))
    nothing_begun(words)


def test_an_endpoint_that_does_not_answer(words: Any, cli: Cli) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        changed(words, lambda s: s["pipeline"].update(generate=endpoint(url)))
        refused(cli("climb", words.config, "-q"), 4, url)
        ran = cli("check", words.config)
    assert "NOT REACHABLE" in ran.out
    assert ran.code == 4
    assert "can be climbed" not in ran.out
    assert not list(words.cache.glob("stages/.*"))
    assert not list(words.cache.glob("stages/generate-*"))


def test_a_check_asks_the_judge_and_the_reranker_too(words: Any, cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        changed(words, lambda s: s["score"].update(judge={"llm": endpoint(url)["llm"], "metrics": ["context_recall"]}))
        changed(words, lambda s: s["pipeline"].update(rerank={"kind": "endpoint", "base_url": url, "model": "m"}))
        ran = cli("check", words.config)
    assert ran.code == 4
    assert f"judge: NOT REACHABLE: no connection to {url}/models" in ran.out
    assert f"reranker: NOT REACHABLE: no connection to {url}/models" in ran.out


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_wherever_it_strikes(words: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, left = os.replace, [0]

    def until_full(source: Any, target: Any, **more: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target, **more)

    monkeypatch.setattr(os, "replace", until_full)
    codes = []
    for room in (0, 1, 3, 6, 9, 4, 3, 2):  # each climb goes on where the one before it stopped
        left[0] = room
        ran = cli("climb", words.config, "-q")
        codes.append(ran.code)
        if ran.code:
            refused(ran, 4, "disk is full", "free some space")
            for path in words.cache.glob("runs/*/ladder.json"):
                LadderRecord.model_validate_json(path.read_text())
    assert codes.count(4) >= 6
    monkeypatch.undo()
    os.chdir(words.root)
    assert cli("climb", words.config, "-q").code == 0
    assert len(words.runs()) <= 2
    assert words.ladder()["status"] == "finished"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_disk_that_is_really_full(words: Any, cli: Cli) -> None:
    words.cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(words.cache)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for size in (64, 128, 192, 256, 320):
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(words.cache)], check=True)
            ran = cli("climb", words.config, "-q")
            refused(ran, 4, "disk is full")
        subprocess.run(["mount", "-o", "remount,size=64m", str(words.cache)], check=True)
        assert cli("climb", words.config, "-q").code == 0
        assert len(words.runs()) == 1
    finally:
        subprocess.run(["umount", str(words.cache)], check=True)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_exist(climbed: Any, cli: Cli) -> None:
    known = climbed.runs()[-1].name
    for line in (("ask", "nope", "why?"), ("export", "nope", "out"), ("report", "nope"), ("runs", "show", "nope")):
        refused(cli(*line, "--cache-dir", "cache"), 3, "'nope'", known)
    refused(cli("compare", "latest", "nope", "--cache-dir", "cache"), 3, "'nope'")
    assert not (climbed.root / "out").exists()


def test_an_export_to_a_folder_that_is_in_use(climbed: Any, cli: Cli) -> None:
    target = climbed.root / "out"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    refused(cli("export", "latest", target, "--cache-dir", "cache"), 3, str(target), "name a new folder")
    assert [path.name for path in target.iterdir()] == ["mine.txt"]
    assert not list(climbed.root.glob(".out*"))


def test_a_record_of_another_version(climbed: Any, cli: Cli) -> None:
    run = climbed.runs()[-1]
    other = run.with_name("20200101-000000-old")
    shutil.copytree(run, other)
    ladder = json.loads((other / "ladder.json").read_text())
    (other / "ladder.json").write_text(json.dumps(ladder | {"schema_version": 99}))
    refused(cli("runs", "show", other.name, "--cache-dir", "cache"), 3, "schema_version 99", other.name)
    # One odd run does not hide the others.
    ran = cli("runs", "ls", "--cache-dir", "cache")
    assert ran.code == 0
    assert run.name in ran.out
    assert "schema_version 99" in ran.out
    assert cli("runs", "show", run.name, "--cache-dir", "cache").code == 0


def test_a_damaged_record(climbed: Any, cli: Cli) -> None:
    run = climbed.runs()[-1]
    text = (run / "ladder.json").read_text()
    for damaged in (text[: len(text) // 2], "[]", '{"schema_version": 1}'):
        (run / "ladder.json").write_text(damaged)
        refused(cli("runs", "show", run.name, "--cache-dir", "cache"), 3, "ladder.json")


def test_an_unfinished_run_says_how_to_finish_it(words: Any, cli: Cli) -> None:
    assert cli("climb", words.config, "-q", "--set", "runtime.max_minutes=0.00001").code == 5
    for line in (("ask", "latest", "why?"), ("export", "latest", "out"), ("runs", "show", "latest"), ("report",)):
        refused(cli(*line, "--cache-dir", "cache"), 3, "not finished")
