"""The tables and lines of a run folder: what each row holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.config import to_yaml
from ..core.files import write_atomic
from ..core.types import Question
from ..eval.gold import GoldSpan
from .config import ExperimentConfig
from .diagnose import outcomes
from .scoring import kept_verdicts
from .workbench import Evaluation, Workbench

__all__ = [
    "SCORE_COLUMNS",
    "TRIAL_COLUMNS",
    "answer_rows",
    "best_yaml",
    "question_row",
    "score_rows",
    "verdict_rows",
    "write_lines",
    "write_table",
]

TRIAL_COLUMNS = {
    "rung": "string",
    "trial": "int64",
    "axis": "string",
    "value": "string",
    "changes": "string",
    "objective": "string",
    "split": "string",
    "mean": "float64",
    "low": "float64",
    "high": "float64",
    "n_ok": "int64",
    "n": "int64",
    "status": "string",
    "error": "string",
    "seconds": "float64",
}
SCORE_COLUMNS = {
    "arm": "string",
    "split": "string",
    "question_id": "string",
    "metric": "string",
    "value": "float64",
    "status": "string",
    "detail": "string",
}


CLIMBED = "# The pipeline that the climb ended with. Score it: ragladder eval best.yaml\n"


def best_yaml(bench: Workbench, config: ExperimentConfig, head: str = CLIMBED) -> str:
    """`best.yaml`: an experiment with the pipeline that was found, its paths absolute, below a comment."""
    data = config.data.model_copy(
        update={
            name: str(bench.resources.path(getattr(config.data, name)).resolve()) for name in ("documents", "questions")
        }
    )
    return head + to_yaml(config.model_copy(update={"data": data, "pipeline": bench.absolute_paths(config.pipeline)}))


def score_rows(arm: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of `scores.parquet`."""
    return [{"arm": arm, "split": evaluation.split, **asdict(score)} for score in evaluation.scores]


def answer_rows(bench: Workbench, arm: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of `answers.jsonl`: the answer, where it was lost, and the passages with their gold stretches."""
    causes = {outcome.question_id: outcome.cause for outcome in outcomes(bench, evaluation)}
    rows = []
    for question, answer, hits in zip(
        evaluation.questions, evaluation.answers, evaluation.retrieved.contexts, strict=True
    ):
        spans = evaluation.gold.get(question.id, ())
        rows.append(
            {
                "arm": arm,
                "split": evaluation.split,
                "question_id": question.id,
                "text": answer.text,
                "status": answer.status,
                "detail": answer.detail,
                "cause": causes[question.id],
                "contexts": [_context_row(hit, spans) for hit in hits],
                "seconds": answer.seconds,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
            }
        )
    return rows


def verdict_rows(bench: Workbench, arm: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of `verdicts.jsonl`: what the judge held of each claim; none where nothing was judged."""
    kept = kept_verdicts(bench, evaluation)
    return [{"arm": arm, "split": evaluation.split, **asdict(verdict)} for verdict in kept]


def _context_row(hit: Any, spans: Sequence[GoldSpan]) -> dict[str, Any]:
    chunk = hit.chunk
    gold = [
        [max(span.start, chunk.start) - chunk.start, min(span.end, chunk.end) - chunk.start]
        for span in spans
        if span.found and span.doc_id == chunk.doc_id and min(span.end, chunk.end) > max(span.start, chunk.start)
    ]
    heading = " > ".join((chunk.title, *chunk.heading) if chunk.heading[:1] != (chunk.title,) else chunk.heading)
    return {
        "doc_id": chunk.doc_id,
        "ref": chunk.ref,
        "heading": heading,
        "score": hit.score,
        "text": chunk.text,
        "gold": gold,
    }


def question_row(question: Question, gold: Mapping[str, tuple[GoldSpan, ...]]) -> dict[str, Any]:
    """A row of `questions.jsonl`."""
    spans = gold.get(question.id, ())
    return {
        "id": question.id,
        "question": question.text,
        "answer": question.answer,
        "evidence": [
            {"doc_id": e.doc_id, "text": e.text, "located": s.method}
            for e, s in zip(question.evidence, spans, strict=True)
        ],
        "tags": dict(question.tags),
        "split": question.split,
    }


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as JSONL."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Writes rows as parquet; the columns are there, with their types, also where there are no rows."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())
