"""Run folders: opened (or found again after a kill), filled, listed."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.cache import digest, write_atomic
from ..core.config import to_yaml
from ..core.errors import DataError
from ..core.types import Question
from ..eval.gold import GoldSpan
from ..eval.questions import files_identity
from ..rag.parse import ParsedCorpus
from .config import ExperimentConfig, PipelineConfig
from .diagnose import outcomes
from .records import DataRecord, LadderRecord
from .rungs import Trial
from .workbench import Evaluation, Workbench

__all__ = ["Run", "RunSummary", "config_digest", "data_record", "find_run", "list_runs", "load_ladder", "open_run"]

_PACKAGES = [
    "ragladder",
    "torch",
    "transformers",
    "sentence-transformers",
    "peft",
    "trl",
    "llama-index-core",
    "qdrant-client",
    "faiss-cpu",
    "faiss-gpu",
    "ragas",
    "bm25s",
    "numpy",
    "scipy",
]

_TRIAL_COLUMNS = {
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
_SCORE_COLUMNS = {
    "arm": "string",
    "split": "string",
    "question_id": "string",
    "metric": "string",
    "value": "float64",
    "status": "string",
    "detail": "string",
}


@dataclass
class Run:
    """A run folder that is being filled."""

    folder: Path
    created: str
    trials: list[dict[str, Any]] = field(default_factory=list)

    def add_trials(self, rung: str, trials: Sequence[Trial]) -> None:
        """Adds the rows of `trials.parquet`."""
        for trial in trials:
            estimate = trial.estimate
            self.trials.append(
                {
                    "rung": rung,
                    "trial": len(self.trials) + 1,
                    "axis": trial.axis,
                    "value": json.dumps(trial.value, ensure_ascii=False),
                    "changes": json.dumps(trial.changes, ensure_ascii=False),
                    "objective": trial.objective,
                    "split": "dev",
                    **{name: getattr(estimate, name, None) for name in ("mean", "low", "high", "n_ok", "n")},
                    "status": trial.status,
                    "error": trial.error,
                    "seconds": trial.seconds,
                }
            )

    def finish(
        self,
        bench: Workbench,
        record: LadderRecord,
        evaluations: Sequence[tuple[str, Evaluation]],
        best: PipelineConfig,
    ) -> None:
        """Writes everything but the report; `ladder.json` last, so that a folder that has it is whole."""
        _write_table(self.folder / "trials.parquet", self.trials, _TRIAL_COLUMNS)
        scores = [row for arm, e in evaluations for row in _score_rows(arm, e)]
        _write_table(self.folder / "scores.parquet", scores, _SCORE_COLUMNS)
        _write_lines(
            self.folder / "answers.jsonl", [row for arm, e in evaluations for row in _answer_rows(bench, arm, e)]
        )
        gold = evaluations[0][1].gold
        asked = [q for q in bench.questions if q.split in ("dev", "test")]
        _write_lines(self.folder / "questions.jsonl", [_question_row(q, gold) for q in asked])
        best_config = bench.config.model_copy(update={"pipeline": best})
        write_atomic(self.folder / "best.yaml", _best_yaml(bench, best_config).encode())
        write_atomic(self.folder / "ladder.json", (record.model_dump_json(indent=1) + "\n").encode())
        write_atomic(self.folder / "run.json", _state(bench, record.data, self.created, "finished"))


def open_run(bench: Workbench, config_sha256: str, data: DataRecord) -> Run:
    """The run folder to fill: an unfinished one of the same config and data, else a new one."""
    runs = bench.resources.cache_dir / "runs"
    for folder in sorted(runs.glob("*"), reverse=True) if runs.is_dir() else []:
        state = _read_state(folder)
        same = state.get("config_sha256") == config_sha256 and state.get("data") == _data_key(data)
        if same and state.get("status") == "running":
            bench.reporter.line(f"resuming {folder.name}")
            run = Run(folder, state["created"])
            break
    else:
        now = datetime.now(UTC)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", bench.config.name).strip("-") or "run"
        folder = runs / f"{now:%Y%m%d-%H%M%S}-{name}"
        number = 2
        while folder.exists():
            folder = runs / f"{now:%Y%m%d-%H%M%S}-{name}-{number}"
            number += 1
        folder.mkdir(parents=True)
        run = Run(folder, now.isoformat(timespec="seconds"))
    write_atomic(run.folder / "config.yaml", to_yaml(bench.config).encode())
    write_atomic(run.folder / "env.json", json.dumps(environment(bench), indent=1).encode())
    write_atomic(run.folder / "run.json", _state(bench, data, run.created, "running"))
    bench.reporter.log = run.folder / "run.log"
    return run


def config_digest(config: ExperimentConfig) -> str:
    """sha256 over the settings that change results (all but `runtime` and `name`)."""
    return digest(config.model_dump(mode="json", exclude={"runtime", "name"}))


def data_record(bench: Workbench, corpus: ParsedCorpus, gold: Mapping[str, tuple[GoldSpan, ...]]) -> DataRecord:
    """Counts and hashes of the data; a question counts as lost when any of its evidence is."""
    lost = [q for q in bench.questions if any(not span.found for span in gold[q.id])]
    identity = bench.corpus_identity(bench.config.pipeline)
    questions = bench.resources.path(bench.config.data.questions)
    return DataRecord(
        documents=len(corpus.documents),
        failures={failure.doc_id: failure.reason for failure in corpus.failures},
        questions=_by_split(bench.questions),
        unanswerable=_by_split([q for q in bench.questions if not q.answerable]),
        evidence_lost=_by_split(lost),
        documents_sha256=digest(identity["files"]),
        questions_sha256=digest(files_identity(questions)),
    )


def environment(bench: Workbench) -> dict[str, Any]:
    """Versions, device and revision; no variable of the environment."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    import torch

    device = bench.resources.device
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device)
        if device.startswith("cuda")
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "packages": packages,
        "git_revision": _git_revision(bench.resources.base_dir),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of `ragladder runs list`."""

    run_id: str
    folder: Path
    status: str
    name: str
    created: str
    summary: str


def list_runs(root: Path) -> list[RunSummary]:
    """Runs below a cache folder, newest first."""
    found = []
    for folder in sorted((root / "runs").glob("*"), reverse=True) if (root / "runs").is_dir() else []:
        state = _read_state(folder)
        if state:
            summary = "not finished: the same climb command resumes it"
            if (folder / "ladder.json").is_file():
                try:
                    summary = load_ladder(folder).summary
                except DataError as error:  # one damaged run must not hide the others
                    summary = str(error)
            found.append(RunSummary(folder.name, folder, state["status"], state["name"], state["created"], summary))
    return found


def find_run(name: str, root: Path) -> Path:
    """The folder of a run: a path, a run id, the start of one, or `latest`.

    Raises:
        DataError: No such run, or more than one.
    """
    path = Path(name).expanduser()
    if (path / "run.json").is_file():
        return path
    runs = list_runs(root)
    if name == "latest" and runs:
        return runs[0].folder
    matches = [run.folder for run in runs if run.run_id == name] or [
        run.folder for run in runs if run.run_id.startswith(name)
    ]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(run.run_id for run in runs[:5]) or "none yet; `ragladder climb CONFIG` makes one"
    trouble = "no run is" if not matches else f"{len(matches)} runs are"
    raise DataError(f"{trouble} called '{name}' in {root / 'runs'} (runs: {known})")


def load_ladder(folder: Path) -> LadderRecord:
    """The record of a finished run.

    Raises:
        DataError: It is not finished, or not readable by this version.
    """
    path = folder / "ladder.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: the run is not finished; run its climb command again to resume it") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); the file is damaged") from None
    schema = data.get("schema_version") if isinstance(data, dict) else None
    if schema != 1:
        raise DataError(f"{path}: schema_version {schema} is not one that this version reads (1)")
    try:
        return LadderRecord.model_validate(data)
    except ValidationError as error:
        raise DataError(f"{path}: not a record that this version reads: {error.errors()[0]['msg']}") from None


def _by_split(questions: Sequence[Question]) -> dict[str, int]:
    counts = Counter(q.split or "none" for q in questions)
    return {
        split: counts.get(split, 0) for split in ("train", "dev", "test", *(["none"] if counts.get("none") else []))
    }


def _state(bench: Workbench, data: DataRecord, created: str, status: str) -> bytes:
    state = {
        "status": status,
        "name": bench.config.name,
        "created": created,
        "config_sha256": config_digest(bench.config),
        "data": _data_key(data),
    }
    return json.dumps(state, indent=1).encode()


def _data_key(data: DataRecord) -> list[str]:
    return [data.documents_sha256, data.questions_sha256]


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "run.json").read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def _git_revision(folder: Path) -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _best_yaml(bench: Workbench, config: ExperimentConfig) -> str:
    data = config.data.model_copy(
        update={
            name: str(bench.resources.path(getattr(config.data, name)).absolute())
            for name in ("documents", "questions")
        }
    )
    head = "# The pipeline that the climb ended with. Score it: ragladder eval best.yaml\n"
    return head + to_yaml(config.model_copy(update={"data": data, "pipeline": bench.absolute_paths(config.pipeline)}))


def _score_rows(arm: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    return [{"arm": arm, "split": evaluation.split, **asdict(score)} for score in evaluation.scores]


def _answer_rows(bench: Workbench, arm: str, evaluation: Evaluation) -> list[dict[str, Any]]:
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


def _question_row(question: Question, gold: Mapping[str, tuple[GoldSpan, ...]]) -> dict[str, Any]:
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


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Writes rows as parquet; the columns are there, with their types, also where there are no rows."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())
