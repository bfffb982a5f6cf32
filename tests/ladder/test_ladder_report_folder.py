"""What the report reads from a run folder and writes beside the page; what it says of absent or damaged files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from page_reading import Page
from ragladder.core.errors import DataError
from ragladder.ladder.gate import Decision, skip, stop
from ragladder.ladder.records import CostRecord, LadderRecord, RungRecord
from ragladder.ladder.report import build_report
from report_run import EVIL, write_run


def test_tables_beside_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    build_report(run)
    with open(run / "scores.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    expected = record.baseline.scores["test"]["token_f1"]
    [row] = [r for r in rows if (r["split"], r["arm"], r["metric"]) == ("test", "baseline", "token_f1")]
    assert float(row["mean"]) == expected.mean and int(row["n_ok"]) == expected.n_ok
    with open(run / "questions.csv", encoding="utf-8", newline="") as handle:
        questions = list(csv.DictReader(handle))
    assert len(questions) == 4 * 60
    first = questions[0]
    assert (first["question_id"], first["arm"], first["question"]) == ("q-000", "baseline", EVIL)
    assert first["tag:kind"] == "jargon" and 0 <= float(first["token_f1"]) <= 1
    missing = next(q for q in questions if q["question_id"] == "q-004" and q["arm"] == "baseline")
    assert missing["SemanticSimilarity"] == ""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert [rung["verdict"] for rung in report["rungs"]] == ["adopt", "inconclusive", "reject"]


def test_a_spreadsheet_takes_no_text_for_a_formula(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 6)
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0]) | {"question": '=HYPERLINK("x")'}
    (folder / "questions.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]), encoding="utf-8")
    build_report(folder)
    assert ",\"'=HYPERLINK" in (folder / "questions.csv").read_text(encoding="utf-8")


def test_absent_files_are_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 12)
    (folder / "verdicts.jsonl").unlink()  # as in folders of older versions: nothing to say
    for name in ("trials.parquet", "answers.jsonl", "scores.parquet", "env.json"):
        (folder / name).unlink()
    words = Page(build_report(folder).read_text(encoding="utf-8")).words()
    for name in ("trials.parquet", "answers.jsonl", "scores.parquet", "env.json"):
        assert f"{name}:" in words
    assert "The run folder holds no trials." in words


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [(skip("cannot pay: 2 of 35 lost in retrieval"), "Skipped"), (stop("the target 0.5 is met"), "Stopped")],
)
def test_rung_without_candidate(tmp_path: Path, verdict: Decision, shown: str) -> None:
    folder = write_run(tmp_path / "run", 12)
    record = LadderRecord.model_validate_json((folder / "ladder.json").read_bytes())
    bare = RungRecord(
        name="embedding",
        decision=verdict,
        metric="ndcg@10",
        changes={},
        dev={},
        candidate=None,
        cost=CostRecord(),
        details={},
    )
    empty = record.baseline.model_copy(update={"scores": {}})
    changed = record.model_copy(update={"rungs": (bare,), "status": "running", "baseline": empty, "final": empty})
    (folder / "ladder.json").write_text(changed.model_dump_json(), encoding="utf-8")
    words = Page(build_report(folder).read_text(encoding="utf-8")).words()
    assert shown in words and verdict.reasons[0] in words and "This run is not finished." in words
    assert "Not measured on test" in words and "The run holds no scores." in words


def test_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run folder"):
        build_report(tmp_path / "none")
    with pytest.raises(DataError, match=r"ladder\.json is not there"):
        build_report(tmp_path)
    folder = write_run(tmp_path / "run", 6)
    with open(folder / "verdicts.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"arm": "baseline"}\n')
    with pytest.raises(DataError, match=r"verdicts\.jsonl:5: expected a JSON object with question_id"):
        build_report(folder)
    with open(folder / "answers.jsonl", "a", encoding="utf-8") as handle:
        handle.write("{broken\n")
    with pytest.raises(DataError, match=r"answers\.jsonl:25: not valid JSON"):
        build_report(folder)
    (folder / "ladder.json").write_text('{"schema_version": 2}', encoding="utf-8")
    with pytest.raises(DataError, match=r"ladder\.json: does not fit this version"):
        build_report(folder)
