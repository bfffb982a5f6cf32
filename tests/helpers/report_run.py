"""A run folder as `ragladder climb` writes it, made up in memory: for the report's tests."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ragladder.core.types import Score
from ragladder.eval.statistics import mean_interval
from ragladder.ladder.gate import Comparison, Decision, compare_metric, no_candidate
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


def _retrieval_rung(scores: list[dict], candidate: ArmRecord) -> RungRecord:
    primary = compared(scores, "evidence_recall@2000c", "retrieval", "baseline", "test")
    guard = compared(scores, "token_f1", "retrieval", "baseline", "test")
    reason = f"{primary.metric} on {primary.n} test questions: {primary.difference:+.3f}; the lower bound exceeds 0"
    return RungRecord(
        name="retrieval",
        decision=Decision(verdict="adopt", reasons=(reason,), primary=primary, guardrails=(guard,)),
        metric=primary.metric,
        changes={
            "chunk": ({"kind": "recursive", "size": 512}, {"kind": "heading", "size": 1024}),
            "retrieve.mode": ("dense", "hybrid"),
        },
        dev=compared(scores, primary.metric, "retrieval", "baseline", "dev").model_dump(mode="json"),
        candidate=candidate,
        cost=CostRecord(seconds=94.2),
        details={"trials": 6, "searches": 12, "unique_texts": 2210, "warnings": ["1 trial failed: see the table"]},
    )


def _embedding_rung(scores: list[dict], candidate: ArmRecord) -> RungRecord:
    second = compared(scores, "ndcg@10", "embedding", "retrieval", "test")
    return RungRecord(
        name="embedding",
        decision=Decision(
            verdict="inconclusive",
            reasons=("ndcg@10: too few questions to tell; about 240 test questions would settle it",),
            primary=second,
        ),
        metric="ndcg@10",
        changes={"embed.model": ("all-MiniLM-L6-v2", "runs/models/tuned-5e1")},
        dev=compared(scores, "ndcg@10", "embedding", "retrieval", "dev").model_dump(mode="json"),
        candidate=candidate,
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
    )


def _llm_rung(candidate: ArmRecord) -> RungRecord:
    return RungRecord(
        name="llm",
        decision=no_candidate("nothing better than the incumbent was found on dev, so test was not looked at"),
        metric="token_f1",
        changes={},
        dev={},
        candidate=candidate,
        cost=CostRecord(seconds=5021.0, prompt_tokens=1_200_000, completion_tokens=40_000, money=1.25),
        details={},
    )


def _diagnosis(baseline: ArmRecord) -> Diagnosis:
    dev = baseline.scores["dev"]["token_f1"]
    return Diagnosis(
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
    )


def record_of(questions: list[dict], scores: list[dict], answers: list[dict]) -> LadderRecord:
    """A climb of three rungs: adopted, inconclusive, rejected."""
    baseline, retrieval, embedding = (arm_record(arm, scores, answers) for arm in ARMS[:3])
    llm = arm_record("llm", scores, answers, ("dev",))
    rungs = (_retrieval_rung(scores, retrieval), _embedding_rung(scores, embedding), _llm_rung(llm))
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
        diagnosis=_diagnosis(baseline),
        rungs=rungs,
        final=retrieval,
        summary="Tuned retrieval lifts token_f1 from 0.42 to 0.50 on test; finetuning has not been shown to pay yet.",
        next_step="Write about 120 more test questions, then climb again: a decision is within reach.",
        seconds=5603.0,
    )


def trial_rows() -> list[dict]:
    return [
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
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(trial_rows()), folder / "trials.parquet")
    (folder / "config.yaml").write_text("name: quickstart  # <tag>\n", encoding="utf-8")
    (folder / "best.yaml").write_text("chunk: {size: 1024}\n", encoding="utf-8")
    (folder / "env.json").write_text(
        json.dumps({"python": "3.11.9", "packages": {"torch": "2.13.0"}, "device": "cpu"}), encoding="utf-8"
    )
    return folder
