"""The report: made from a run folder that this file writes, and read back as a browser would."""

from __future__ import annotations

import base64
import csv
import gzip
import html.parser
import io
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.errors import DataError
from ragladder.core.types import Score
from ragladder.eval.statistics import mean_interval
from ragladder.ladder.gate import Comparison, Decision, compare_metric, no_candidate, skip, stop
from ragladder.ladder.records import (
    ArmRecord,
    Ceiling,
    CostRecord,
    DataRecord,
    Diagnosis,
    EstimateRecord,
    FaultRecord,
    LadderRecord,
    RungRecord,
)
from ragladder.ladder.report import build_report, ladder_table
from ragladder.ladder.report.charts import scale_over, stacked_bar
from ragladder.ladder.report.explorer import packed
from ragladder.ladder.report.words import duration, number, signed

METRICS = ("hit@5", "evidence_recall@2000c", "ndcg@10", "token_f1", "citation_correct", "SemanticSimilarity")
ARMS = ("baseline", "retrieval", "embedding", "llm")
EVIL = 'What does <script>alert("x")</script> & </script><!-- do — naïve 𝒳 日本?'
KINDS = ("jargon", "lookup", "heading", "table", "unanswerable")
CAUSES = (
    "answered",
    "lost_in_parsing",
    "not_retrieved",
    "ranked_out",
    "wrong_answer",
    "unanswerable_answered",
    "metric_missing",
)
PASSAGE = "𝒳 Fledging a nest. Hold the restart pin for 12 seconds until the lamp turns amber. Then let go."
GOLD = "Hold the restart pin for 12 seconds"


def questions_of(count: int) -> list[dict]:
    rows = []
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        located = "lost" if i % 11 == 3 else "fuzzy" if i % 7 == 2 else "exact"
        evidence = [{"doc_id": f"HW-{200 + i // 4}_nest.md", "text": GOLD, "located": located}]
        rows.append(
            {
                "id": f"q-{i:03d}",
                "question": EVIL if i == 0 else f"How long do I hold the button to restart locker no. {i}, please?",
                "answer": f"{i} seconds [HW-{200 + i // 4}]",
                "evidence": [] if kind == "unanswerable" else evidence,
                "tags": {
                    "kind": kind,
                    "format": ("md", "pdf", "html")[i % 3],
                    "difficulty": "hard" if i % 2 else "easy",
                },
                "split": "dev" if i % 3 == 0 else "test",
            }
        )
    return rows


def score_rows(questions: list[dict]) -> list[dict]:
    dice = random.Random(7)
    rows = []
    for level, arm in enumerate(ARMS):
        for number_, question in enumerate(questions):
            for metric in METRICS:
                value, status, detail = (
                    min(1.0, max(0.0, dice.gauss(0.42 + (0.0, 0.12, 0.15, 0.16)[level], 0.25))),
                    "ok",
                    "",
                )
                if metric == "SemanticSimilarity" and number_ % 9 == 4:
                    value, status, detail = None, "judge_error", "no reply <after> 3 tries"
                if not question["evidence"] and metric in METRICS[:3]:
                    value, status, detail = None, "not_applicable", "no evidence"
                if arm == "llm" and question["split"] == "test":
                    continue
                row = {"arm": arm, "split": question["split"], "question_id": question["id"], "metric": metric}
                rows.append(row | {"value": value, "status": status, "detail": detail})
    return rows


def answer_rows(questions: list[dict]) -> list[dict]:
    rows = []
    for arm in ARMS:
        for i, question in enumerate(questions):
            start = PASSAGE.index(GOLD)
            contexts = [
                {
                    "doc_id": "HW-207_nest.md",
                    "ref": "HW-207",
                    "heading": ["Restart", "N4"],
                    "score": 0.87,
                    "text": PASSAGE,
                    "gold": [[start, start + len(GOLD)]],
                },
                {
                    "doc_id": "HW-208_crop.md",
                    "ref": "HW-208",
                    "heading": "",
                    "score": 0.51,
                    "text": f"Nothing of use {i % 5}.",
                    "gold": [],
                },
            ]
            failed = i % 13 == 5
            rows.append(
                {
                    "arm": arm,
                    "split": question["split"],
                    "question_id": question["id"],
                    "text": "" if failed else f"{i} seconds <b>[HW-207]</b>",
                    "status": "generation_error" if failed else "ok",
                    "detail": "server said 500" if failed else "",
                    "cause": "metric_missing" if failed else CAUSES[(i * 5 + len(arm)) % 6],
                    "contexts": contexts,
                    "seconds": 0.21,
                    "prompt_tokens": 512,
                    "completion_tokens": 9,
                }
            )
    return rows


def verdict_rows(questions: list[dict]) -> list[dict]:
    """Two claims of the baseline's answer to every third question."""
    about = {"metric": "ragas/faithfulness", "repeat": 0, "against": "contexts"}
    return [
        {"arm": "baseline", "split": q["split"], "question_id": q["id"], "claim": f"claim {c} <i>", "supported": not c}
        | about
        | {"reason": "not in the text" if c else ""}
        for q in questions[::3]
        for c in range(2)
    ]


def arm_record(
    arm: str, scores: list[dict], answers: list[dict], splits: tuple[str, ...] = ("dev", "test")
) -> ArmRecord:
    tables: dict = {}
    for split in splits:
        tables[split] = {}
        for metric in METRICS:
            rows = [
                s
                for s in scores
                if (s["arm"], s["split"], s["metric"]) == (arm, split, metric) and s["status"] != "not_applicable"
            ]
            if rows:
                e = mean_interval([s["value"] if s["status"] == "ok" else None for s in rows])
                known = e.low == e.low
                tables[split][metric] = EstimateRecord(
                    mean=e.mean, low=e.low if known else None, high=e.high if known else None, n_ok=e.n_ok, n=e.n
                )
    causes = {
        cause: sum(a["arm"] == arm and a["split"] == "dev" and a["cause"] == cause for a in answers) for cause in CAUSES
    }
    return ArmRecord(arm=arm, pipeline={}, scores=tables, seconds_per_question=0.031, context_tokens=512, causes=causes)


def compared(scores: list[dict], metric: str, new: str, old: str, split: str, alpha: float = 0.0167) -> Comparison:
    arms = [
        [
            Score(s["question_id"], metric, s["value"] if s["status"] == "ok" else None, s["status"])
            for s in scores
            if (s["arm"], s["split"], s["metric"]) == (arm, split, metric)
        ]
        for arm in (new, old)
    ]
    return compare_metric(metric, arms[0], arms[1], {}, split, alpha, 0)


def record_of(questions: list[dict], scores: list[dict], answers: list[dict]) -> LadderRecord:
    baseline, retrieval, embedding = (arm_record(arm, scores, answers) for arm in ARMS[:3])
    llm = arm_record("llm", scores, answers, ("dev",))
    primary = compared(scores, "evidence_recall@2000c", "retrieval", "baseline", "test")
    guard = compared(scores, "token_f1", "retrieval", "baseline", "test")
    second = compared(scores, "ndcg@10", "embedding", "retrieval", "test")
    reason = f"{primary.metric} on {primary.n} test questions: {primary.difference:+.3f}; the lower bound exceeds 0"
    rungs = (
        RungRecord(
            name="retrieval",
            decision=Decision(verdict="adopt", reasons=(reason,), primary=primary, guardrails=(guard,)),
            metric=primary.metric,
            changes={
                "chunk": ({"kind": "recursive", "size": 512}, {"kind": "heading", "size": 1024}),
                "retrieve.mode": ("dense", "hybrid"),
            },
            dev=compared(scores, primary.metric, "retrieval", "baseline", "dev").model_dump(mode="json"),
            candidate=retrieval,
            cost=CostRecord(seconds=94.2),
            details={"trials": 6, "searches": 12, "unique_texts": 2210, "warnings": ["1 trial failed: see the table"]},
        ),
        RungRecord(
            name="embedding",
            decision=Decision(
                verdict="inconclusive",
                reasons=("ndcg@10: too few questions to tell; about 240 test questions would settle it",),
                primary=second,
            ),
            metric="ndcg@10",
            changes={"embed.model": ("all-MiniLM-L6-v2", "runs/models/tuned-5e1")},
            dev=compared(scores, "ndcg@10", "embedding", "retrieval", "dev").model_dump(mode="json"),
            candidate=embedding,
            cost=CostRecord(seconds=412.0),
            details={
                "history": [
                    {"step": s, "loss": 2.1 / (1 + s / 30), "ndcg@10": None if s % 20 else 0.5 + s / 900}
                    for s in range(0, 101, 10)
                ],
                "data": {"pairs": 240, "dropped": 3},
                "candidates": [[0.0, 0.5], [0.5, 0.55], [1.0, 0.53]],
                "curve": {
                    "points": [
                        {"share": 0.5, "pairs": 120, "score": 0.51},
                        {"share": 1.0, "pairs": 240, "score": 0.53},
                    ],
                    "reason": "twice the pairs would bring about 0.02",
                },
                "edge_cases": {"answers": [{"question_id": "q-003", "prompt": "40 <s>", "adapter_score": 0.25}]},
                "alpha": 0.7,
            },
        ),
        RungRecord(
            name="llm",
            decision=no_candidate("nothing better than the incumbent was found on dev, so test was not looked at"),
            metric="token_f1",
            changes={},
            dev={},
            candidate=llm,
            cost=CostRecord(seconds=5021.0, prompt_tokens=1_200_000, completion_tokens=40_000, money=1.25),
            details={},
        ),
    )
    dev = baseline.scores["dev"]["token_f1"]
    return LadderRecord(
        status="finished",
        run_id="20261120-1412-quickstart",
        name="quickstart",
        created="2026-11-20T14:12:03+00:00",
        ragladder="0.1.0",
        config_sha256="ab" * 32,
        seed=0,
        data=DataRecord(
            documents=80,
            failures={"HW-999_broken.pdf": "not a PDF: no header"},
            questions={"train": 240, "dev": len(questions) // 3, "test": 2 * len(questions) // 3},
            unanswerable={"dev": 7, "test": 13},
            evidence_lost={"dev": 2, "test": 5},
            documents_sha256="cd" * 32,
            questions_sha256="ef" * 32,
        ),
        answer_metric="token_f1",
        baseline=baseline,
        diagnosis=Diagnosis(
            causes=baseline.causes,
            faults={
                "rank": FaultRecord(
                    questions=9,
                    share=EstimateRecord(mean=0.45, low=0.3, high=0.6, n_ok=20, n=20),
                    asked_again=8,
                    repaired=5,
                ),
                "judge": FaultRecord(
                    questions=0,
                    share=EstimateRecord(mean=0.0, low=0.0, high=0.0, n_ok=20, n=20),
                    asked_again=0,
                    repaired=0,
                ),
            },
            reach={"retrieval": EstimateRecord(mean=0.613, low=0.5, high=0.7, n_ok=20, n=20)},
            ceilings=(
                Ceiling(
                    name="gold_context",
                    meaning="every question answered from its gold evidence",
                    metric="token_f1",
                    estimate=EstimateRecord(mean=0.71, low=0.66, high=0.76, n_ok=dev.n, n=dev.n),
                ),
                Ceiling(
                    name="closed_book",
                    meaning="no document at all",
                    metric="token_f1",
                    estimate=EstimateRecord(mean=0.08, low=0.05, high=0.11, n_ok=dev.n - 2, n=dev.n),
                ),
            ),
            can_pay={
                "retrieval": "at most +0.290 (gold evidence in the context)",
                "llm": "not measured: no reference LLM is configured",
            },
        ),
        rungs=rungs,
        final=retrieval,
        summary="Tuned retrieval lifts token_f1 from 0.42 to 0.50 on test; finetuning has not been shown to pay yet.",
        next_step="Write about 120 more test questions, then climb again: a decision is within reach.",
        seconds=5603.0,
    )


def write_run(folder: Path, count: int = 60) -> Path:
    """A run folder as `ragladder climb` writes it."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    questions = questions_of(count)
    scores, answers = score_rows(questions), answer_rows(questions)
    (folder / "ladder.json").write_text(record_of(questions, scores, answers).model_dump_json(), encoding="utf-8")
    verdicts = verdict_rows(questions)
    for name, rows in (("questions.jsonl", questions), ("answers.jsonl", answers), ("verdicts.jsonl", verdicts)):
        (folder / name).write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(scores), folder / "scores.parquet")
    trials = [
        {
            "rung": "retrieval",
            "trial": t + 1,
            "axis": "chunk.size",
            "value": json.dumps(256 * (t + 1)),
            "objective": "evidence_recall@2000c",
            "split": "dev",
            "mean": None if t == 3 else 0.4 + t * 0.03,
            "low": 0.3 + t * 0.03,
            "high": 0.5 + t * 0.03,
            "n_ok": 0 if t == 3 else 35,
            "n": 35,
            "status": "failed" if t == 3 else "ok",
            "error": "out of <memory>" if t == 3 else "",
            "seconds": 3.5,
            "changes": json.dumps({"chunk.size": 256 * (t + 1), "retrieve.mode": ["dense", "bm25"][t % 2]}),
        }
        for t in range(6)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(trials), folder / "trials.parquet")
    (folder / "config.yaml").write_text("name: quickstart  # <tag>\n", encoding="utf-8")
    (folder / "best.yaml").write_text("chunk: {size: 1024}\n", encoding="utf-8")
    (folder / "env.json").write_text(
        json.dumps({"python": "3.11.9", "packages": {"torch": "2.13.0"}, "device": "cpu"}), encoding="utf-8"
    )
    return folder


class Page(html.parser.HTMLParser):
    """What a browser makes of the page: text by script block, elements, and the text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in ("th", "td", "li", "dd", "div", "p") else ""
        if tag in ("script", "style"):
            self._open.append(tag)
            self._script = dict(attrs).get("id") or "code"

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag == self._open[-1]:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += data
        elif self._open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def words(self) -> str:
        return " ".join(self.text.split())


def unpacked(text: str) -> dict:
    """A block of data as the page's script reads it."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


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
    assert [a.get("id") for t, a in page.tags if t == "script"] == ["data-index", "data-details", None]
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
    assert re.search(r"Metric or judge.{0,90} 0 0%.{0,40} not asked again", words)
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


def test_tables_beside_the_page(run: Path) -> None:
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


def test_terminal_ladder_has_colour_unless_told_not_to(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in printed(run, force_terminal=True, color_system="standard", width=140)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed(run, force_terminal=True, color_system="standard", width=140)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_packed_data_are_the_same_value_and_cannot_end_a_script(value: object) -> None:
    text = packed(value)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    clean = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    assert unpacked(text) == json.loads(clean)


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=8))
def test_scale_holds_its_values_in_order(values: list[float | None]) -> None:
    scale = scale_over(values)
    there = sorted(value for value in values if value is not None)
    assert list(scale.ticks) == sorted(scale.ticks) and 2 <= len(scale.ticks) <= 9
    places = [scale.at(value) for value in there]
    assert places == sorted(places)
    slack = 1e-8 * (scale.high - scale.low)
    assert all(scale.low - slack <= value <= scale.high + slack for value in there)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 1000)))
def test_stacked_bar_fills_its_width(counts: dict[str, int]) -> None:
    widths = [
        float(w)
        for w in re.findall(r'class="part \w" x="[\d.]+%" y="0" width="([\d.]+)%"', str(stacked_bar(counts, "x")))
    ]
    assert len(widths) == sum(count > 0 for count in counts.values())
    assert not widths or sum(widths) == pytest.approx(100, abs=0.05)


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
