"""The ladder on a terminal and in a pipe, and the words and numbers that it shares with the page."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from page_reading import Page
from ragladder.ladder.gate import skip, stop
from ragladder.ladder.records import CostRecord, EstimateRecord, ForgoneRecord, LadderRecord, RungRecord
from ragladder.ladder.report import build_report, ladder_table
from ragladder.ladder.report.metric_words import deciding_metrics, meaning
from ragladder.ladder.report.words import duration, forgone_words, number, price_of_next, signed
from ragladder.ladder.words import next_step, summary
from report_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "20261120-1412-quickstart")


def printed(run: Path, **settings: object) -> str:
    from rich.console import Console

    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    out = io.StringIO()
    ladder_table(record, Console(file=out, **settings))  # type: ignore[arg-type]
    return out.getvalue()


def test_piped_ladder_is_plain_and_fits(run: Path) -> None:
    text = printed(run)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert not re.search(r"[\x1b│─┃━]", text)
    heads = lines[0]
    assert next(line for line in lines if line.startswith("Retrieval")).index("Adopted, final") == heads.index(
        "Verdict"
    )
    assert "Next: Write about 120 more test questions" in text and "1,240" not in text and "1.2M tokens" in text


def test_no_word_is_cut_at_80_columns(run: Path) -> None:
    text = printed(run, force_terminal=True, color_system=None, width=80)
    assert "finetuning" in text and "…" not in text and max(len(line) for line in text.splitlines()) <= 80


def test_terminal_ladder_has_colour_unless_told_not_to(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in printed(run, force_terminal=True, color_system="standard", width=140)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed(run, force_terminal=True, color_system="standard", width=140)


def test_words() -> None:
    assert [number(None), number(-0.0001), signed(0.0004), signed(0.06), signed(-0.06)] == [
        "–",
        "0.000",
        "0.000",
        "+0.060",
        "−0.060",
    ]
    assert [duration(s) for s in (0.42, 48, 59.7, 200, 3600, 7500)] == [
        "0.4 s",
        "48 s",
        "1 min",
        "3 min 20 s",
        "1 h",
        "2 h 5 min",
    ]


def not_tried(questions: int, worth: float, stopped: bool = False) -> RungRecord:
    gain = EstimateRecord(mean=worth, low=0.0, high=worth, n_ok=16, n=16)
    return RungRecord(
        name="retrieval",
        decision=stop("the target is met") if stopped else skip("none of the 16 dev questions loses its evidence"),
        metric="ndcg@10",
        changes={},
        dev={},
        candidate=None,
        cost=CostRecord(),
        forgone=ForgoneRecord(
            questions=questions,
            of=16,
            gain=gain,
            gain_note="if the questions lost there had their evidence first in the context",
            seconds=None,
            cost_note="not measured: at most 15 trials, of which none was made",
            device="cpu",
        ),
        details={},
    )


def test_a_rung_that_could_win_nothing_is_not_priced(run: Path) -> None:
    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    assert forgone_words(record, not_tried(0, 0.0)) == ""
    assert "at most +0.250" in forgone_words(record, not_tried(4, 0.25))
    for questions, worth, shown in ((0, 0.0, ""), (4, 0.25, "At most +0.250 could be won by retrieval knobs")):
        stopped = record.model_copy(update={"rungs": (not_tried(questions, worth, stopped=True),)})
        assert price_of_next(stopped).startswith(shown) and bool(price_of_next(stopped)) is bool(shown)


def test_the_sentence_tells_what_was_tried_from_what_was_not(run: Path) -> None:
    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    base, none = record.baseline, not_tried(0, 0.0)
    assert "no rung was tried" in summary("token_f1", base, base, [none], None)
    assert "no rung won on test" in summary("token_f1", base, base, record.rungs[1:], None)


def test_without_an_llm_nobody_is_told_to_take_a_stronger_one(run: Path) -> None:
    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    wrong = record.baseline.model_copy(update={"causes": {"answered": 11, "wrong_answer": 5}})
    reader = wrong.model_copy(update={"pipeline": {"generate": {"kind": "extractive"}}})
    model = wrong.model_copy(update={"pipeline": {"generate": {"kind": "llm"}}})
    said = next_step(reader, [], None, "token_f1")
    assert "5 of 16 dev questions" in said and "pipeline.generate" in said and "stronger" not in said
    assert "try a stronger LLM" in next_step(model, [], None, "token_f1")


def test_what_decided_is_said_in_words_on_terminal_and_page(run: Path) -> None:
    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    assert deciding_metrics(record) == ["token_f1", "evidence_recall@2000c", "ndcg@10"]
    assert "first 2,000 characters" in meaning("evidence_recall@2000c") and "first 5 chunks" in meaning("hit@5")
    assert meaning("my_own_metric") == "" and meaning("evidence_recall@") == ""
    shown = " ".join(printed(run).split())
    page = " ".join(Page(build_report(run).read_text(encoding="utf-8")).words().split())
    for metric in deciding_metrics(record):
        assert f"{metric}: {meaning(metric)}" in shown and f"{metric} {meaning(metric)}" in page
