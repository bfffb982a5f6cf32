"""Stages shared by `runtime.store_url`: another machine finds them, and a place that fails stops all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ragladder.ladder.sweep.executors import Setup
from ragladder.ladder.sweep.results import SweepRecord
from ragladder.ladder.sweep.run import sweep

Cli = Callable[..., Any]


@pytest.fixture
def shared(words: Any) -> Any:
    """A workspace whose sweep has two chunkings, with a share beside it."""
    settings = words.settings()
    settings["sweep"] = {"space": {"chunk.size": [48, 64], "retrieve.top_k": [1, 2]}, "objectives": ["ndcg@5"]}
    (words.root / "share").mkdir()
    settings["runtime"]["store_url"] = f"file://{words.root / 'share'}"
    words.write(settings)
    return words


def untimed(record: SweepRecord) -> dict[str, Any]:
    data = json.loads(record.model_dump_json(exclude={"run_id", "created", "seconds", "best_yaml", "plan", "pareto"}))
    for trial in data["trials"]:
        del trial["seconds"], trial["trial"]
    return data


def computed(cache: Path) -> list[str]:
    """Stages that a run of this cache computed rather than fetched, by its logs."""
    lines = [line for log in cache.rglob("run.log") for line in log.read_text().splitlines()]
    assert lines, "there is no log to read"
    return [line for line in lines if line.endswith(": computing")]


def listed(space: Any) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (space.root / "share" / "stages").glob("*.json")}


def test_another_machines_sweep_computes_nothing_and_ends_the_same(shared: Any) -> None:
    first = sweep(shared.config)
    there = listed(shared)
    assert {name.partition("-")[0] for name in there} >= {"parse", "chunk", "gold", "search"}
    second = sweep(shared.config, ("runtime.cache_dir=other",))
    assert untimed(second) == untimed(first)
    assert computed(shared.cache) and not computed(shared.root / "other")
    assert listed(shared) == there


def test_another_machines_climb_computes_nothing_and_decides_the_same(shared: Any, cli: Cli, comparable: Any) -> None:
    def climb(cache: str) -> Any:
        ran = cli("climb", shared.config, "--set", f"runtime.cache_dir={cache}")
        assert ran.code == 0, ran
        [folder] = (shared.root / cache / "runs").glob("*")
        ladder = json.loads((folder / "ladder.json").read_text())
        assert ladder["rungs"]
        return json.loads(json.dumps(comparable(shared, ladder)).replace(f"ROOT/{cache}", "CACHE"))

    first, second = climb("cache"), climb("other")
    for record in (first, second):
        record.pop("config_sha256", None)  # of the config with its cache folder
    assert first == second
    assert not computed(shared.root / "other")


def test_a_share_that_vanishes_stops_the_sweep_and_no_trial_is_called_failed(
    shared: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(shared.config, ("sweep.budget.trials=1",))
    shutil.move(shared.root / "share", shared.root / "gone")
    ran = cli("sweep", shared.config)
    assert ran.code == 4 and ran.err.splitlines()[-1].startswith("error: runtime.store_url: no folder"), ran
    [folder] = (shared.cache / "sweeps").glob("*")
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"}
    shutil.move(shared.root / "gone", shared.root / "share")
    counts = sweep(shared.config).counts
    assert list(counts) == ["ok"] and counts["ok"] > len(rows), "what was left is scored by the same command"


def test_check_says_whether_the_share_answers(shared: Any, cli: Cli) -> None:
    assert f"shared store: file://{shared.root / 'share'} (answers" in cli("check", shared.config).out
    ran = cli("check", shared.config, "--set", "runtime.store_url=file:///no/such/share")
    assert ran.code == 4 and "no folder /no/such/share; mount the share" in ran.err, ran


@pytest.mark.parametrize("url", ["s3://me:hunter2@bucket/x", "bucket/x"])
def test_an_address_that_cannot_be_used_is_a_config_error_without_it(shared: Any, cli: Cli, url: str) -> None:
    settings = shared.settings()
    settings["runtime"]["store_url"] = url
    shared.write(settings)
    ran = cli("check", shared.config)
    assert ran.code == 2 and "store_url: " in ran.err and "hunter2" not in ran.err, ran


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_nodes_without_the_drivers_cache_share_stages_by_the_url(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    serial = sweep(shared.config, ("runtime.store_url=null", "runtime.cache_dir=serial"))
    setup_of = Setup.of

    def elsewhere(*arguments: Any) -> Setup:
        """The nodes' disk is not the driver's."""
        setup = setup_of(*arguments)
        config = json.loads(setup.config)
        config["runtime"]["cache_dir"] = str(shared.root / "nodes")
        return replace(setup, config=json.dumps(config))

    monkeypatch.setattr(Setup, "of", elsewhere)
    monkeypatch.setattr("ragladder.ladder.sweep.plan._count_texts", lambda *_: None)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=max(2, os.cpu_count() or 1))  # a task asks for as many as the driver has
        ray.init(address=cluster.address, log_to_driver=False)
        record = sweep(shared.config, ("runtime.executor=ray",))
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert untimed(record) == untimed(serial)
    assert {name.partition("-")[0] for name in listed(shared)} >= {"chunk", "search"}
    assert list((shared.root / "nodes" / "stages").glob("search*"))
    again = sweep(shared.config, ("runtime.cache_dir=third",))
    assert untimed(again) == untimed(serial) and not computed(shared.root / "third")
