"""`gate.selection: max-t` in a climb: every trial on dev and test, one correction; and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from ragladder.core.errors import ConfigError
from ragladder.ladder.climb import climb
from ragladder.ladder.config import load_experiment
from ragladder.ladder.max_t import selection


def pooled(workspace: Any, **changed: Any) -> Any:
    """The workspace with a grid over chunkings, chosen by max-T."""
    settings = workspace.settings()
    retrieval = settings["rungs"]["retrieval"]
    retrieval["space"] = {"chunk": retrieval["space"]["chunk"], "context": ["none", "heading"]}
    retrieval |= {"search": "grid"} | changed
    settings["gate"]["selection"] = "max-t"
    workspace.write(settings)
    return workspace


def test_all_trials_are_compared_on_dev_and_test(words: Any) -> None:
    record = climb(pooled(words).config)
    rung = record.rungs[0]
    primary = rung.decision.primary
    assert primary is not None and primary.split == "dev+test"
    assert primary.family == 4, "two chunkings, with and without headings"
    assert primary.n == 36, "12 answerable questions on dev, 24 on test"
    assert rung.details["selection"] == "max-t" and rung.dev == {}
    assert "max-T" in rung.decision.reasons[0] and "dev and test questions" in rung.decision.reasons[0]
    html = (words.runs()[-1] / "report.html").read_text()
    assert "best of 4" in html


def test_it_is_stricter_than_a_single_comparison_and_guards_share_alpha(words: Any) -> None:
    settings = pooled(words).settings()
    settings["gate"]["guardrails"] = {"hit@1": 0.9}
    words.write(settings)
    decision = climb(words.config).rungs[0].decision
    [guard] = decision.guardrails
    assert decision.primary is not None
    assert decision.primary.alpha == pytest.approx(0.1)
    assert (guard.split, guard.alpha) == ("dev+test", pytest.approx(0.1 / 4))


def test_a_sweep_of_the_incumbent_alone_has_no_family(words: Any) -> None:
    decision = climb(pooled(words, space={"chunk.size": [32]}).config).rungs[0].decision
    assert (decision.verdict, decision.primary) == ("reject", None)


def test_a_search_that_follows_the_scores_is_refused(words: Any) -> None:
    pooled(words, search="coordinate")
    with pytest.raises(ConfigError, match="do not depend on scores.*'coordinate'"):
        climb(words.config)


def test_axes_of_two_metrics_are_refused(words: Any) -> None:
    settings = pooled(words).settings()
    settings["rungs"]["retrieval"]["space"]["retrieve.top_k"] = [2, 3]
    words.write(settings)
    with pytest.raises(ConfigError, match=r"retrieve\.top_k change answers only"):
        climb(words.config)


@pytest.mark.parametrize(
    ("space", "search", "taken"),
    [
        ({"chunk.size": [16, 24, 32]}, "grid", "max-t"),
        ({"chunk.size": [16, 24, 32], "context": ["none", "heading"]}, "random", "max-t"),
        ({"chunk.size": [16, 24, 32]}, "coordinate", "split"),
        ({"chunk.size": [16, 24, 32], "context": ["none", "heading"]}, "coordinate", "split"),
        ({"chunk.size": list(range(16, 27))}, "grid", "split"),
        ({"chunk.size": [16, 24], "retrieve.top_k": [2, 3]}, "grid", "split"),
        ({}, "grid", "split"),
    ],
)
def test_auto_takes_max_t_for_few_points_that_no_score_chose(words: Any, space: Any, search: str, taken: str) -> None:
    settings = words.settings()
    settings["rungs"]["retrieval"] |= {"space": space, "search": search}
    settings["gate"].pop("selection", None)
    words.write(settings)
    assert selection(load_experiment(words.config)) == taken


def test_auto_counts_the_trials_of_a_random_search(words: Any) -> None:
    settings = words.settings()
    settings["rungs"]["retrieval"] |= {"space": {"chunk.size": list(range(16, 40))}, "search": "random", "trials": 10}
    settings["gate"]["selection"] = "auto"
    words.write(settings)
    assert selection(load_experiment(words.config)) == "max-t"


def test_auto_says_what_it_took(words: Any) -> None:
    settings = pooled(words).settings()
    settings["gate"]["selection"] = "auto"
    words.write(settings)
    rung = climb(words.config).rungs[0]
    assert rung.details["selection"] == "max-t"
    assert rung.decision.primary is not None and rung.decision.primary.family == 4
    log = (words.runs()[-1] / "run.log").read_text()
    assert "gate.selection: auto; set split if dev was looked at before" in log


def test_an_unknown_selection_is_refused_with_the_known_ones(words: Any) -> None:
    settings = words.settings()
    settings["gate"]["selection"] = "holdout"
    words.write(settings)
    with pytest.raises(ConfigError, match="gate.selection.*'auto', 'split' or 'max-t'"):
        climb(words.config)


def test_a_guardrail_of_a_cost_is_refused(words: Any) -> None:
    settings = words.settings()
    settings["gate"]["guardrails"] = {"ragas/noise_sensitivity": 0.05}
    words.write(settings)
    with pytest.raises(ConfigError, match="noise_sensitivity less is better"):
        climb(words.config)
