"""A sweep on a real Ray cluster of several nodes on this machine; a node that dies loses no trial."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from ragladder.core.errors import StageError
from ragladder.ladder.sweep.results import SweepRecord
from ragladder.ladder.sweep.run import sweep

pytestmark = pytest.mark.slow

SLOW = """
import time
from pydantic import BaseModel
from ragladder.core.types import Chunk

class Slow:
    class Settings(BaseModel):
        size: int = 100
    def __init__(self, settings, resources):
        self.size = settings.size
    def chunk(self, document):
        time.sleep(0.3)
        starts = range(0, len(document.text), self.size)
        parts = [(a, document.text[a : a + self.size]) for a in starts]
        return [Chunk(document.id, a, a + len(text), text) for a, text in parts if text.strip()]
"""


def comparable(record: SweepRecord) -> dict[str, Any]:
    left_out = {"run_id", "created", "seconds", "best_yaml", "plan", "pareto"}
    data = json.loads(record.model_dump_json(exclude=left_out))
    for trial in data["trials"]:
        del trial["seconds"], trial["trial"]
    del data["baseline"]["trial"]
    return data


@pytest.fixture
def slow(words: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace whose chunker takes some seconds."""
    (words.root / "slow_chunker.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(words.root))
    settings = words.settings()
    chunk = [{"kind": "slow_chunker:Slow", "size": size} for size in (60, 90, 120, 150, 200, 300)]
    settings["sweep"] = {"space": {"chunk": chunk, "retrieve.top_k": [1, 2, 3]}, "objectives": ["ndcg@5"]}
    words.write(settings)
    return words


@pytest.mark.filterwarnings("ignore")
def test_a_node_killed_in_mid_sweep_loses_no_trial_and_the_result_is_the_serial_one(
    slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    doomed = cluster.add_node(num_cpus=2)
    cluster.add_node(num_cpus=2)
    killed = threading.Event()

    def kill() -> None:
        deadline = time.monotonic() + 200
        stages = slow.cache / "stages"
        while time.monotonic() < deadline and len(list(stages.glob(".chunk-*"))) < 2:
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)
        killed.set()

    try:
        ray.init(address=cluster.address, log_to_driver=False)
        watcher = threading.Thread(target=kill)
        # without a plan: it would make the chunkings before the cluster does
        monkeypatch.setattr("ragladder.ladder.sweep.plan._count_texts", lambda *_: None)
        watcher.start()
        record = sweep(slow.config, ("runtime.executor=ray", "runtime.workers=3"))
        watcher.join(timeout=60)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed.is_set()
    assert record.counts == {"ok": 18}
    [folder] = (slow.cache / "sweeps").glob("*")
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert len({row["key"] for row in rows}) == len(rows) == 19, "18 points and the pipeline as configured, once each"
    assert not list((slow.cache / "stages").glob(".chunk-*")), "a stage was left unfinished"
    (folder / "trials.jsonl").unlink()
    assert comparable(sweep(slow.config)) == comparable(record)


def test_a_cluster_that_is_not_there_is_told(slow: Any) -> None:
    pytest.importorskip("ray")
    with pytest.raises(StageError, match="no Ray cluster at 127.0.0.1:1"):
        sweep(slow.config, ("runtime.executor=ray", "runtime.ray_address=127.0.0.1:1"))
