"""Every configuration of a sweep against the pipeline as configured, corrected for their number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ragladder.core.errors import ConfigError
from ragladder.eval.multiple import max_t
from ragladder.ladder.report import build_report
from ragladder.ladder.sweep.baseline import gains
from ragladder.ladder.sweep.evaluate import Outcome
from ragladder.ladder.sweep.results import SweepRecord
from ragladder.ladder.sweep.run import sweep
from ragladder.ladder.sweep.words import sweep_lines

GROUPS = [f"document {place // 4}" for place in range(80)]


def outcome(key: str, values: list[float | None], metric: str = "ndcg@5") -> Outcome:
    return Outcome(key, values={metric: values}, applies={metric: list(range(len(values)))})


def drawn(seed: int, shift: float = 0.0) -> list[float]:
    return (np.random.default_rng(seed).normal(0.5 + shift, 0.2, 80)).tolist()


# --- the statistics ---


def test_the_bounds_are_those_of_max_t_on_both_sides() -> None:
    base, rows = drawn(0), [drawn(seed, shift) for seed, shift in ((1, 0.3), (2, 0.0), (3, -0.3))]
    found, basis = gains(
        outcome("start", base), [outcome(f"c{n}", r) for n, r in enumerate(rows)], "ndcg@5", GROUPS, 5, 0.02
    )
    differences = np.array(rows) - np.array(base)
    low = max_t(differences, GROUPS, alpha=0.025, seed=5).lower_bound
    high = -max_t(-differences, GROUPS, alpha=0.025, seed=5).lower_bound
    assert [found[f"c{n}"].low for n in range(3)] == pytest.approx(list(low))
    assert [found[f"c{n}"].high for n in range(3)] == pytest.approx(list(high))
    assert [found[f"c{n}"].verdict for n in range(3)] == ["better", "unclear", "worse"]
    assert all((gain.p_value <= 0.05) == (gain.verdict != "unclear") for gain in found.values())
    assert (basis.configurations, basis.questions, basis.clusters, basis.left_out, basis.note) == (3, 80, 20, 0, "")
    first = found["c0"]
    assert first.wins + first.ties + first.losses == 80 and first.wins > first.losses


def test_more_configurations_need_more() -> None:
    """The same candidate beside ever more noise: its interval widens, which nothing but the correction does."""
    base, good = drawn(0), outcome("good", drawn(1, 0.1))
    widths = []
    for count in (0, 5, 50):
        others = [outcome(f"n{seed}", drawn(100 + seed)) for seed in range(count)]
        found, _ = gains(outcome("start", base), [good, *others], "ndcg@5", GROUPS, 0, 0.02)
        gain = found["good"]
        assert gain.low is not None and gain.high is not None
        widths.append(gain.high - gain.low)
    assert widths[0] < widths[1] < widths[2]


def test_noise_alone_is_rarely_called_better() -> None:
    """Sixty sweeps of ten configurations without a gain: at 5% two-sided some three, of all sixty, find anything."""
    wrong = 0
    for repetition in range(60):
        rows = np.random.default_rng(repetition).normal(0.5, 0.2, (11, 80)).tolist()
        others = [outcome(f"c{n}", row) for n, row in enumerate(rows[1:])]
        found, _ = gains(outcome("start", rows[0]), others, "ndcg@5", GROUPS, 0, 0.02)
        wrong += any(gain.verdict != "unclear" for gain in found.values())
    assert wrong <= 8  # the 99.5% quantile of a binomial draw with 60 and .05 is 8


def test_of_costs_less_is_better() -> None:
    base, less = drawn(0), drawn(1, -0.3)
    metric = "context_chars@5"
    found, _ = gains(outcome("start", base, metric), [outcome("c", less, metric)], metric, GROUPS, 0, 0.02)
    assert found["c"].verdict == "better" and found["c"].difference < 0
    assert found["c"].wins > found["c"].losses
    assert found["c"].questions_needed is not None


def test_what_cannot_be_compared_says_why() -> None:
    base = outcome("start", drawn(0))
    gaps: list[float | None] = [None] * 4 + drawn(1)[4:]
    found, basis = gains(base, [outcome("a", drawn(1)), outcome("b", gaps)], "ndcg@5", GROUPS, 0, 0.02)
    assert not found and "4 of 80 questions lack a score" in basis.note and "more than 2%" in basis.note
    found, basis = gains(base, [outcome("a", drawn(1)), outcome("b", gaps)], "ndcg@5", GROUPS, 0, 0.06)
    assert set(found) == {"a", "b"} and (basis.questions, basis.left_out) == (76, 4)
    failed = Outcome("start", status="failed", error="no such model")
    found, basis = gains(failed, [outcome("a", drawn(1))], "ndcg@5", GROUPS, 0, 0.02)
    assert not found and "no such model" in basis.note
    found, basis = gains(base, [outcome("a", drawn(1))], "ndcg@5", ["one"] * 80, 0, 0.02)
    assert not found and "one document" in basis.note
    found, basis = gains(base, [failed, base], "ndcg@5", GROUPS, 0, 0.02)
    assert not found and "no other configuration" in basis.note


def test_a_configuration_equal_to_the_start_is_unclear() -> None:
    base = drawn(0)
    found, _ = gains(outcome("start", base), [outcome("same", base), outcome("c", drawn(1))], "ndcg@5", GROUPS, 0, 0.02)
    assert (found["same"].verdict, found["same"].difference, found["same"].p_value) == ("unclear", 0.0, 1.0)
    assert found["same"].questions_needed is None


# --- the sweep ---


def given(words: Any, space: dict[str, list[Any]], objectives: tuple[str, ...] = ("ndcg@5",), **more: Any) -> Any:
    settings = words.settings()
    settings["sweep"] = {"space": space, "objectives": list(objectives), **more}
    words.write(settings)
    return words


def sweep_json(words: Any) -> SweepRecord:
    [path] = (words.cache / "sweeps").glob("*/sweep.json")
    return SweepRecord.model_validate_json(path.read_bytes())


def test_test_questions_are_scored_where_asked_for_and_the_winner_is_shown_to_be_better(words: Any) -> None:
    settings = words.settings()
    settings["pipeline"]["retrieve"]["threshold"] = 1000.0  # as configured nothing is found
    words.write(settings)
    space = {"retrieve.threshold": [None, 0.0, 999.0]}
    record = sweep(given(words, space, questions="dev+test").config)
    assert (record.questions, record.split, record.counts) == (13 + 25, "dev+test", {"ok": 3})
    assert record.baseline is not None and not record.baseline.in_space
    assert (record.baseline.objectives["ndcg@5"], record.baseline.configurations) == (0.0, 3)
    best, last = record.trials[0], record.trials[-1]
    assert best.gain is not None and best.gain.verdict == "better" and best.gain.p_value <= 0.05
    assert best.gain.low is not None and 0 < best.gain.low <= best.gain.difference == best.objectives["ndcg@5"]
    assert last.gain is not None and (last.gain.verdict, last.gain.difference) == ("unclear", 0.0)
    for text in ("Best of 3 on dev and test", "Better than the pipeline as configured by +", "Test is used up"):
        assert text in record.summary
    assert "corrected for 3 configurations" in record.summary
    head = Path(record.best_yaml or "").read_text()
    assert "Test helped to choose it" in head and "test untouched" not in head
    rows = [
        json.loads(line) for line in (words.cache / "sweeps" / record.run_id / "trials.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 4 and {row["split"] for row in rows} == {"dev+test"}
    assert all(len(row["applies"]["ndcg@5"]) == 12 + 24 for row in rows)


def test_dev_alone_is_asked_by_default_and_a_loss_is_said_to_be_one(words: Any) -> None:
    record = sweep(given(words, {"retrieve.threshold": [999.0, 1000.0]}).config)
    assert (record.questions, record.split) == (13, "dev")
    assert record.trials[0].gain is not None and record.trials[0].gain.difference < 0
    assert "Better than" not in record.summary
    assert "3 documents are too few for a test" in record.summary  # of three documents all may lose by chance
    assert "Test is used up" not in record.summary


def test_the_start_is_not_scored_twice_where_it_is_a_point_of_the_space(words: Any) -> None:
    record = sweep(given(words, {"chunk.size": [32, 64], "retrieve.top_k": [1, 2]}).config)
    assert record.counts == {"ok": 4}
    assert record.baseline is not None and record.baseline.in_space
    [start] = [t for t in record.trials if t.point == {"chunk.size": 32, "retrieve.top_k": 1}]
    assert start.gain is None and start.trial == record.baseline.trial
    assert record.baseline.configurations == 3
    assert all(trial.gain is not None for trial in record.trials if trial is not start)


def test_a_winner_that_is_the_start_is_said_to_be_it(words: Any) -> None:
    record = sweep(given(words, {"retrieve.threshold": [None, 1000.0]}).config)
    assert record.winner == {"retrieve.threshold": None}
    assert "It is the pipeline as configured." in record.summary


def test_the_budget_of_trials_is_for_the_configurations(words: Any) -> None:
    record = sweep(given(words, {"chunk.size": [48, 64, 96]}, budget={"trials": 2}).config)
    assert (record.status, record.counts) == ("budget", {"ok": 2})
    assert record.baseline is not None and record.baseline.configurations == 2
    record = sweep(given(words, {"chunk.size": [48, 64, 96]}, budget={"trials": 3}).config)
    assert record.counts == {"ok": 3}


def test_a_start_that_fails_leaves_the_ranking_as_it_is(words: Any, cli: Any) -> None:
    settings = words.settings()
    settings["pipeline"]["retrieve"] |= {"mode": "dense"}
    settings["pipeline"]["embed"] = {"kind": "sentence_transformer", "model": "no/such-model"}
    words.write(settings)
    ran = cli("sweep", given(words, {"retrieve.mode": ["bm25"], "chunk.size": [32, 64]}).config)
    assert ran.code == 0, ran
    assert "It was not compared with the pipeline as configured" in ran.out and "no/such-model" in ran.out
    record = sweep_json(words)
    assert record.counts == {"ok": 2} and record.trials[0].gain is None


@pytest.mark.parametrize(
    ("objective", "search", "said"),
    [
        ("context_chars", {"kind": "grid"}, "one number for all questions"),
        ("ndcg@5", {"kind": "coordinate"}, "a coordinate search goes where scores are good"),
        ("ndcg@5", {"kind": "halving", "eta": 2}, "ragladder climb best.yaml judges on test"),
    ],
)
def test_sweeps_without_a_test_say_so(words: Any, objective: str, search: dict[str, Any], said: str) -> None:
    record = sweep(given(words, {"chunk.size": [48, 64]}, (objective,), search=search).config)
    assert record.baseline is None and said in record.summary
    assert all(trial.gain is None for trial in record.trials)


def test_a_search_that_follows_scores_may_not_use_test_up(words: Any) -> None:
    more = {"search": {"kind": "coordinate"}, "questions": "dev+test"}
    with pytest.raises(ConfigError, match="needs search grid or random"):
        sweep(given(words, {"chunk.size": [48, 64]}, **more).config)


def test_gains_are_shown_on_the_terminal_and_on_the_page(words: Any) -> None:
    settings = words.settings()
    settings["pipeline"]["retrieve"]["threshold"] = 1000.0
    words.write(settings)
    record = sweep(given(words, {"retrieve.threshold": [None, 999.0]}, questions="dev+test").config)
    text = "\n".join(sweep_lines(record, 10))
    assert "38 dev+test questions" in text and "against as configured" in text
    assert "as configured: ndcg@5 0.0000" in text
    gain = record.trials[0].gain
    assert gain is not None and f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] +" in text
    page = build_report(words.cache / "sweeps" / record.run_id).read_text(encoding="utf-8")
    assert "Against as configured" in page and "corrected for 2 configurations" in page
    table = (words.cache / "sweeps" / record.run_id / "trials.csv").read_text().splitlines()
    assert "gain,gain_low,gain_high,gain_p" in table[0]


def test_the_option_is_part_of_what_a_sweep_is(words: Any) -> None:
    """Scores on other questions are not those of this sweep: it gets a folder of its own."""
    config = given(words, {"chunk.size": [48, 64]}).config
    first = sweep(config)
    settings = yaml.safe_load(config.read_text())
    settings["sweep"]["questions"] = "dev+test"
    words.write(settings)
    assert sweep(config).run_id != first.run_id
