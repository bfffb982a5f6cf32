"""Reads a run folder; what `ladder/records.py` lists is the contract, and nothing else is looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...core.errors import DataError
from ..records import LadderRecord

__all__ = ["RunFolder", "json_object", "parsed_record", "read_run", "text_of"]

Record = TypeVar("Record", bound=BaseModel)

SCORE_COLUMNS = ("arm", "split", "question_id", "metric", "value", "status", "detail")
OPTIONAL = {
    "config.yaml": "the configuration is not shown",
    "env.json": "versions and device are not shown",
    "questions.jsonl": "slices and the table of questions are left out",
    "scores.parquet": "slices are left out, and the table of questions has no scores",
    "answers.jsonl": "the table of questions has no answers, passages and causes",
    "trials.parquet": "the trials of the sweep are not shown",
    "best.yaml": "the final pipeline is not shown as YAML",
}
"""What the report lacks where a file does. Files of an unfinished or trimmed run folder may be missing."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """What a run folder holds.

    Attributes:
        name: The folder's name.
        record: `ladder.json`.
        config: Text of `config.yaml`.
        best: Text of `best.yaml`.
        env: `env.json`.
        questions: Rows of `questions.jsonl`.
        scores: Columns of `scores.parquet`; NaN is None.
        answers: Rows of `answers.jsonl`.
        verdicts: Rows of `verdicts.jsonl`; none where nothing was judged, and in run folders of older versions.
        trials: Rows of `trials.parquet`; NaN is None.
        absent: Missing file: what the report lacks for it.
    """

    name: str
    record: LadderRecord
    config: str
    best: str
    env: Mapping[str, Any]
    questions: tuple[dict[str, Any], ...]
    scores: Mapping[str, list[Any]]
    answers: tuple[dict[str, Any], ...]
    verdicts: tuple[dict[str, Any], ...]
    trials: tuple[dict[str, Any], ...]
    absent: Mapping[str, str]


def read_run(run_dir: Path) -> RunFolder:
    """Reads a run folder.

    Args:
        run_dir: A folder that `ragladder climb` wrote.

    Raises:
        DataError: No such folder, no `ladder.json` in it, or a file that does not fit the contract.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise DataError(f"{run_dir}: no such run folder; `ragladder climb` writes one")
    path = run_dir / "ladder.json"
    if not path.is_file():
        raise DataError(
            f"{run_dir}: ladder.json is not there: the run is not finished (its climb command resumes it), "
            "or this is no run folder"
        )
    scores = _columns(run_dir / "scores.parquet", SCORE_COLUMNS)
    trials = _columns(run_dir / "trials.parquet", ("trial", "axis", "value"))
    return RunFolder(
        name=run_dir.resolve().name,
        record=parsed_record(path, LadderRecord, "climb again"),
        config=text_of(run_dir / "config.yaml"),
        best=text_of(run_dir / "best.yaml"),
        env=json_object(run_dir / "env.json"),
        questions=_rows(run_dir / "questions.jsonl", ("id", "question")),
        scores=scores,
        answers=_rows(run_dir / "answers.jsonl", ("arm", "question_id")),
        verdicts=_rows(run_dir / "verdicts.jsonl", ("arm", "question_id", "metric", "claim", "supported")),
        trials=tuple(dict(zip(trials, row, strict=True)) for row in zip(*trials.values(), strict=True)),
        absent={name: lack for name, lack in OPTIONAL.items() if not (run_dir / name).is_file()},
    )


def parsed_record(path: Path, model: type[Record], again: str) -> Record:
    """Reads the record that a command wrote.

    Args:
        path: `ladder.json` or `sweep.json`.
        model: What it is to fit.
        again: What makes it anew, for the message: `climb again`.

    Raises:
        DataError: It does not fit.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise DataError(
            f"{path}: does not fit this version of ragladder: {where}: {first['msg']}; "
            f"use the version that wrote it, or {again} (what is cached is not computed again)"
        ) from None


def text_of(path: Path) -> str:
    """Text of a file, empty where it is not there.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is not there.

    Raises:
        DataError: It is not one.
    """
    text = text_of(path)
    if not text:
        return {}
    try:
        value = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object")
    return value


def _rows(path: Path, keys: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    rows = []
    # Not splitlines: U+2028 and the like may stand inside a JSON string.
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not valid JSON: {error.msg}") from None
        lacking = [key for key in keys if not isinstance(row, dict) or key not in row]
        if lacking:
            raise DataError(f"{path}:{number}: expected a JSON object with {', '.join(lacking)}")
        rows.append(row)
    return tuple(rows)


def _columns(path: Path, needed: tuple[str, ...]) -> dict[str, list[Any]]:
    if not path.is_file():
        return {}
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from None
    lacking = [name for name in needed if name not in table.column_names]
    if lacking:
        raise DataError(f"{path}: lacks the columns {', '.join(lacking)}")
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: Any) -> list[Any]:
    """A column's values; equal texts are one object, for millions of scores name few arms, questions and metrics."""
    import pyarrow

    if not pyarrow.types.is_string(column.type):
        return [_no_nan(value) for value in column.to_pylist()]
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    return [None if place is None else texts[place] for place in encoded.indices.to_pylist()]


def _no_number(_: str) -> None:
    """NaN and infinities of JSON as Python writes it."""


def _no_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
