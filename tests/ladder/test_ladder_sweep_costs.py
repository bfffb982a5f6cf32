"""What a sweep counts in LLM calls, tokens and money: query transforms, rerankers, contexts, answers, and judges."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server_double import JudgeServer, Says, agrees
from ragladder.core.progress import Reporter
from ragladder.ladder.sweep.results import SweepRecord
from ragladder.ladder.sweep.run import prepare_sweep, sweep

PRICES = {
    "writer": (1.0, 2.0),
    "asker": (3.0, 5.0),
    "sorter": (7.0, 11.0),
    "reader": (13.0, 17.0),
    "judge": (19.0, 23.0),
}
"""Of a million tokens, by model; each call of the double reads 10 and writes 5."""


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """A double of an endpoint behind which all models are."""

    def reply(prompt: str, schema: str) -> Says:
        if schema == "ranking":
            return Says(json.dumps({"ranking": [2, 1]}))
        return agrees(prompt, schema) if schema else Says("Twelve days, as the handbook says.")

    double = JudgeServer(reply)
    yield double
    double.close()


@pytest.fixture
def paid(words: Any, server: JudgeServer) -> Any:
    """A workspace in which five models on the double's endpoint do all that LLMs can do."""

    def llm(model: str) -> dict[str, Any]:
        read, wrote = PRICES[model]
        access = {"kind": "openai", "base_url": server.url, "model": model, "retries": 0}
        return {**access, "price_prompt": read, "price_completion": wrote}

    settings = words.settings()
    settings["pipeline"] |= {
        "chunk": {"kind": "section", "size": 96},
        "context": {"kind": "llm", "llm": llm("writer")},
        "transform": {"kind": "hyde", "llm": llm("asker"), "passages": 2, "temperature": 0.7},
        "rerank": {"kind": "listwise", "llm": llm("sorter"), "depth": 4, "window": 2, "step": 1},
        "generate": {"kind": "llm", "llm": llm("reader")},
    }
    settings["score"]["judge"] = {"llm": llm("judge"), "metrics": ["faithfulness", "context_recall"]}
    words.write(settings)
    return words


def swept(paid: Any, **given: Any) -> SweepRecord:
    settings = paid.settings()
    space = {"retrieve.top_k": [1, 2]}
    settings["sweep"] = {"space": space, "objectives": ["token_f1", "ragas/faithfulness"], **given}
    paid.write(settings)
    return sweep(paid.config)


def money(models: list[str]) -> float:
    return sum(count * (10 * PRICES[m][0] + 5 * PRICES[m][1]) / 1e6 for m, count in Counter(models).items())


def test_every_call_is_counted_at_its_own_price(paid: Any, server: JudgeServer) -> None:
    record = swept(paid)
    assert record.counts == {"ok": 2}
    assert set(server.models) == set(PRICES)
    assert record.tokens == 15 * len(server.models)
    assert record.money == pytest.approx(money(server.models), abs=1e-6)


def test_the_cost_of_a_question_is_that_of_asking_it_whatever_the_cache_has(paid: Any) -> None:
    measures = ["token_f1", "llm_tokens", "cost"]
    found = []
    for space in ({"retrieve.top_k": [1]}, {"retrieve.top_k": [1], "retrieve.fetch_k": [10]}):
        found.append(swept(paid, space=space, objectives=measures).trials[0].objectives)
    # a question: 2 passages, 3 windows of 2 among 4 hits at most, and 1 answer
    rerankings = (found[0]["llm_tokens"] or 0.0) / 15 - 3
    assert 2 < rerankings <= 3
    money = sum(
        count * (10 * PRICES[m][0] + 5 * PRICES[m][1])
        for m, count in (("asker", 2), ("sorter", rerankings), ("reader", 1))
    )
    assert found[0]["cost"] == pytest.approx(1000 * money / 1e6)
    assert found[1] == found[0]


def test_what_the_cache_answers_costs_nothing_and_what_was_paid_before_still_counts(
    paid: Any, server: JudgeServer
) -> None:
    first = swept(paid)
    before = len(server.models)
    again = swept(paid)
    assert len(server.models) == before
    assert (again.tokens, again.money) == (first.tokens, first.money)  # of all commands of this sweep
    other = swept(paid, space={"retrieve.top_k": [1, 2, 3]})
    new = server.models[before:]
    assert 0 < len(new) < before
    assert (other.tokens, other.money) == (15 * len(new), pytest.approx(money(new), abs=1e-6))


def test_a_budget_of_tokens_sees_the_judge(paid: Any, server: JudgeServer) -> None:
    settings = paid.settings()
    settings["pipeline"] |= {"context": "none", "transform": "none", "rerank": "none", "generate": "extractive"}
    paid.write(settings)
    record = swept(paid, budget={"tokens": 1})
    assert set(server.models) == {"judge"}
    assert (record.status, sum(record.counts.values())) == ("budget", 1)
    assert "sweep.budget.tokens (1) is used up" in record.summary
    assert record.tokens == 15 * len(server.models)


def test_a_budget_of_money_ends_the_sweep(paid: Any, server: JudgeServer) -> None:
    record = swept(paid, budget={"money": 1e-6})
    assert (record.status, sum(record.counts.values())) == ("budget", 1)
    assert record.money == pytest.approx(money(server.models), abs=1e-6)
    assert swept(paid, budget={"money": 100.0}).counts == {"ok": 2}


def test_the_plan_counts_all_calls_and_is_an_upper_limit(paid: Any, server: JudgeServer) -> None:
    settings = paid.settings()
    settings["sweep"] = {"space": {"retrieve.top_k": [1, 2]}, "objectives": ["token_f1", "ragas/faithfulness"]}
    paid.write(settings)
    ready = prepare_sweep(paid.config, (), Reporter(quiet=True))
    plan = ready.plan()
    assert not server.models
    chunks = plan.calls["context"]
    assert chunks > 12
    # 13 dev questions: 2 passages each, 3 windows each, shared by both top_k; answers, and 2 + 1 judgements, of each
    assert plan.calls == {"context": chunks, "query transform": 26, "reranking": 39, "answer": 26, "judge": 78}
    line = plan.lines()[0]
    assert (
        f"at most {plan.llm_calls} LLM calls ({chunks} context, 26 query transform, 39 reranking, 26 answer, " in line
    )
    ready.run(plan)
    made = Counter(server.models)
    assert (made["writer"], made["asker"]) == (chunks, 26)
    assert 0 < made["sorter"] <= 39 and 13 < made["reader"] <= 26  # equal prompts are sent once
    assert 0 < made["judge"] <= 78
    assert prepare_sweep(paid.config, (), Reporter(quiet=True)).plan().llm_calls == 0  # all is recorded


def test_a_guided_search_is_planned_by_its_dearest_trials(paid: Any) -> None:
    settings = paid.settings()
    judge = settings["score"]["judge"] | {"metrics": ["context_precision"]}
    settings["score"]["judge"] = judge
    space, search = {"retrieve.top_k": [1, 2, 3, 4]}, {"kind": "tpe", "trials": 2}
    settings["sweep"] = {"space": space, "objectives": ["ragas/context_precision"], "search": search}
    paid.write(settings)
    plan = prepare_sweep(paid.config, (), Reporter(quiet=True)).plan()
    assert plan.calls["judge"] == 13 * (4 + 3)
    assert plan.calls["answer"] == 2 * 13


def test_tokens_of_a_model_on_this_machine_count_and_cost_nothing(words: Any, tiny_llm: Path) -> None:
    settings = words.settings()
    llm = {"kind": "local", "model": str(tiny_llm), "dtype": "float32"}
    prompt = {"template": "cited", "max_context_tokens": 300}
    settings["pipeline"]["generate"] = {"kind": "llm", "max_tokens": 4, "llm": llm, "prompt": prompt}
    settings["sweep"] = {"space": {"retrieve.top_k": [1]}, "objectives": ["token_f1", "llm_tokens"]}
    words.write(settings)
    record = sweep(words.config)
    mean = record.trials[0].objectives["llm_tokens"]
    assert mean is not None and record.tokens == pytest.approx(13 * mean) and record.money == 0.0
