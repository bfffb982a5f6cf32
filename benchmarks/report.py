"""Size of the report and how soon it opens, at many questions, in headless Chromium.

    python benchmarks/report.py                       # 10,000 questions, 3 rungs; minutes
    python benchmarks/report.py --questions 500       # a try
    python benchmarks/report.py --keep big-run       # leaves the run folder there

It writes a run folder with made-up texts: 4 arms, 46 metrics, two judged claims an answer, 5 passages of about 600
characters a question, drawn from twice as many passages as questions. The words follow Zipf's law, so they compress
about as text does. Limits: report.html under 25 MB, ready in under 3 s; exit status 1 where one is passed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "images"))
from browser import Browser, Page, find_chromium
from ragladder.ladder.gate import no_candidate
from ragladder.ladder.records import (
    ArmRecord,
    CostRecord,
    DataRecord,
    Diagnosis,
    EstimateRecord,
    LadderRecord,
    RungRecord,
)
from ragladder.ladder.report import build_report
from ragladder.ladder.run_files import SCORE_COLUMNS, TRIAL_COLUMNS, write_lines, write_table

ARMS = ("baseline", "retrieval", "embedding", "llm")
CAUSES = ("answered", "not_retrieved", "ranked_out", "wrong_answer")
METRICS = ("token_f1", *(f"{name}@{k}" for name in ("hit", "ndcg", "evidence_recall") for k in range(1, 16)))
MAX_BYTES, MAX_SECONDS = 25e6, 3.0


class Texts:
    """Made-up text, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.dice = np.random.default_rng(seed)
        letters = np.array(list("etaoinshrdlucmfwypvbgk"))
        self.words = np.array(["".join(self.dice.choice(letters, size)) for size in self.dice.integers(2, 11, 8000)])

    def of(self, words: int) -> str:
        """That many words."""
        return " ".join(self.words[np.minimum(self.dice.zipf(1.25, words) - 1, len(self.words) - 1)])


def write_run(folder: Path, count: int, seed: int = 0) -> None:
    """Writes a run folder with `count` questions."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = Texts(seed)
    passages = [texts.of(100) for _ in range(2 * count)]
    questions = [
        {
            "id": f"q-{i:05d}",
            "question": texts.of(14) + "?",
            "answer": texts.of(12),
            "evidence": [{"doc_id": f"d-{i // 4}", "text": passages[2 * i][:200], "located": "exact"}],
            "tags": {"kind": f"kind {i % 7}", "format": ("md", "pdf")[i % 2]},
            "split": ("dev", "test")[i % 2],
        }
        for i in range(count)
    ]
    write_lines(folder / "questions.jsonl", questions)
    write_lines(folder / "answers.jsonl", list(answers(questions, passages, texts)))
    write_lines(folder / "verdicts.jsonl", list(verdicts(questions, texts)))
    write_table(folder / "scores.parquet", list(scores(questions, texts)), SCORE_COLUMNS)
    write_table(folder / "trials.parquet", [], TRIAL_COLUMNS)
    (folder / "ladder.json").write_text(record(count).model_dump_json(), encoding="utf-8")


def answers(questions: list[dict[str, Any]], passages: list[str], texts: Texts) -> Iterator[dict[str, Any]]:
    """Rows of `answers.jsonl`."""
    for arm in ARMS:
        for i, question in enumerate(questions):
            found = [2 * i, *texts.dice.integers(0, len(passages), 4)]
            contexts = [
                {
                    "doc_id": f"d-{at // 8}",
                    "ref": f"d-{at // 8}",
                    "heading": "Chapter > Section",
                    "score": float(1 - rank / 7),
                    "text": passages[at],
                    "gold": [[0, 200]] if rank == 0 else [],
                }
                for rank, at in enumerate(found)
            ]
            cause = CAUSES[int(texts.dice.integers(len(CAUSES)))]
            named = {"arm": arm, "split": question["split"], "question_id": question["id"], "cause": cause}
            spent = {"seconds": 0.2, "prompt_tokens": 700, "completion_tokens": 30}
            yield named | spent | {"text": texts.of(25), "status": "ok", "detail": "", "contexts": contexts}


def verdicts(questions: list[dict[str, Any]], texts: Texts) -> Iterator[dict[str, Any]]:
    """Rows of `verdicts.jsonl`."""
    for arm in ARMS:
        for question in questions:
            for claim in range(2):
                named = {"arm": arm, "split": question["split"], "question_id": question["id"], "repeat": 0}
                held = {"metric": "ragas/faithfulness", "claim": texts.of(12), "against": "contexts"}
                yield named | held | {"supported": claim == 0, "reason": texts.of(8)}


def scores(questions: list[dict[str, Any]], texts: Texts) -> Iterator[dict[str, Any]]:
    """Rows of `scores.parquet`."""
    for arm in ARMS:
        values = texts.dice.random((len(questions), len(METRICS)))
        for question, row in zip(questions, values, strict=True):
            named = {"arm": arm, "split": question["split"], "question_id": question["id"]}
            for metric, value in zip(METRICS, row, strict=True):
                yield named | {"metric": metric, "value": float(value), "status": "ok", "detail": ""}


def record(count: int) -> LadderRecord:
    """`ladder.json`: every rung tried, none adopted."""
    e = EstimateRecord(mean=0.5, low=0.49, high=0.51, n_ok=count // 2, n=count // 2)
    table: Any = {split: dict.fromkeys(METRICS, e) for split in ("dev", "test")}
    causes = dict.fromkeys(CAUSES, count // 8)
    arms = [
        ArmRecord(arm=arm, pipeline={}, scores=table, seconds_per_question=0.2, context_tokens=700, causes=causes)
        for arm in ARMS
    ]
    rungs = [
        RungRecord(
            name=arm.arm,  # type: ignore[arg-type]
            decision=no_candidate("nothing better was found on dev"),
            metric="token_f1",
            changes={},
            dev={},
            candidate=arm,
            cost=CostRecord(seconds=60.0),
            details={},
        )
        for arm in arms[1:]
    ]
    halves = {"dev": count - count // 2, "test": count // 2}
    return LadderRecord(
        status="finished",
        run_id="many",
        name="many questions",
        created="2026-01-01T00:00:00+00:00",
        ragladder="0",
        config_sha256="0" * 64,
        seed=0,
        data=DataRecord(
            documents=count // 4,
            failures={},
            questions=halves,
            unanswerable={},
            evidence_lost={},
            documents_sha256="0" * 64,
            questions_sha256="0" * 64,
        ),
        answer_metric="token_f1",
        baseline=arms[0],
        diagnosis=Diagnosis(causes=causes, ceilings=(), can_pay={}),
        rungs=tuple(rungs),
        final=arms[0],
        summary="Made up, to see how large and how slow the report is.",
        next_step="",
        seconds=180.0,
    )


def timed(page: Page, script: str, until: str) -> float:
    """Seconds from an action until a condition holds."""
    start = time.perf_counter()
    page.run(script)
    page.wait(until)
    return time.perf_counter() - start


def opened(page_file: Path, repeats: int) -> tuple[float, list[str]]:
    """The median of several openings in seconds, and what is wrong with the page; prints the other times."""
    binary = find_chromium()
    if binary is None:
        raise SystemExit("no Chromium: install it, or set $CHROMIUM")
    put = "(e => { e.value = 'q-00007'; e.dispatchEvent(new Event('input')); })(document.getElementById('f-search'))"
    with Browser(binary) as browser:
        pages = [browser.open(page_file) for _ in range(repeats)]
        page = pages[-1]
        found = timed(page, put, "document.getElementById('q-count').textContent.startsWith('1 of')")
        row = timed(
            page, "document.querySelector('#q-body .open').click(); 1", "document.querySelector('.detail .arm')"
        )
        print(f"search for a question        {found:.2f} s")
        print(f"first row opened             {row:.2f} s")
        return sorted(one.seconds for one in pages)[repeats // 2], [*page.troubles(), *page.requests()]


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3, help="how often the page is opened")
    parser.add_argument("--keep", type=Path, help="where the run folder is left")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        write_run(folder, args.questions)
        start = time.perf_counter()
        page = build_report(folder)
        took, size = time.perf_counter() - start, page.stat().st_size
        print(f"{args.questions} questions, {len(ARMS)} arms, {len(METRICS)} metrics")
        print(f"run folder                   {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")
        print(f"report made in               {took:.1f} s")
        print(f"report.html                  {size / 1e6:.1f} MB")
        seconds, wrong = opened(page, args.repeats)
        print(f"ready in (median of {args.repeats})       {seconds:.2f} s")
        print(f"errors and requests          {len(wrong)}")
    return int(size > MAX_BYTES or seconds > MAX_SECONDS or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
