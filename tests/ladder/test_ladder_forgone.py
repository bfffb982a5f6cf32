"""What a rung that was not tried would cost and win: measured, or said to be unknown."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ragladder.core.errors import StageError
from ragladder.eval.diagnosis import fault_of
from ragladder.ladder import forgone
from ragladder.ladder.records import LadderRecord
from ragladder.ladder.report.words import forgone_words, headline, price_of_next


@pytest.fixture
def met(all_rungs: Any) -> Any:
    """A workspace with all three rungs, whose baseline meets the target: nothing is tried."""
    settings = all_rungs.settings()
    settings["gate"]["target"] = 0.0
    all_rungs.write(settings)
    return all_rungs


def by_rung(ladder: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rung["name"]: rung["forgone"] for rung in ladder["rungs"]}


def test_a_met_target_says_what_the_next_rungs_would_cost_and_win(met: Any, cli: Callable[..., Any]) -> None:
    ran = cli("climb", met.config)
    assert ran.code == 0, ran.err
    ladder = met.ladder()
    assert {rung["decision"]["verdict"] for rung in ladder["rungs"]} == {"stop"}
    found = by_rung(ladder)
    assert found["retrieval"]["seconds"] is None
    assert "at most 2 trials" in found["retrieval"]["cost_note"]
    for name in ("embedding", "llm"):
        assert found[name]["seconds"] > 0
        assert "steps that were made" in found[name]["cost_note"]
        assert found[name]["device"] == "cpu"
    # The gain is what the run's own files say that the lost questions are worth.
    run = met.runs()[-1]
    import pyarrow.parquet as pq

    causes = {
        a["question_id"]: a["cause"]
        for a in map(json.loads, (run / "answers.jsonl").read_text().splitlines())
        if (a["arm"], a["split"]) == ("baseline", "dev")
    }
    values = {
        r["question_id"]: r["value"]
        for r in pq.read_table(run / "scores.parquet").to_pylist()
        if (r["arm"], r["split"], r["metric"]) == ("baseline", "dev", ladder["answer_metric"])
    }
    lost = [question for question in values if fault_of(causes[question]) == "generate"]
    assert 0 < len(lost) == found["llm"]["questions"] < found["llm"]["of"] == 13
    worth = sum(1 - values[question] for question in lost) / len(values)
    assert found["llm"]["gain"]["mean"] == pytest.approx(worth)
    assert found["llm"]["gain"]["low"] <= worth <= found["llm"]["gain"]["high"]
    assert 0 <= found["retrieval"]["gain"]["mean"] <= 1
    # Record, terminal and page say the same.
    record = LadderRecord.model_validate(ladder)
    said = " ".join(ran.out.split())
    page = html.unescape((run / "report.html").read_text())
    assert re.search(r"At most 0.000 could be won by retrieval knobs, from the 11 of 13 .* cost", headline(record))
    assert headline(record) in said and record.summary in page and price_of_next(record) in page
    words = forgone_words(record, record.rungs[-1])
    assert f"({len(lost)} of 13)" in words and "would cost about" in words
    assert words.translate(str.maketrans("\u2212", "-")) in said.translate(str.maketrans("\u2212", "-"))
    assert words in page
    # Made once: the store has it.
    cli("climb", met.config)
    assert by_rung(met.ladder()) == found


def test_probes_are_made_where_the_config_allows_them(
    met: Any, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("climb", met.config, "--set", "runtime.probe=never")
    found = by_rung(met.ladder())
    assert found["llm"]["seconds"] is None and "runtime.probe" in found["llm"]["cost_note"]
    assert found["llm"]["gain"]["mean"] > 0
    monkeypatch.setattr(forgone, "SMALL_MODEL", 1000)
    cli("climb", met.config)
    assert "slow to probe on a CPU" in by_rung(met.ladder())["embedding"]["cost_note"]
    cli("climb", met.config, "--set", "runtime.probe=always")
    assert by_rung(met.ladder())["embedding"]["seconds"] > 0


def test_a_probe_that_fails_does_not_fail_the_climb(
    met: Any, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise StageError("out of memory, says the test")

    monkeypatch.setattr(forgone, "estimate_training", fails)
    monkeypatch.setattr(forgone, "within_reach", fails)
    assert cli("climb", met.config, "--quiet").code == 0
    found = by_rung(met.ladder())["llm"]
    assert (found["seconds"], found["gain"]) == (None, None)
    assert "out of memory" in found["cost_note"] and "out of memory" in found["gain_note"]


def test_a_rung_that_is_not_configured_has_no_cost_but_a_ceiling(climbed_once: Any) -> None:
    found = by_rung(climbed_once.ladder())
    assert found["retrieval"] is None
    # The climb ended with words alone, and with no LLM: neither rung has anything to work on.
    assert "words only" in found["embedding"]["cost_note"]
    assert "no weights" in found["llm"]["gain_note"]
    record = LadderRecord.model_validate(climbed_once.ladder())
    assert headline(record) == record.summary
    assert forgone_words(record, record.rungs[0]) == forgone_words(record, record.rungs[1]) == ""


def test_the_next_rung_has_its_price_in_the_headline(climbed_once: Any) -> None:
    ladder = climbed_once.ladder()
    gain = {"mean": 0.012, "low": 0.0, "high": 0.03, "n_ok": 105, "n": 105}
    known = {"questions": 3, "of": 105, "gain": gain, "gain_note": "if", "cost_note": "how", "device": "cuda"}
    ladder["rungs"][2] |= {"decision": {"verdict": "stop", "reasons": ["met"]}, "forgone": known | {"seconds": 840}}
    record = LadderRecord.model_validate(ladder)
    assert price_of_next(record) == (
        "LoRA finetuning of the LLM would cost about 14 GPU-minutes for at most +0.012, "
        "from the 3 of 105 dev questions lost there."
    )
    assert headline(record) == f"{record.summary} {price_of_next(record)}"
    ladder["rungs"][2]["forgone"] |= {"gain": None, "seconds": 0.4, "device": "cpu"}
    unknown = LadderRecord.model_validate(ladder)
    assert price_of_next(unknown).endswith("would cost about 0.4 s on the CPU; the gain was not measured.")


def test_older_records_read_as_before(climbed_once: Path | Any) -> None:
    ladder = climbed_once.ladder()
    for rung in ladder["rungs"]:
        del rung["forgone"]
    assert forgone_words(LadderRecord.model_validate(ladder), LadderRecord.model_validate(ladder).rungs[-1]) == ""
