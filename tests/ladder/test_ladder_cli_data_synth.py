"""`ragladder data synth` and the audit's closed-book check, without an LLM and against a server that plays one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ragladder.eval.questions import load_questions
from synth_double import answer


class Server:
    """Plays an LLM by the double's rules; notes each prompt."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.forms: list[bool] = []
        self.delay = 0.0
        self.reply: Callable[[str], str] = answer
        noted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = "\n".join(message["content"] for message in data["messages"])
                noted.prompts.append(prompt)
                noted.forms.append("response_format" in data)
                time.sleep(noted.delay)
                message = {"role": "assistant", "content": noted.reply(prompt)}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                usage = {"prompt_tokens": 50, "completion_tokens": 10}
                raw = json.dumps({"choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.fixture
def asking(words: Any, server: Server) -> Any:
    """A workspace whose `synth.llm` is the server."""
    settings = words.settings()
    settings["pipeline"]["chunk"] = {"kind": "section", "size": 96}
    settings["synth"] = {
        "n": 10,
        "llm": {"kind": "openai", "base_url": server.url, "model": "double", "concurrency": 2, "retries": 0},
        "filters": {"near": 101},
    }
    words.write(settings)
    return words


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_an_llm_patterns_write_and_the_questions_can_be_used(words: Any, cli: Callable[..., Any]) -> None:
    done = cli("data", "synth", words.config, "--n", 15, "--out", "made.jsonl", "-q")
    assert done.code == 0, done.err
    assert (
        "written by patterns over headings and definitions, without an LLM; tag source: synthetic-extractive"
        in done.out
    )
    assert "multi and unanswerable: need an LLM" in done.out
    questions = load_questions(Path("made.jsonl"))
    assert f"made.jsonl: {len(questions)} questions" in done.out and len(questions) == 15
    assert {question.tags["source"] for question in questions} == {"synthetic-extractive"}
    assert all(question.split for question in questions)
    # documents stay in the splits that the config's own questions give them
    places = {row["evidence"][0]["doc_id"]: row["split"] for row in words.rows() if row.get("evidence")}
    assert all(places[question.evidence[0].doc_id] == question.split for question in questions)
    made = ("--set", f"data.questions={Path('made.jsonl').absolute()}", "--set", "pipeline.chunk.size=96", "--json")
    audit = cli("data", "audit", words.config, *made)
    found = [finding for finding in json.loads(audit.out)["findings"] if finding["check"] == "gold"]
    assert audit.code == 0 and found == []
    scored = cli("eval", words.config, "--split", "test", *made)
    assert scored.code == 0 and json.loads(scored.out)["scores"]["ndcg@5"]["mean"] > 0


def test_an_llm_writes_all_kinds_and_the_report_counts(asking: Any, server: Server, cli: Callable[..., Any]) -> None:
    done = cli("data", "synth", asking.config, "--out", "out/made.jsonl", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)["report"]
    assert {k["kind"]: k["kept"] for k in report["kinds"]} == {"single": 6, "multi": 2, "unanswerable": 2}
    assert report["calls"]["calls"] == len(server.prompts) > 10 and all(server.forms)
    assert sum(k["tried"] for k in report["kinds"]) == 10 + sum(f["fell"] for f in report["filters"])
    made = rows(Path("out/made.jsonl"))
    assert sorted({row["tags"]["kind"] for row in made}) == ["multi", "single", "unanswerable"]
    assert all(row["answer"] == "Not documented" for row in made if row["tags"]["kind"] == "unanswerable")
    saved = json.loads(Path("out/made.synth.json").read_text())
    assert saved["report"] == report


def test_one_kind_the_pipelines_own_search_and_no_schema(asking: Any, server: Server, cli: Callable[..., Any]) -> None:
    knobs = ("--set", "synth.filters.retriever=pipeline", "--set", "synth.enforce_json=false")
    done = cli("data", "synth", asking.config, "--kind", "single", "--n", 4, *knobs, "-q")
    assert done.code == 0, done.err
    assert {row["tags"]["kind"] for row in rows(Path("synthetic.jsonl"))} == {"single"}
    assert "round_trip" in done.out and "every_hop" not in done.out and not any(server.forms)


def test_a_killed_run_goes_on_without_asking_again(asking: Any, server: Server, cli: Callable[..., Any]) -> None:
    whole = cli("data", "synth", asking.config, "--out", "whole.jsonl", "--set", "runtime.cache_dir=other", "-q")
    assert whole.code == 0, whole.err
    needed = len(server.prompts)
    server.prompts.clear()
    server.delay = 0.05
    code = "from ragladder.ladder.cli import main; main()"
    command = [sys.executable, "-c", code, "data", "synth", str(asking.config), "--out", "made.jsonl", "-q"]
    child = subprocess.Popen(command, env={**os.environ}, cwd=asking.root, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(server.prompts) < needed // 2 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.005)
    assert child.poll() is None, "it was done before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not Path("made.jsonl").exists()
    before = len(server.prompts)
    assert before < needed
    server.delay = 0.0
    again = cli("data", "synth", asking.config, "--out", "made.jsonl", "--json")
    assert again.code == 0, again.err
    # two calls at once: as many were in flight, or just answered, when it was killed
    assert needed <= len(server.prompts) <= needed + 2
    assert json.loads(again.out)["report"]["calls"]["reused"] >= before - 2
    assert Path("made.jsonl").read_text() == Path("whole.jsonl").read_text()


def test_a_budget_ends_it_with_code_5_and_a_higher_one_goes_on(
    asking: Any, server: Server, cli: Callable[..., Any]
) -> None:
    done = cli("data", "synth", asking.config, "--set", "synth.budget.calls=20", "-q")
    assert done.code == 5
    assert "stopped: synth.budget.calls is used up: 20 of 20; raise it and run the same command again" in done.out
    assert len(server.prompts) == 20
    done = cli("data", "synth", asking.config, "--json")
    assert done.code == 0
    assert json.loads(done.out)["report"]["calls"]["reused"] == 20
    assert len(rows(Path("synthetic.jsonl"))) == 10, "its own file is replaced"


def test_nothing_that_passes_ends_with_counts_and_code_3(asking: Any, server: Server, cli: Callable[..., Any]) -> None:
    server.reply = lambda prompt: "I am a small model."
    done = cli("data", "synth", asking.config, "--n", 3, "--kind", "single", "-q")
    assert done.code == 3
    assert "0 kept of 9 tried" in done.out and "unreadable       9 fell" in done.out
    assert "I am a small model." in done.out and "no question passed" in done.out
    assert not Path("synthetic.jsonl").exists() and Path("synthetic.synth.json").exists()


def test_a_file_that_is_not_its_own_is_kept(words: Any, cli: Callable[..., Any]) -> None:
    Path("mine.jsonl").write_text("mine\n")
    refused = cli("data", "synth", words.config, "--out", "mine.jsonl")
    assert refused.code == 3 and "is there already, and not as 'data synth' wrote it" in refused.err
    assert Path("mine.jsonl").read_text() == "mine\n"
    assert cli("data", "synth", words.config, "--out", "mine.jsonl", "--n", 3, "--force", "-q").code == 0
    with open("mine.jsonl", "a") as handle:
        handle.write("\n")
    assert cli("data", "synth", words.config, "--out", "mine.jsonl", "--n", 3).code == 3, "edited since"


def test_the_plan_says_what_it_costs_and_asks_nothing(asking: Any, server: Server, cli: Callable[..., Any]) -> None:
    done = cli("data", "synth", asking.config, "--dry-run", "-q")
    assert done.code == 0, done.err
    assert "wanted: 6 single, 2 multi, 2 unanswerable" in done.out
    # 6 x 3 + 2 x 5 + 2 x 2
    assert "LLM calls: about 32 if all pass, at most 96" in done.out
    assert server.prompts == [] and not Path("synthetic.jsonl").exists()
    plan = json.loads(
        cli("data", "synth", asking.config, "--dry-run", "--by", "extractive", "--json", "--set", "synth.llm=null").out
    )
    assert (plan["writer"], plan["calls"], plan["existing"]) == ("extractive", [0, 0], 51)


def test_it_needs_no_questions_and_may_write_where_they_will_be(words: Any, cli: Callable[..., Any]) -> None:
    words.questions.unlink()
    for _ in range(2):  # the second time it finds its own file there, and does not compare with it
        done = cli("data", "synth", words.config, "--out", words.questions, "--n", 12, "-q")
        assert done.code == 0, done.err
        assert f"there are no questions yet at {words.questions}" in done.out or "12 kept" in done.out
        assert len(load_questions(words.questions)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "double"), "there is no kind 'double'; there are single, multi, unanswerable"),
        (("--kind", "multi"), "the kinds multi need an LLM"),
        (("--by", "llm"), "synth.by is 'llm', but there is none"),
        (("--out", "made.json"), "questions are read from files that end in .jsonl"),
        (("--set", "synth.n=0"), "synth.n"),
        (("--set", "synth.filtres={}"), "did you mean 'filters'?"),
        (("--set", "synth.split.shares=[1,1,1]"), "sum 1"),
        (("--set", "data.documents=gone"), "gone"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    words: Any, cli: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    done = cli("data", "synth", words.config, *arguments)
    assert done.code in (2, 3) and message in done.err
    assert not Path("synthetic.jsonl").exists()


def test_money_needs_prices_and_a_dead_server_is_named(asking: Any, server: Server, cli: Callable[..., Any]) -> None:
    done = cli("data", "synth", asking.config, "--set", "synth.budget.money=1")
    assert done.code == 2 and "synth.budget.money: the LLM has no prices" in done.err
    done = cli("data", "synth", asking.config, "--set", "synth.llm.base_url=http://127.0.0.1:9/v1", "-q")
    assert done.code == 4 and "127.0.0.1:9" in done.err


def test_the_audit_lists_what_an_llm_knows_without_documents(
    asking: Any, server: Server, cli: Callable[..., Any]
) -> None:
    known = next(row for row in asking.rows() if row["split"] == "test")

    def reply(prompt: str) -> str:
        guess = known["answer"] if known["question"] in prompt else ""
        return json.dumps({"known": bool(guess), "answer": guess})

    server.reply = reply
    done = cli("data", "audit", asking.config, "--closed-book")
    assert done.code == 0, done.err
    assert "closed book: 1 of 48 questions are answered without any document" in done.out
    assert f"{known['id']}: '{known['answer']}'" in done.out
    assert len(server.prompts) == 48, "unanswerable questions are not asked"
    server.reply = lambda prompt: "no JSON"
    done = cli("data", "audit", asking.config, "--closed-book", "--json", "--set", "synth.llm.model=other")
    (finding,) = [f for f in json.loads(done.out)["findings"] if f["check"] == "closed book"]
    assert finding["message"] == "48 of 48 questions got no reply that could be read"
    assert cli("data", "audit", asking.questions, "--closed-book").code == 2
    assert (
        "there is no LLM to ask" in cli("data", "audit", asking.config, "--closed-book", "--set", "synth.llm=null").err
    )
