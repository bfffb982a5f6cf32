"""A planted fault is blamed on the part that was broken (benchmarks/diagnosis.py does the same on real documents)."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that plants them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.reload(importlib.import_module("diagnosis"))


def test_each_broken_part_is_blamed(words: Any, faults: Any, tmp_path: Path) -> None:
    # so few chunks that random vectors would fetch a third of the evidence among 20
    part, changes = faults.FAULTS["retriever searches with random vectors"]
    faults.FAULTS["retriever searches with random vectors"] = (part, {**changes, "retrieve.fetch_k": 5})
    table: dict[str, tuple[str, int, Counter[str]]] = faults.attributed(words.config, tmp_path / "stages")
    for name, (part, answered, blamed) in table.items():
        lost = sum(blamed.values())
        assert answered >= 40, "the sound pipeline answers nearly all"
        assert lost >= 3, f"{name}: nothing was broken"
        assert blamed[part] >= 0.95 * lost, f"{name}: blamed {dict(blamed)}"


@pytest.mark.slow
def test_each_broken_part_is_blamed_on_the_quickstarts_documents(faults: Any, tmp_path: Path) -> None:
    for name, (part, _, blamed) in faults.attributed(BENCHMARKS.parent / "configs/quickstart.yaml", tmp_path).items():
        assert blamed[part] >= 0.95 * sum(blamed.values()), f"{name}: blamed {dict(blamed)}"


def test_the_record_has_shares_and_what_the_evidence_repairs(climbed: Any, cli: Callable[..., Any]) -> None:
    diagnosis = climbed.ladder()["diagnosis"]
    assert set(diagnosis["faults"]) == {"parse", "retrieve", "rank", "context_budget", "generate", "judge"}
    lost = sum(fault["questions"] for fault in diagnosis["faults"].values())
    assert lost == sum(count for cause, count in diagnosis["causes"].items() if cause != "answered") > 0
    for fault in diagnosis["faults"].values():
        assert fault["share"]["n"] == 13 and 0 <= fault["repaired"] <= fault["asked_again"] <= fault["questions"]
    assert set(diagnosis["reach"]) == {"retrieval", "embedding", "llm"}
    now = climbed.ladder()["baseline"]["scores"]["dev"][climbed.ladder()["answer_metric"]]["mean"]
    assert all(reach["mean"] >= now for reach in diagnosis["reach"].values())
