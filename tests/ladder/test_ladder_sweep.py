"""`ragladder sweep`, end to end on small documents: results, resuming, and what can go wrong."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ragladder.core.errors import ConfigError, StageError
from ragladder.ladder.config import load_experiment, with_changes
from ragladder.ladder.evaluate import evaluate_config
from ragladder.ladder.sweep.results import SweepRecord
from ragladder.ladder.sweep.run import Sweep, prepare_sweep, sweep

Cli = Callable[..., Any]
SPACE = {
    "chunk.kind": ["section", "token"],
    "chunk.size": [48, 64],
    "context": ["none", "heading"],
    "retrieve.top_k": [1, 2],
}


def settings_of(words: Any, **given: Any) -> Any:
    """The workspace with a section `sweep:`."""
    settings = words.settings()
    settings["sweep"] = {"space": SPACE, "objectives": ["ndcg@5"], **given}
    words.write(settings)
    return words


def folder(words: Any) -> Path:
    [found] = (words.cache / "sweeps").glob("*")
    return found


def rows(words: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder(words) / "trials.jsonl").read_text().splitlines()]


def untimed(record: SweepRecord) -> dict[str, Any]:
    """A record without what differs between equal sweeps."""
    data = json.loads(record.model_dump_json(exclude={"run_id", "created", "seconds", "best_yaml", "plan"}))
    for trial in data["trials"]:
        trial.pop("seconds")
        trial.pop("trial")
    (data["baseline"] or {}).pop("trial", None)
    data.pop("pareto")
    return data


def refused(ran: Any, code: int, *said: str) -> None:
    assert ran.code == code, ran
    assert ran.err.startswith("error: "), ran.err
    assert "Traceback" not in ran.err
    for text in said:
        assert text in ran.err, ran.err


# --- results ---


def test_a_grid_is_ranked_by_the_scores_that_eval_gives(words: Any) -> None:
    record = sweep(settings_of(words).config)
    assert record.counts == {"ok": 16}
    means = [trial.objectives["ndcg@5"] for trial in record.trials]
    assert means == sorted(means, reverse=True)
    assert [trial.rank for trial in record.trials] == list(range(1, 17))
    best, last = record.trials[0], record.trials[-1]
    assert best.point == record.winner
    assert best.objectives["ndcg@5"] > last.objectives["ndcg@5"]
    from ragladder.core.progress import Reporter

    found = evaluate_config(Path(record.best_yaml or ""), "dev", (), Reporter(quiet=True))
    assert found.scores["ndcg@5"].mean == pytest.approx(best.objectives["ndcg@5"], abs=1e-12)
    assert found.scores["ndcg@5"] == best.estimates["ndcg@5"]


def test_the_winner_runs_as_it_stands_and_sweeps_no_more(words: Any, cli: Cli) -> None:
    record = sweep(settings_of(words).config)
    config = load_experiment(Path(record.best_yaml or ""))
    assert config.sweep is None
    assert config.pipeline.chunk.kind == record.winner["chunk.kind"]
    assert cli("check", record.best_yaml).code == 0


def test_configurations_that_cannot_be_told_apart_are_said_to_be_so(words: Any) -> None:
    record = sweep(settings_of(words, space={"retrieve.fetch_k": [8, 9, 10]}).config)
    assert [trial.same_as_best for trial in record.trials] == [True, True, True]
    assert "2 others cannot be told apart" in record.summary


def test_the_knob_that_matters_has_the_greatest_importance_and_its_marginals_are_means(words: Any) -> None:
    record = sweep(settings_of(words).config)
    assert record.axes[0].importance == max(axis.importance for axis in record.axes if axis.importance is not None)
    of = {axis.axis: axis for axis in record.axes}
    assert of["retrieve.top_k"].spread == 0.0  # ndcg@5 looks past top_k
    sections = [t.objectives["ndcg@5"] for t in record.trials if t.point["chunk.kind"] == "section"]
    [value] = [v for v in of["chunk.kind"].values if v.value == "section"]
    assert (value.trials, value.mean) == (8, pytest.approx(sum(sections) / 8))
    # a whole grid: the variance of an axis' means over that of all scores, exactly
    scores = [t.objectives["ndcg@5"] for t in record.trials]
    share = statistics.pvariance([v.mean for v in of["chunk.kind"].values]) / statistics.pvariance(scores)
    assert of["chunk.kind"].importance == pytest.approx(share, abs=1e-4)
    assert of["retrieve.top_k"].importance == 0.0
    assert sum(axis.importance for axis in record.axes) <= 1.001


def test_shares_are_estimated_where_only_a_part_of_the_grid_was_tried(words: Any) -> None:
    record = sweep(settings_of(words, search={"kind": "random", "trials": 10}).config)
    assert record.counts == {"ok": 10}
    shares = [axis.importance for axis in record.axes if axis.importance is not None]
    assert len(shares) == 4 and sum(shares) == pytest.approx(1.0, abs=1e-3)


def test_several_objectives_give_a_front_and_constraints_leave_configurations_out(words: Any) -> None:
    objectives = ["ndcg@5", "context_tokens", "index_mb", "latency_p95", "chunks"]
    record = sweep(settings_of(words, objectives=objectives[:2], constraints=["context_tokens <= 60"]).config)
    assert record.counts["infeasible"] > 0
    assert all(t.objectives["context_tokens"] <= 60 for t in record.trials if t.status == "ok")
    assert all("context_tokens <= 60" in t.error for t in record.trials if t.status == "infeasible")
    good = [t for t in record.trials if t.status == "ok"]
    for trial in good:
        beaten = any(
            o.objectives["ndcg@5"] >= trial.objectives["ndcg@5"]
            and o.objectives["context_tokens"] <= trial.objectives["context_tokens"]
            and (o.objectives["ndcg@5"], -o.objectives["context_tokens"])
            != (trial.objectives["ndcg@5"], -trial.objectives["context_tokens"])
            for o in good
        )
        assert trial.pareto is not beaten
    assert set(record.pareto) == {t.trial for t in good if t.pareto}


def test_costs_are_measured_where_they_are_asked_for(words: Any) -> None:
    asked = ["index_mb", "latency_p50", "latency_p95", "chunks", "context_chars", "llm_tokens", "cost", "token_f1"]
    given = settings_of(words, space={"chunk.size": [32, 96]}, objectives=["ndcg@5", *asked])
    by_size = {trial.point["chunk.size"]: trial.objectives for trial in sweep(given.config).trials}
    assert by_size[32]["chunks"] > by_size[96]["chunks"]
    assert by_size[32]["context_chars"] < by_size[96]["context_chars"]
    assert all(0 < of["latency_p50"] <= of["latency_p95"] and of["index_mb"] > 0 for of in by_size.values())
    assert all(of["cost"] == of["llm_tokens"] == 0 for of in by_size.values())  # the extractive reader asks no LLM


def test_a_space_of_the_retrieval_rung_can_be_swept_and_axes_given_on_the_command_line(words: Any, cli: Cli) -> None:
    axes = ("--set", "chunk={kind: token, size: 64},section", "--set", "retrieve.top_k=2")
    ran = cli("sweep", words.config, "--json", *axes)
    assert ran.code == 0, ran
    record = SweepRecord.model_validate_json(ran.out)
    assert record.search == "coordinate"
    assert {json.dumps(t.point.get("chunk")) for t in record.trials} >= {'"section"', '{"kind": "token", "size": 64}'}
    assert {t.point.get("retrieve.top_k") for t in record.trials} <= {None, 2}


def test_the_terminal_shows_ranking_knobs_summary_and_what_to_do_next(words: Any, cli: Cli) -> None:
    ran = cli("sweep", settings_of(words).config, "--top", 3)
    assert ran.code == 0, ran
    assert "16 trials and the pipeline as configured = 1 parse, 5 chunkings" in ran.err
    assert "0 LLM calls" in ran.err
    for text in ("rank", "13 more in sweep.json", "which knobs mattered", "Best of 16 on dev", "ragladder climb"):
        assert text in ran.out
    assert "report.html" in ran.out and (folder(words) / "report.html").is_file()


def test_the_plan_alone_scores_nothing(words: Any, cli: Cli) -> None:
    ran = cli("sweep", settings_of(words).config, "--plan")
    assert ran.code == 0
    start = "16 trials and the pipeline as configured = 1 parse, 5 chunkings, 0 encodings, 9 searches"
    assert ran.out.startswith(start)
    assert not list((words.cache / "sweeps").glob("*")) and not list(words.cache.glob("stages/search*"))


def test_the_plan_counts_the_texts_that_are_not_yet_encoded(workspace: Any) -> None:
    settings = workspace.settings()
    settings["sweep"] = {"space": {"chunk.size": [24, 48], "retrieve.top_k": [1, 2]}, "objectives": ["ndcg@5"]}
    workspace.write(settings)
    ready = prepared(workspace)
    plan = ready.plan()
    assert (plan.trials, plan.chunkings, plan.encodings, plan.searches) == (4, 2, 2, 2)
    assert plan.texts > 0
    assert ready.run(plan).counts == {"ok": 4}
    again = prepared(workspace).plan()
    assert (again.texts, again.recorded) == (0, 4)


def test_axes_after_the_search_compute_no_new_stage(words: Any) -> None:
    given = settings_of(words, space={"chunk.size": [32], "retrieve.top_k": list(range(1, 9))})
    sweep(given.config)
    before = given.stages()
    axes = {"chunk.size": [32], "retrieve.top_k": list(range(1, 9)), "retrieve.per_document": [1, 2, 3]}
    record = sweep(settings_of(words, space=axes).config)
    assert record.counts == {"ok": 24}
    assert given.stages() == before


# --- searches ---


@pytest.mark.parametrize(
    ("search", "objectives", "most"),
    [
        ({"kind": "random", "trials": 6}, ["ndcg@5"], 6),
        ({"kind": "coordinate", "passes": 1}, ["ndcg@5"], 9),
        ({"kind": "tpe", "trials": 8, "startup_trials": 3}, ["ndcg@5"], 8),
        ({"kind": "tpe", "trials": 8, "batch": 3}, ["ndcg@5", "context_chars"], 8),
        ({"kind": "nsga2", "trials": 10, "population": 4}, ["ndcg@5", "context_chars"], 10),
        ({"kind": "halving", "eta": 2}, ["ndcg@5"], 16),
        ({"kind": "racing", "blocks": 3, "trials": 7}, ["ndcg@5"], 7),
    ],
)
def test_a_search_is_the_same_for_the_same_seed_and_goes_on_where_it_was_killed(
    words: Any, search: dict[str, Any], objectives: list[str], most: int
) -> None:
    given = settings_of(words, search=search, objectives=objectives)
    whole = sweep(given.config)
    assert 2 <= sum(whole.counts.values()) <= most
    log = folder(words) / "trials.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    # as after kill -9: some trials are recorded, the last line is torn
    log.write_text("".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
    resumed = sweep(given.config)
    assert untimed(resumed) == untimed(whole)
    assert len(rows(words)) == len(lines)


def test_survivors_of_a_race_are_scored_on_all_questions_and_the_dropped_say_why(words: Any) -> None:
    # one bad configuration among good ones: it finds nothing
    space = {"retrieve.threshold": [None, 1000.0], "chunk.size": [64, 96]}
    race = {"kind": "racing", "blocks": 3, "alpha": 0.9}
    record = sweep(settings_of(words, space=space, search=race).config)
    full = sweep(settings_of(words, space=space).config)
    means = {json.dumps(t.point): t.objectives["ndcg@5"] for t in full.trials}
    alive = [t for t in record.trials if t.status == "ok"]
    assert record.winner == full.winner
    assert all(t.objectives["ndcg@5"] == pytest.approx(means[json.dumps(t.point)]) for t in alive)
    assert all("worse than the best" in t.error for t in record.trials if t.status == "dropped")


def test_the_coordinate_search_finds_what_the_rung_finds(words: Any) -> None:
    from ragladder.ladder.climb import climb

    ladder = climb(words.config)
    settings = words.settings()
    rung = settings["rungs"]["retrieval"]
    space = {axis: values for axis, values in rung["space"].items() if axis != "retrieve.top_k"}
    search = {"kind": "coordinate", "passes": rung["passes"]}
    record = sweep(settings_of(words, space=space, objectives=[rung["metric"]], search=search).config)
    chosen = {k: v for k, v in ladder.rungs[0].details["chosen"].items() if k != "retrieve.top_k"}
    base = load_experiment(words.config).pipeline
    assert with_changes(base, chosen) == with_changes(base, record.winner or {})


# --- budgets, failures ---


def prepared(words: Any, *overrides: str) -> Sweep:
    from ragladder.core.progress import Reporter

    return prepare_sweep(words.config, overrides, Reporter(quiet=True))


def test_a_budget_of_trials_ends_the_sweep_and_a_higher_one_goes_on(words: Any, cli: Cli) -> None:
    settings_of(words, budget={"trials": 5})
    ran = cli("sweep", words.config, "--json")
    record = SweepRecord.model_validate_json(ran.out)
    assert (ran.code, record.status, record.counts) == (0, "budget", {"ok": 5})
    assert "sweep.budget.trials (5) is used up" in record.summary
    record = sweep(settings_of(words, budget={"trials": 7}).config)
    assert record.counts == {"ok": 7}
    assert len(rows(words)) == 1 + 7  # the pipeline as configured is no point of the space


def test_a_budget_of_time_ends_with_code_5_and_the_command_that_goes_on(words: Any, cli: Cli) -> None:
    settings_of(words, budget={"minutes": 1e-9})
    ran = cli("sweep", words.config)
    refused_at_end = ran.err.splitlines()[-1]
    assert ran.code == 5
    assert refused_at_end.startswith("error: the sweep was ended by its budget")
    assert f"ragladder sweep {words.config}" in refused_at_end
    assert sweep(settings_of(words).config).counts == {"ok": 16}


COMPONENT = """
import time
from pydantic import BaseModel
from ragladder.core.types import Chunk

class Odd:
    class Settings(BaseModel):
        mode: str = "fine"
    def __init__(self, settings, resources):
        self.mode = settings.mode
    def chunk(self, document):
        if self.mode == "raises":
            raise KeyError("no such paragraph")
        if self.mode == "hangs":
            time.sleep(60)
        if self.mode == "dies":
            import os
            os.kill(os.getpid(), 9)
        text = document.text.strip()
        start = document.text.index(text)
        return [Chunk(document.id, start, start + len(text), text)]
"""


@pytest.fixture
def odd(words: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace with a chunker of its own that can fail in several ways."""
    (words.root / "odd_chunker.py").write_text(COMPONENT)
    monkeypatch.syspath_prepend(str(words.root))
    monkeypatch.delitem(sys.modules, "odd_chunker", raising=False)
    return words


def chunkers(*modes: str) -> dict[str, Any]:
    return {"chunk": [{"kind": "odd_chunker:Odd", "mode": mode} for mode in modes]}


def test_a_component_that_raises_is_a_failed_trial_and_the_sweep_goes_on(odd: Any, cli: Cli) -> None:
    settings_of(odd, space=chunkers("raises", "fine"))
    ran = cli("sweep", odd.config)
    assert ran.code == 0
    assert "no such paragraph" in ran.out
    by_mode = {row["point"]["chunk"]["mode"]: row for row in rows(odd) if row["point"]}
    assert (by_mode["raises"]["status"], by_mode["fine"]["status"]) == ("failed", "ok")
    assert "no such paragraph" in by_mode["raises"]["error"]


def test_a_trial_that_takes_too_long_is_recorded_as_such(odd: Any) -> None:
    sweep(settings_of(odd, space=chunkers("fine")).config)  # its stages are there: it is quick on a busy machine too
    settings_of(odd, space=chunkers("hangs", "fine"), trial_timeout_s=2)
    started = time.monotonic()
    record = sweep(odd.config)
    assert record.counts == {"timeout": 1, "ok": 1}
    assert time.monotonic() - started < 40
    [late] = [t for t in record.trials if t.status == "timeout"]
    assert "trial_timeout_s (2 s)" in late.error


def test_an_unknown_model_fails_its_trials_and_the_plan_says_so(words: Any, cli: Cli) -> None:
    models = [{"kind": "sentence_transformer", "model": "no/such-model"}]
    space = {"retrieve.mode": ["bm25", "dense"], "embed": models}
    ran = cli("sweep", settings_of(words, space=space).config)
    assert ran.code == 0, ran
    assert "will fail" in ran.err and "no/such-model" in ran.err
    assert "no/such-model" in ran.out


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"chunk": ["token"], "chunk.size": [64, 0]}, "greater than or equal to"),
        ({"chunk": ["token"], "chunk.size": [16], "chunk.overlap": [16]}, "overlap"),
        ({"retrieve.weight": [0.5, [0.3, 0.7]]}, "one number is wanted"),
        ({"chunk.siez": [64]}, "did you mean 'size'"),
        ({"retrieve.top_k": []}, "no values for retrieve.top_k"),
    ],
)
def test_values_that_cannot_work_are_refused_before_anything_runs(
    words: Any, cli: Cli, space: dict[str, Any], said: str
) -> None:
    settings_of(words, space=space)
    for command in ("sweep", "check"):
        if command == "check" and said == "overlap":
            continue  # each value is fine alone: the sweep looks at points
        refused(cli(command, words.config), 2, str(words.config), said)
    assert not words.cache.exists()


def test_no_valid_point_nothing_to_sweep_and_unknown_objectives_are_refused(words: Any, cli: Cli) -> None:
    settings_of(words, constraints=["chunk.size > 1000"])
    refused(cli("sweep", words.config), 2, "no point of the space is valid", "chunk.size > 1000")
    settings_of(words, objectives=["ndcg@7"])
    refused(cli("sweep", words.config), 2, "ndcg@7", "is not computed")
    settings_of(words, constraints=["contex_tokens < 5"])
    refused(cli("sweep", words.config), 2, "contex_tokens", "is not computed")
    settings = words.settings()
    settings["sweep"], settings["rungs"] = {"objectives": ["mrr"]}, {}
    words.write(settings)
    refused(cli("sweep", words.config), 2, "nothing to sweep", "--set pipeline.chunk.size=128,256,512")
    with pytest.raises(ConfigError, match="not valid YAML"):
        sweep(words.config, ["chunk.size=[1"])


def test_a_damaged_line_and_a_second_process_are_told(words: Any) -> None:
    given = settings_of(words, space={"retrieve.top_k": [1, 2]})
    sweep(given.config)
    log = folder(words) / "trials.jsonl"
    log.write_text("{}x\n" + log.read_text())
    with pytest.raises(StageError, match=r"trials.jsonl:1: damaged"):
        sweep(given.config)
    log.write_text("")
    from ragladder.ladder.sweep.trials import locked

    with locked(folder(words)), pytest.raises(StageError, match="another process works on this sweep"):
        sweep(given.config)


def test_ctrl_c_keeps_what_is_done_and_says_the_command(odd: Any) -> None:
    space = {**chunkers("fine", "hangs"), "retrieve.top_k": [1, 2]}
    settings_of(odd, space=space)
    # a shell starts background jobs deaf to SIGINT, and children inherit that
    deaf = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = 'ragladder'"
    code = f"{deaf}; from ragladder.ladder.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", str(odd.config)]
    with subprocess.Popen(
        command, cwd=odd.root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not list((odd.cache / "sweeps").glob("*/trials.jsonl")):
                time.sleep(0.2)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"go on with: ragladder sweep {odd.config}" in err
    assert [row["status"] for row in rows(odd)] == ["ok", "ok", "ok"]  # one is the pipeline as configured
    settings = yaml.safe_load(odd.config.read_text())
    settings["sweep"]["trial_timeout_s"] = 1
    odd.write(settings)
    assert sweep(odd.config).counts == {"ok": 2, "timeout": 2}


# --- processes ---


@pytest.mark.slow
def test_local_processes_give_the_same_result(words: Any) -> None:
    given = settings_of(words)
    serial = sweep(given.config)
    (folder(words) / "trials.jsonl").unlink()
    overrides = ("runtime.executor=processes", "runtime.workers=2")
    assert untimed(sweep(given.config, overrides)) == untimed(serial)


@pytest.mark.slow
def test_a_process_that_dies_loses_no_other_trial(odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(odd.root), prepend=os.pathsep)
    settings_of(odd, space={**chunkers("dies", "fine"), "retrieve.top_k": [1, 2]})
    record = sweep(odd.config, ("runtime.executor=processes", "runtime.workers=2"))
    assert record.counts == {"ok": 2, "failed": 2}
    assert all("signal 9" in t.error for t in record.trials if t.status == "failed")
