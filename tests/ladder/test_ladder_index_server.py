"""An index that cannot do its work: a Qdrant server that is not there, too many chunks, vectors of another model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Cli = Callable[..., Any]
NOWHERE = '{kind: qdrant, location: "http://127.0.0.1:9"}'


def dense(words: Any) -> Any:
    settings = words.settings()
    settings["pipeline"]["retrieve"]["mode"] = "dense"
    settings["sweep"] = {"space": {"chunk.size": [48, 64]}, "objectives": ["ndcg@5"]}
    words.write(settings)
    return words


def stages(space: Any, name: str) -> list[str]:
    return [stage for stage in space.stages() if stage.startswith(name)]


def test_check_asks_the_index_server(words: Any, cli: Cli) -> None:
    ran = cli("check", dense(words).config, "--set", f"pipeline.index={NOWHERE}")
    assert ran.code == 4 and "index: NOT REACHABLE: Qdrant at http://127.0.0.1:9 does not answer" in ran.err, ran


def test_a_server_that_is_gone_stops_the_sweep_and_no_trial_is_called_failed(words: Any, cli: Cli) -> None:
    space = dense(words)
    ran = cli("sweep", space.config, "--set", f"pipeline.index={NOWHERE}")
    assert ran.code == 4 and "Start the server" in ran.err and "run the same command again" in ran.err, ran
    rows = [line for path in space.cache.glob("sweeps/*/trials.jsonl") for line in path.read_text().splitlines()]
    assert not [row for row in map(json.loads, rows) if row["status"] != "ok"]


def test_too_many_chunks_for_the_local_mode_are_said_before_they_are_encoded(
    words: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragladder.rag.index.qdrant.LOCAL_LIMIT", 3)
    space = dense(words)
    ran = cli("climb", space.config, "--set", "pipeline.index=qdrant")
    assert ran.code == 2 and "local mode takes up to 3 chunks, there are" in ran.err, ran
    assert stages(space, "chunk") and not stages(space, "encode")
