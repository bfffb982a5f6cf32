"""The report's page, made from a run folder that the tests write, and read back as a browser would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_reading import Page, unpacked
from ragladder.ladder.records import LadderRecord
from ragladder.ladder.report import build_report
from ragladder.ladder.report.metric_table import metric_table
from ragladder.ladder.report.run_folder import read_run
from report_run import ARMS, EVIL, GOLD, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "20261120-1412-quickstart")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(build_report(run).read_text(encoding="utf-8"))


def test_answer_and_every_reason_are_there(page: Page, run: Path) -> None:
    record = LadderRecord.model_validate_json((run / "ladder.json").read_bytes())
    words = page.words()
    assert record.summary in words and record.next_step in words
    for rung in record.rungs:
        for reason in rung.decision.reasons:
            assert reason in words
    for verdict in ("Adopted", "Inconclusive", "Rejected"):
        assert verdict in words
    assert "Test was not looked at" in words
    assert "HW-999_broken.pdf" in words and "not a PDF: no header" in words


def test_page_asks_nothing_of_the_network(run: Path, page: Page) -> None:
    text = build_report(run).read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert not str(attributes.get("href", "#")).startswith(("//", "file", "ftp")), tag
    policy = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy[0]


def test_text_of_the_run_is_never_markup(page: Page) -> None:
    named = [a.get("id") or a.get("type") for t, a in page.tags if t == "script"]
    charts, blocks = named.count("application/json"), ["data-index", "data-details", "plotly-script"]
    assert charts > 3 and named == ["application/json"] * charts + blocks + [None, None, None]
    assert unpacked(page.scripts["data-index"])["questions"][0][1] == EVIL
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", page.scripts["data-index"] + page.scripts["data-details"])
    assert "failed: out of <memory>" in page.words() and "# <tag>" in page.text


def test_questions_scores_and_missing_reach_the_table(page: Page) -> None:
    index, details = (unpacked(page.scripts[f"data-{name}"]) for name in ("index", "details"))
    assert [arm for arm, _ in index["arms"]] == list(ARMS)
    assert len(index["questions"]) == 60 == len(index["scores"]["baseline"]["token_f1"])
    assert index["scores"]["baseline"]["SemanticSimilarity"][4] is None
    assert index["missing"]["baseline"]["SemanticSimilarity"]["4"] == "judge failed: no reply <after> 3 tries"
    assert index["scores"]["llm"]["token_f1"][1] is None and index["scores"]["llm"]["token_f1"][3] is not None
    assert details["evidence"][3][0]["located"] == "lost" and details["evidence"][4] == []
    failed = details["answers"]["baseline"][5]
    assert (failed["status"], failed["detail"]) == ("generation failed", "server said 500")


def test_a_passage_is_kept_once_and_its_gold_can_be_cut_out(page: Page) -> None:
    details = unpacked(page.scripts["data-details"])
    assert len(details["chunks"]) == 6
    chunk, score, [[start, end]] = details["answers"]["retrieval"][1]["contexts"][0]
    ref, heading, text = details["chunks"][chunk]
    assert (ref, heading, score, text[start:end]) == ("HW-207", "Restart › N4", 0.87, GOLD)


def test_structure_is_accessible(page: Page) -> None:
    names = [tag for tag, _ in page.tags]
    for landmark in ("header", "nav", "main", "footer"):
        assert names.count(landmark) == 1
    assert names.count("h1") == 1 and names.count("caption") == names.count("table") > 8
    assert all("scope" in a for t, a in page.tags if t == "th")
    assert all(a.get("aria-label") or a.get("aria-hidden") for t, a in page.tags if t == "svg")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")} <= set(ids)


def test_slices_mark_few_questions_and_missing_is_in_words(page: Page) -> None:
    words = page.words()
    assert re.search(r"jargon 8 few", words)
    assert re.search(r"easy 20 [\d.]", words)
    assert re.search(r"\d of \d+ missing: \d judge failed", words)


def test_equal_inputs_give_an_equal_page(run: Path) -> None:
    assert build_report(run).read_bytes() == build_report(run).read_bytes()


def test_faults_and_reach_say_what_repaired_and_what_is_in_reach(page: Page) -> None:
    words = page.words()
    assert re.search(r"Ranking.{0,90} 9 45%.{0,40} 5 of 8", words)
    assert "No question was lost by: Metric or judge." in words
    assert "0.613 0.500 to 0.700" in words


def test_verdicts_reach_their_answers(page: Page) -> None:
    details = unpacked(page.scripts["data-details"])
    held, denied = details["verdicts"]["baseline"]["3"]
    assert held == ["ragas/faithfulness", 0, "claim 0 <i>", "contexts", True, ""]
    assert denied[2:] == ["claim 1 <i>", "contexts", False, "not in the text"]
    assert "1" not in details["verdicts"]["baseline"]


def test_curves_and_tables_of_a_rung_are_shown(page: Page) -> None:
    labels = [a.get("aria-label", "") for t, a in page.tags if t == "svg"]
    assert "score from 0.51 to 0.53" in labels and "dev score from 0.5 to 0.53" in labels
    words = page.words()
    assert "twice the pairs would bring about 0.02" in words
    assert re.search(r"question id prompt adapter score q-003 40 <s> 0\.25", words)


def test_metrics_that_decided_stand_first_and_counts_stand_once(page: Page) -> None:
    words = page.words()
    table = words[words.index("The ladder decided by") :]
    deciding = ("token_f1", "evidence_recall@2000c", "ndcg@10")
    names = (*deciding, "Answer", "citation_correct", "RAGAS", "Retrieval", "hit@5")
    assert sorted(names, key=table.index) == list(names)
    mean = r"\d\.\d{3} \d\.\d{3} to \d\.\d{3}"
    assert re.search(rf"token_f1 {mean} {mean} {mean} 40/40 ", table)


def test_counts_stand_in_the_cells_where_arms_differ(run: Path) -> None:
    folder = read_run(run)
    arms = [folder.record.baseline, folder.record.rungs[0].candidate]
    assert arms[1] is not None
    fewer = {"token_f1": arms[1].scores["test"]["token_f1"].model_copy(update={"n_ok": 39})}
    arms[1] = arms[1].model_copy(update={"scores": {"test": {**arms[1].scores["test"], **fewer}}})
    table = metric_table(folder, [arm for arm in arms if arm], "test", ["ndcg@10"])
    assert table is not None
    scored = {row.metric: row.scored for _, rows in table.families for row in rows}
    assert scored["token_f1"] == "" and scored["hit@5"] == "32/32"
    assert metric_table(folder, [folder.record.rungs[-1].candidate], "test", []) is None  # type: ignore[list-item]


def test_causes_that_no_question_has_are_one_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 12)
    record = LadderRecord.model_validate_json((folder / "ladder.json").read_bytes())
    more = record.baseline.model_copy(update={"causes": {**record.baseline.causes, "ranked_low": 0, "distracted": 0}})
    (folder / "ladder.json").write_text(record.model_copy(update={"baseline": more}).model_dump_json())
    words = Page(build_report(folder).read_text(encoding="utf-8")).words()
    assert re.search(r"No question: [^.]*ranked low, distracted", words)
    assert "too far back: first" not in words and "the evidence was fetched, but cut" in words
