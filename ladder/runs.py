"""Run folders: opened (or found again after a kill), filled, listed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.cache import digest
from ..core.config import to_yaml
from ..core.errors import DataError
from ..core.files import write_atomic
from ..core.types import Question
from ..eval.gold import GoldSpan
from ..eval.questions import files_identity
from ..rag.parse import ParsedCorpus
from .config import ExperimentConfig, PipelineConfig
from .environment import environment
from .records import DataRecord, LadderRecord
from .run_files import (
    SCORE_COLUMNS,
    TRIAL_COLUMNS,
    answer_rows,
    best_yaml,
    question_row,
    score_rows,
    verdict_rows,
    write_lines,
    write_table,
)
from .rungs import Trial
from .workbench import Evaluation, Workbench

__all__ = [
    "Run",
    "RunSummary",
    "config_digest",
    "data_record",
    "find_run",
    "list_runs",
    "load_ladder",
    "open_run",
    "read_state",
]


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
        write_table(self.folder / "trials.parquet", self.trials, TRIAL_COLUMNS)
        scores = [row for arm, e in evaluations for row in score_rows(arm, e)]
        write_table(self.folder / "scores.parquet", scores, SCORE_COLUMNS)
        write_lines(
            self.folder / "answers.jsonl", [row for arm, e in evaluations for row in answer_rows(bench, arm, e)]
        )
        verdicts = [row for arm, e in evaluations for row in verdict_rows(bench, arm, e)]
        write_lines(self.folder / "verdicts.jsonl", verdicts)
        gold = evaluations[0][1].gold
        asked = [q for q in bench.questions if q.split in ("dev", "test")]
        write_lines(self.folder / "questions.jsonl", [question_row(q, gold) for q in asked])
        best_config = bench.config.model_copy(update={"pipeline": best})
        write_atomic(self.folder / "best.yaml", best_yaml(bench, best_config).encode())
        write_atomic(self.folder / "ladder.json", (record.model_dump_json(indent=1) + "\n").encode())
        write_atomic(self.folder / "run.json", _state(bench, record.data, self.created, "finished"))


def open_run(bench: Workbench, config_sha256: str, data: DataRecord) -> Run:
    """The run folder to fill: an unfinished one of the same config and data, else a new one."""
    runs = bench.resources.cache_dir / "runs"
    for folder in sorted(runs.glob("*"), reverse=True) if runs.is_dir() else []:
        state = read_state(folder)
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


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of `ragladder runs ls`."""

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
        state = read_state(folder)
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


def read_state(folder: Path) -> dict[str, Any]:
    """What `run.json` holds; nothing where it is not there or damaged."""
    try:
        return json.loads((folder / "run.json").read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
