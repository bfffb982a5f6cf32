"""The judge's verdicts on each claim, from the judge's stage through the run folder to the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server_double import JudgeServer, Says, agrees
from page_reading import Page, unpacked
from ragladder.ladder.report import build_report


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    double = JudgeServer()
    yield double
    double.close()


def climb_with_judge(space: Any, cli: Any, server: JudgeServer) -> Path:
    """The run folder of a climb in which an LLM judges."""
    settings = space.settings()
    llm = {"kind": "openai", "base_url": server.url, "model": "judge", "backoff": 0.001, "retries": 1, "concurrency": 2}
    settings["score"] = settings.get("score", {}) | {"judge": {"llm": llm, "metrics": ["context_recall"]}}
    space.write(settings)
    ran = cli("climb", space.config)
    assert ran.code == 0, ran.err
    return space.runs()[-1]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_verdicts_of_every_arm_are_in_the_run_folder_and_on_the_page(words: Any, cli: Any, server: JudgeServer) -> None:
    server.reply = agrees
    run = climb_with_judge(words, cli, server)
    rows = lines(run / "verdicts.jsonl")
    answers = lines(run / "answers.jsonl")
    judged = {(a["arm"], a["question_id"]) for a in answers if a["status"] == "ok"}
    assert rows and {(row["arm"], row["question_id"]) for row in rows} <= judged
    assert {row["arm"] for row in rows} == {arm for arm, _ in judged}
    assert {row["metric"] for row in rows} == {"ragas/context_recall"}
    page = Page(build_report(run).read_text(encoding="utf-8"))
    details = unpacked(page.scripts["data-details"])
    assert sum(len(claims) for arm in details["verdicts"].values() for claims in arm.values()) == len(rows)


def test_a_judge_that_leaves_gaps_leaves_no_verdicts_and_the_page_stands(
    words: Any, cli: Any, server: JudgeServer
) -> None:
    def tired(prompt: str, schema: str) -> Says:
        return Says(code=503) if "filter of the drone" in prompt.rpartition("input:")[2] else agrees(prompt, schema)

    server.reply = tired
    run = climb_with_judge(words, cli, server)
    rows = lines(run / "verdicts.jsonl")
    # The stage of a split with an unanswered question is not kept; that of the other is.
    assert {row["split"] for row in rows} <= {"dev", "test"}
    assert len({row["split"] for row in rows}) < 2
    assert build_report(run).is_file()


def test_without_a_judge_the_file_is_there_and_empty(climbed: Any) -> None:
    run = climbed.runs()[-1]
    assert (run / "verdicts.jsonl").read_text(encoding="utf-8") == ""
