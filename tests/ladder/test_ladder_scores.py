"""What `score:` can ask for: metrics of documents, of the user, of a judge; and what each says where it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from judge_server_double import JudgeServer, Says, agrees

Cli = Callable[..., Any]
TEAM = '''
def brevity(question, answer, contexts):
    """1 where the answer is short."""
    return float(len(answer.text.split()) <= 40)

def right(question, answer, contexts):
    return question.answer in answer.text

def choosy(question, answer, contexts):
    """Raises on one question, does not apply to another."""
    if question.id == "q3-0":
        raise ValueError("cannot read this one")
    return None if question.id == "q3-1" else len(contexts) / 10

def lucky(question, answer, contexts):
    """Best where it reads three passages, with which it fails on nearly all questions."""
    if answer.text == question.answer:
        return 1.0
    if len(contexts) < 3:
        return 0.3 if len(contexts) == 1 else 0.2
    if not question.id.endswith("-2"):
        raise ValueError("too long")
    return 1.0
'''


def parsed(ran: Any) -> Any:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.fixture
def team(words: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace with two metrics of its own."""
    (words.root / "team_scores.py").write_text(TEAM)
    monkeypatch.setattr(sys, "path", [*sys.path, str(words.root)])
    monkeypatch.delitem(sys.modules, "team_scores", raising=False)
    rescore(
        words, custom=[{"name": name, "function": f"team_scores:{name}"} for name in ("brevity", "choosy", "right")]
    )
    return words


def rescore(space: Any, **changes: Any) -> None:
    settings = space.settings()
    settings["score"] |= changes
    space.write(settings)


def test_metrics_of_ones_own_are_scored_counted_and_shown(team: Any, cli: Cli) -> None:
    result = parsed(cli("eval", team.config, "--json"))
    assert (result["scores"]["brevity"]["n_ok"], result["scores"]["brevity"]["n"]) == (13, 13)
    assert 0 < result["scores"]["choosy"]["mean"] <= 0.1  # a chunk a question, or none
    assert (result["scores"]["choosy"]["n_ok"], result["scores"]["choosy"]["n"]) == (11, 12)
    assert set(result["missing"]) == {"choosy"}
    assert result["missing"]["choosy"]["statuses"] == {"judge_error": 1}
    assert "team_scores:choosy raised ValueError: cannot read this one" in result["missing"]["choosy"]["reason"]
    text = cli("eval", team.config).out
    assert "11/12" in text
    assert "without a score: choosy: 1 judge_error; the first: team_scores:choosy raised ValueError" in text


def test_a_metric_of_ones_own_can_be_what_the_gate_looks_at(team: Any, cli: Cli) -> None:
    settings = team.settings()
    settings["score"]["answer_metric"] = "right"
    settings["gate"]["guardrails"] = {"brevity": 0.5}
    team.write(settings)
    ladder = parsed(cli("climb", team.config, "--json"))
    assert ladder["answer_metric"] == "right"
    assert set(ladder["judges"]) == {"brevity", "choosy", "right"}
    guards = [guard["metric"] for rung in ladder["rungs"] for guard in rung["decision"]["guardrails"]]
    assert guards == ["brevity"]
    assert "brevity" in ladder["final"]["scores"]["test"]


@pytest.fixture
def lucky(team: Any) -> Any:
    """Among one, two and three passages: with three, nearly all scores are missing and the rest are the highest."""
    settings = team.settings()
    settings["score"] |= {"answer_metric": "lucky", "custom": [{"name": "lucky", "function": "team_scores:lucky"}]}
    settings["rungs"]["retrieval"]["space"] = {"retrieve.top_k": [2, 3]}
    settings["sweep"] = {"space": {"retrieve.top_k": [1, 2, 3]}, "objectives": ["lucky"]}
    team.write(settings)
    return team


def test_a_sweep_does_not_rank_what_is_best_where_it_can_be_scored(lucky: Any, cli: Cli) -> None:
    record = parsed(cli("sweep", lucky.config, "--json"))
    trials = {trial["point"]["retrieve.top_k"]: trial for trial in record["trials"]}
    assert [trials[k]["rank"] for k in (1, 2, 3)] == [1, 2, None]
    assert trials[3]["status"] == "dropped" and "scores of lucky are missing" in trials[3]["error"]


def test_a_rung_does_not_choose_what_is_best_where_it_can_be_scored(lucky: Any, cli: Cli) -> None:
    ran = cli("climb", lucky.config)
    ladder = lucky.ladder()
    rung = ladder["rungs"][0]
    assert rung["candidate"] is None and rung["decision"]["primary"] is None, rung["decision"]
    assert "not a choice: " in ran.err and "scores are missing" in ran.err, ran.err
    assert "Keep the starting pipeline: no rung won (lucky" in ran.out


def test_scores_of_edited_code_are_not_compared_with_those_before(team: Any, cli: Cli) -> None:
    first = parsed(cli("climb", team.config, "--json", "--set", "rungs.retrieval=null"))["run_id"]
    (team.root / "team_scores.py").write_text(TEAM + "\n# counted otherwise")
    second = parsed(cli("climb", team.config, "--json", "--set", "rungs.retrieval=null", "--set", "name=again"))[
        "run_id"
    ]
    ran = cli("compare", first, second, "--cache-dir", "cache", "--metric", "brevity")
    assert ran.code == 2
    assert "scores of different judges cannot be compared in brevity" in ran.err
    assert cli("compare", first, second, "--cache-dir", "cache", "--metric", "token_f1").code == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"custom": [{"name": "a", "function": "team_scores:brevty"}]}, "did you mean 'brevity'?"),
        ({"custom": [{"name": "token_f1", "function": "team_scores:brevity"}]}, "the metric name 'token_f1' is taken"),
        ({"custom": [{"name": "a", "function": "team_scores:brevity"}] * 2}, "the metric name 'a' is taken"),
        ({"custom": [{"name": "a/b", "function": "team_scores:brevity"}]}, "score.custom[0].name"),
        ({"custom": [], "answer_metric": "brevity"}, "score.answer_metric 'brevity' is not computed"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_before_anything_runs(
    team: Any, cli: Cli, changes: dict[str, Any], said: str
) -> None:
    rescore(team, **changes)
    ran = cli("check", team.config)
    assert ran.code == 2
    assert said.replace("[0]", ".0") in ran.err.replace("[0]", ".0")
    assert not team.stages()


def test_documents_and_tokens_are_scored_where_asked_for(words: Any, cli: Cli) -> None:
    plain = parsed(cli("eval", words.config, "--json"))["scores"]
    assert not [name for name in plain if name.startswith("doc_")]
    assert 0 < plain["context_tokens@1"]["mean"] < plain["context_tokens@5"]["mean"] < plain["context_chars@5"]["mean"]
    rescore(words, documents=True, tokenizer="cl100k")
    scores = parsed(cli("eval", words.config, "--json"))["scores"]
    assert {"doc_ndcg@5", "doc_recall@5", "doc_precision@5", "doc_mrr@5", "doc_map"} <= set(scores)
    # one judged document a question, in which its evidence stands
    assert scores["doc_recall@5"]["mean"] >= scores["evidence_recall@5"]["mean"]
    assert (scores["doc_map"]["n_ok"], scores["doc_map"]["n"]) == (12, 12)
    assert scores["context_tokens@5"]["mean"] != plain["context_tokens@5"]["mean"]


def test_document_metrics_are_gated_only_where_they_are_computed(words: Any, cli: Cli) -> None:
    settings = words.settings()
    settings["rungs"]["retrieval"]["metric"] = "doc_ndcg@5"
    words.write(settings)
    ran = cli("check", words.config)
    assert ran.code == 2 and "rungs.retrieval.metric 'doc_ndcg@5' is not computed" in ran.err
    rescore(words, documents=True)
    assert cli("check", words.config).code == 0


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    double = JudgeServer()
    yield double
    double.close()


def with_judge(space: Any, server: JudgeServer) -> None:
    llm = {"kind": "openai", "base_url": server.url, "model": "judge", "backoff": 0.001, "retries": 1, "concurrency": 2}
    rescore(space, judge={"llm": llm, "metrics": ["context_recall"]})


def test_what_a_judge_did_not_answer_is_counted_and_asked_again(words: Any, cli: Cli, server: JudgeServer) -> None:
    with_judge(words, server)

    def tired(prompt: str, schema: str) -> Says:
        return Says(code=503) if "filter of the drone" in prompt.rpartition("input:")[2] else agrees(prompt, schema)

    server.reply = tired
    result = parsed(cli("eval", words.config, "--json"))
    score = result["scores"]["ragas/context_recall"]
    assert (score["mean"], score["n_ok"], score["n"]) == (1.0, 11, 12)
    assert result["missing"]["ragas/context_recall"]["statuses"] == {"judge_error": 1}
    assert "503" in result["missing"]["ragas/context_recall"]["reason"]
    server.reply, asked = agrees, len(server.seen)
    ran = cli("eval", words.config)
    assert "12/12" in ran.out and "without a score" not in ran.out
    assert len(server.seen) == asked + 1
    server.close()  # all is kept by now
    again = parsed(cli("eval", words.config, "--json"))["scores"]["ragas/context_recall"]
    assert (again["n_ok"], again["n"]) == (12, 12)


def test_a_reply_that_stays_broken_is_final_and_the_other_verdicts_are_kept(
    words: Any, cli: Cli, server: JudgeServer
) -> None:
    with_judge(words, server)

    def garbled(prompt: str, schema: str) -> Says:
        return Says("{") if "filter of the drone" in prompt.rpartition("input:")[2] else agrees(prompt, schema)

    server.reply = garbled
    first = parsed(cli("eval", words.config, "--json"))
    assert first["missing"]["ragas/context_recall"]["statuses"] == {"parse_error": 1}
    [kept] = (words.cache / "stages").glob("judge-*/**/verdicts.json")
    assert len(json.loads(kept.read_text())) == 11
    server.close()
    assert parsed(cli("eval", words.config, "--json")) == first


def test_a_judge_that_dies_half_way_leaves_gaps_that_are_counted_and_the_same_command_fills_them(
    words: Any, cli: Cli, server: JudgeServer
) -> None:
    with_judge(words, server)
    server.dies_after = 5
    ran = cli("eval", words.config, "--json")
    assert ran.code == 0, ran.err
    first = parsed(ran)
    score = first["scores"]["ragas/context_recall"]
    assert 5 <= score["n_ok"] < score["n"] == 12
    assert first["missing"]["ragas/context_recall"]["statuses"] == {"judge_error": 12 - score["n_ok"]}
    server.open()
    paid = len(server.seen)
    scores = parsed(cli("eval", words.config, "--json"))["scores"]
    assert (scores["ragas/context_recall"]["n_ok"], scores["ragas/context_recall"]["n"]) == (12, 12)
    assert len(server.seen) - paid <= 12 - 5 + 2  # at most the calls that were in flight are asked again


def test_a_climb_whose_judge_dies_ends_with_gaps_in_every_later_arm(words: Any, cli: Cli, server: JudgeServer) -> None:
    with_judge(words, server)
    server.dies_after = 5
    ran = cli("climb", words.config, "--json")
    assert ran.code == 0, ran.err
    ladder = parsed(ran)
    assert ladder["baseline"]["scores"]["dev"]["ragas/context_recall"]["n_ok"] >= 5
    assert ladder["baseline"]["scores"]["test"]["ragas/context_recall"]["n_ok"] == 0


def test_a_judge_that_was_never_there_stops_the_run(words: Any, cli: Cli, server: JudgeServer) -> None:
    with_judge(words, server)
    server.close()
    ran = cli("eval", words.config)
    assert ran.code == 4
    assert "no connection to" in ran.err and "Start the server" in ran.err


def test_runs_with_other_judges_are_not_compared(words: Any, cli: Cli, server: JudgeServer) -> None:
    with_judge(words, server)
    runs = []
    for model in ("judge", "another"):
        changes = ("--set", f"score.judge.llm.model={model}", "--set", f"name={model}", "--set", "rungs.retrieval=null")
        ladder = parsed(cli("climb", words.config, "--json", *changes))
        assert set(ladder["judges"]) == {"ragas/context_recall"}
        runs.append(ladder["run_id"])
    ran = cli("compare", *runs, "--cache-dir", "cache", "--metric", "ragas/context_recall")
    assert ran.code == 2
    assert "scores of different judges cannot be compared in ragas/context_recall" in ran.err
