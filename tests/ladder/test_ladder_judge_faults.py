"""A judge that fails during `eval` and `climb`: a status in the scores, a count on the page, a run that resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from judge_server_double import VERDICTS, JudgeServer, Says, agrees

Cli = Callable[..., Any]
METRIC = "ragas/faithfulness"
ASKED = "How long does the filter of the drone last?"
MARK = "the spoilt claim"
VALID = json.dumps(VERDICTS)
CLAIMS = json.dumps({"statements": [MARK, "two"]})

FAULTS = {
    "broken JSON": (Says('{"statements": ['), "parse_error"),
    "NaN for a verdict": (Says(VALID.replace('"verdict": 1', '"verdict": NaN')), "parse_error"),
    "fewer verdicts than claims": (Says(json.dumps({"statements": VERDICTS["statements"][:1]})), "parse_error"),
    "timeout": (Says(VALID, hang=2.0), "timeout"),
    "rate limit": (Says(code=429), "judge_error"),
    "server error": (Says(code=500), "judge_error"),
}


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """A double of an endpoint that judges."""
    double = JudgeServer()
    yield double
    double.close()


@pytest.fixture
def judged(words: Any, server: JudgeServer) -> Any:
    """A workspace whose answers the double judges; nothing is swept."""
    settings = words.settings()
    llm = {"kind": "openai", "base_url": server.url, "model": "judge", "backoff": 0.001, "retries": 1, "concurrency": 1}
    settings["score"] = settings.get("score", {}) | {
        "judge": {"llm": llm | {"timeout": 0.5}, "metrics": ["faithfulness"]}
    }
    settings["rungs"]["retrieval"]["space"] = {"retrieve.top_k": [2]}
    words.write(settings)
    return words


def spoilt_by(reply: Says) -> Callable[[str, str], Says]:
    """One question's verdicts are spoilt."""

    def replies(prompt: str, schema: str) -> Says:
        given = prompt.rpartition("input:")[2]
        if schema == "StatementGeneratorOutput" and ASKED in given:
            return Says(CLAIMS)
        return reply if schema == "NLIStatementOutput" and MARK in given else agrees(prompt, schema)

    return replies


def rows_of(run: Path, metric: str = METRIC, **wanted: str) -> list[dict[str, Any]]:
    rows = pq.read_table(run / "scores.parquet").to_pylist()
    return [row for row in rows if row["metric"] == metric and all(row[key] == value for key, value in wanted.items())]


@pytest.mark.parametrize("fault", FAULTS)
def test_eval_counts_what_the_judge_did_not_score_and_asks_again(
    fault: str, judged: Any, server: JudgeServer, cli: Cli
) -> None:
    reply, status = FAULTS[fault]
    server.reply = spoilt_by(reply)
    ran = cli("eval", judged.config, "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert {key: result["scores"][METRIC][key] for key in ("mean", "n_ok", "n")} == {"mean": 0.5, "n_ok": 11, "n": 12}
    assert result["missing"][METRIC]["statuses"] == {status: 1} and result["missing"][METRIC]["reason"]
    said = cli("eval", judged.config).out
    assert f"without a score: {METRIC}: 1 {status}; the first: " in said
    # a reply that cannot be read is kept; what was never answered is asked again
    assert ("the same command asks again" in said) is (status != "parse_error")
    server.reply, before = agrees, len(server.seen)
    again = json.loads(cli("eval", judged.config, "--json").out)["scores"][METRIC]
    assert (again["n_ok"], again["n"]) == ((11, 12) if status == "parse_error" else (12, 12))
    assert len(server.seen) - before == (0 if status == "parse_error" else 1)


def test_a_climb_with_a_judge_that_dies_half_way_has_statuses_and_the_same_command_fills_them(
    judged: Any, server: JudgeServer, cli: Cli
) -> None:
    server.dies_after = 21
    ran = cli("climb", judged.config)
    assert ran.code == 0, ran.err
    assert "judgements are missing" in ran.err + ran.out and "the same command asks for them again" in ran.err + ran.out
    run = judged.runs()[-1]
    rows = rows_of(run, arm="baseline")
    lost = [row for row in rows if row["status"] == "judge_error"]
    assert lost and all(row["value"] is None and row["detail"] for row in lost)
    counted = judged.ladder()["baseline"]["scores"]
    for split, scored in (("dev", 12), ("test", 24)):
        missing = sum(row["split"] == split for row in lost)
        assert (counted[split][METRIC]["n_ok"], counted[split][METRIC]["n"]) == (scored - missing, scored)
    assert "judge failed" in (run / "report.html").read_text(encoding="utf-8")
    server.open()
    paid = len(server.seen)
    again = cli("climb", judged.config)
    assert again.code == 0, again.err
    rows = rows_of(judged.runs()[-1], arm="baseline")
    assert {row["status"] for row in rows} == {"ok", "not_applicable"}
    assert len(rows) == 38 and sum(row["status"] == "ok" for row in rows) == 36
    assert len(server.seen) > paid
    paid = len(server.seen)
    assert cli("climb", judged.config).code == 0
    assert len(server.seen) == paid  # all is there: nobody is asked


def test_a_judge_that_was_never_there_stops_the_climb_which_the_same_command_resumes(
    judged: Any, server: JudgeServer, cli: Cli
) -> None:
    server.close()
    ran = cli("climb", judged.config, "-q")
    assert ran.code == 4 and server.url in ran.err and "Traceback" not in ran.err
    kept = judged.stages()
    server.open()
    assert cli("climb", judged.config, "-q").code == 0
    assert judged.ladder()["status"] == "finished"
    assert kept.items() <= judged.stages().items()


def test_an_empty_context_and_a_question_without_gold_are_statuses(judged: Any, server: JudgeServer, cli: Cli) -> None:
    rows = judged.rows()
    bare = next(row for row in rows if row["split"] == "dev" and row.get("evidence"))
    bare["question"] = "Zzyzx qwrtl vbnmk?"  # no word of it stands in any document
    judged.write_rows(rows)
    ran = cli("climb", judged.config)
    assert ran.code == 0, ran.err
    run = judged.runs()[-1]
    (empty,) = rows_of(run, arm="baseline", question_id=bare["id"])
    assert (empty["status"], empty["value"]) == ("not_applicable", None) and empty["detail"]
    for split in ("dev", "test"):
        (unanswerable,) = rows_of(run, arm="baseline", question_id=f"no-{split}")
        assert (unanswerable["status"], unanswerable["value"]) == ("not_applicable", None)
        assert "do not answer" in unanswerable["detail"]
    # retrieval without a hit is a zero, not a gap
    (hit,) = rows_of(run, "hit@5", arm="baseline", question_id=bare["id"])
    assert (hit["status"], hit["value"]) == ("ok", 0.0)
    scored = judged.ladder()["baseline"]["scores"]["dev"][METRIC]
    assert (scored["n_ok"], scored["n"]) == (11, 11)
