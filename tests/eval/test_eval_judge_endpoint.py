"""A judge behind an endpoint that misbehaves: a status in the scores, a count in the means, and a run that resumes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server_double import VERDICTS, JudgeServer, Says, agrees
from ragladder.core.components import Resources
from ragladder.core.errors import BudgetError, EndpointError
from ragladder.core.types import Answer, Chunk, Evidence, Question, Score
from ragladder.eval.judge import JudgeSettings, judge_scores
from ragladder.ladder.scoring import clusters, estimates

NAMES = ("lamp", "pump", "gate", "loom")
QUESTIONS = [Question(name, f"How is the {name}?", f"The {name} is red.", (Evidence(name, name),)) for name in NAMES]
ANSWERS = [Answer(name, f"The {name} is red. It is big.") for name in NAMES]
CONTEXTS = [[Chunk(name, 0, 9, f"The {name} is red.")] for name in NAMES]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    double = JudgeServer()
    yield double
    double.close()


def judge(server: JudgeServer, folder: Path, **llm: Any) -> list[Score]:
    given = {"base_url": server.url, "model": "judge", "backoff": 0.001, "retries": 1, "timeout": 0.5, "concurrency": 2}
    settings = JudgeSettings.model_validate({"llm": {"kind": "openai", **given, **llm}, "metrics": ["faithfulness"]})
    return judge_scores(QUESTIONS, ANSWERS, CONTEXTS, settings, Resources(cache_dir=folder))[0]


VALID = json.dumps(VERDICTS)
BAD = {
    "broken JSON": (Says('{"statements": ['), "parse_error", "asked twice"),
    "no JSON": (Says("It is all fine."), "parse_error", "no JSON object"),
    "nothing": (Says(""), "parse_error", "no JSON object"),
    "NaN": (Says(VALID.replace('"verdict": 1', '"verdict": NaN')), "parse_error", ""),
    "fewer verdicts": (Says(json.dumps({"statements": VERDICTS["statements"][:1]})), "parse_error", "2 entries"),
    "timeout": (Says(VALID, hang=2.0), "timeout", "no answer within"),
    "rate limit": (Says(code=429), "judge_error", "429"),
    "server error": (Says(code=500), "judge_error", "500"),
    "schema refused": (Says(code=400), "judge_error", "400"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_bad_reply_is_a_status_a_count_and_asked_again_next_time(
    case: str, server: JudgeServer, tmp_path: Path
) -> None:
    reply, status, words = BAD[case]

    def bad_for_pumps(prompt: str, schema: str) -> Says:
        spoilt = schema == "NLIStatementOutput" and "The pump" in prompt.rpartition("input:")[2]
        return reply if spoilt else agrees(prompt, schema)

    server.reply = bad_for_pumps
    scores = judge(server, tmp_path)
    assert [score.status for score in scores] == ["ok", status, "ok", "ok"]
    assert scores[1].value is None and words in scores[1].detail
    mean = estimates(scores, clusters(QUESTIONS), seed=0)["ragas/faithfulness"]
    assert (mean.mean, mean.n_ok, mean.n) == (0.5, 3, 4)
    # the judge is well again: a second run asks for what is missing and for nothing else
    server.reply, before = agrees, len(server.seen)
    if status == "parse_error":
        # a reply that came is kept, so it is put again, with what was wrong, as before: the judge must be asked anew
        assert [score.status for score in judge(server, tmp_path)] == ["ok", status, "ok", "ok"]
        assert len(server.seen) == before
    else:
        assert [score.status for score in judge(server, tmp_path)] == ["ok"] * 4
        assert len(server.seen) == before + 1


def test_a_rate_limit_that_passes_costs_a_wait_and_no_score(server: JudgeServer, tmp_path: Path) -> None:
    refused: list[str] = []

    def busy_once(prompt: str, schema: str) -> Says:
        if prompt in refused:
            return agrees(prompt, schema)
        refused.append(prompt)
        return Says(code=429, headers={"Retry-After": "0"})

    server.reply = busy_once
    assert [score.status for score in judge(server, tmp_path)] == ["ok"] * 4
    assert len(server.seen) == 16


@pytest.mark.parametrize("calls", [1, 3, 5, 7])
def test_a_judge_that_dies_half_way_leaves_statuses_and_the_next_run_fills_them(
    calls: int, server: JudgeServer, tmp_path: Path
) -> None:
    server.dies_after = calls
    scores = judge(server, tmp_path, concurrency=1, retries=3)
    lost = [score for score in scores if score.status == "judge_error"]
    assert len(lost) >= 4 - calls // 2 and all(score.value is None for score in lost)
    assert all("it was lost" in score.detail and "Start the server" in score.detail for score in lost)
    assert [score.value for score in scores if score.status == "ok"] == [0.5] * (4 - len(lost))
    server.open()
    paid = len(server.seen)
    scores = judge(server, tmp_path, concurrency=1)
    assert [score.value for score in scores] == [0.5] * 4
    assert len(server.seen) - paid == 8 - calls  # two calls a question; what was answered is not asked again


def test_a_judge_that_was_never_there_is_an_error(server: JudgeServer, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(EndpointError, match="Start the server"):
        judge(server, tmp_path, concurrency=1, retries=1)


def test_a_budget_stops_the_run_which_resumes_with_a_larger_one(server: JudgeServer, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="used up"):
        judge(server, tmp_path, concurrency=1, budget={"tokens": 40})
    assert len(server.seen) == 3
    assert [score.value for score in judge(server, tmp_path, concurrency=1)] == [0.5] * 4
    assert len(server.seen) == 8


def test_each_part_of_the_identity_is_asked_anew(server: JudgeServer, tmp_path: Path) -> None:
    judge(server, tmp_path)
    for change in ({"model": "other"}, {"extra_body": {"top_p": 0.5}}):
        before = len(server.seen)
        judge(server, tmp_path, **change)
        assert len(server.seen) == before + 8
    before = len(server.seen)
    judge(server, tmp_path, timeout=9.0, concurrency=4)
    assert len(server.seen) == before
