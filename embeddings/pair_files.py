"""Reads training pairs that others made: JSONL and CSV of pairs and triplets, and logs of clicks or ratings."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .pairs import Pair

__all__ = ["load_feedback", "load_pair_file"]

_QUERY = ("query", "anchor", "question")
_POSITIVE = ("positive", "passage", "document", "text")
_SCORE = ("score", "label")
_NEGATIVE = re.compile(r"neg(?:ative)?s?(?:_\d+)?")
_MOST = 5
_BEYOND = "\0beyond"
"""Column of the fields that the header does not name."""


def load_pair_file(path: Path) -> list[Pair]:
    """Reads pairs, triplets or scored pairs.

    Columns: `query` (or anchor, question), `positive` (or passage, document, text), any number of `negative`,
    `negative_1` ... (in JSONL also a list `negatives`), `score` (or label).

    Args:
        path: A `.jsonl`, `.csv` or `.tsv` file.

    Raises:
        DataError: The file cannot be read, or listing the lines that are no pair.
    """
    pairs, problems = [], []
    for number, row in _rows(path):
        if row.get(_BEYOND):
            problems.append(
                f"{path}:{number}: more fields than the header names; put texts with the separator in quotes"
            )
            continue
        query, positive = _first(row, _QUERY), _first(row, _POSITIVE)
        score = _first(row, _SCORE)
        negatives = [text for name, value in row.items() if _NEGATIVE.fullmatch(name) for text in _texts(value)]
        numeric = _number(score)
        if not _filled(query) or not _filled(positive):
            problems.append(f"{path}:{number}: needs texts 'query' and 'positive' that are not empty")
        elif score not in (None, "") and numeric is None:
            problems.append(f"{path}:{number}: score '{score}' is not a finite number")
        else:
            scores = () if numeric is None or negatives else (numeric,)
            key = f"{path.stem}:{number}"
            pairs.append(Pair(key, str(query), str(positive), key, tuple(negatives), scores))
    _check(path, pairs, problems)
    return pairs


def load_feedback(path: Path, texts_by_id: Mapping[str, str]) -> tuple[list[Pair], dict[str, int]]:
    """Reads logged clicks or ratings: what was clicked or rated well answers its query.

    A negative is a passage rated badly, or shown above a clicked one and not clicked (skip-above, Joachims 2002). What
    was merely shown says nothing.

    Args:
        path: JSON Lines: `query`, `text` or `chunk_id`, and `clicked` (true, false) or `rating` (a number); `rank`
            (1 the topmost) and `session` where known.
        texts_by_id: Embedding text by chunk id.

    Returns:
        Pairs, and counts: `feedback_silent` rows that say nothing, `feedback_unknown` rows whose chunk is gone.

    Raises:
        DataError: The file cannot be read, listing the lines that are no feedback, or nothing was liked.
    """
    if Path(path).suffix != ".jsonl":
        raise DataError(f"{path}: feedback is read from .jsonl files")
    problems: list[str] = []
    counts: Counter[str] = Counter({"feedback_silent": 0, "feedback_unknown": 0})
    groups: dict[tuple[str, str], list[tuple[str, str, dict[str, Any]]]] = {}
    for number, row in _rows(path):
        query, chunk = row.get("query"), row.get("chunk_id")
        text = row.get("text") if row.get("text") is not None else texts_by_id.get(str(chunk))
        rating, clicked = row.get("rating"), row.get("clicked")
        if not _filled(query) or (row.get("text") is None and chunk is None):
            problems.append(f"{path}:{number}: needs 'query', and 'text' or 'chunk_id'")
        elif (rating is None) == (clicked is None) or (rating is not None and _number(rating) is None):
            problems.append(f"{path}:{number}: needs either 'clicked' (true or false) or 'rating' (a number)")
        elif clicked is not None and not isinstance(clicked, bool):
            problems.append(f"{path}:{number}: 'clicked' is {clicked!r}; write true or false")
        elif not _filled(text):
            counts["feedback_unknown"] += 1
        else:
            group = groups.setdefault((str(query), str(row.get("session", ""))), [])
            group.append((f"{path.stem}:{number}", str(text), row))
    pairs: list[Pair] = []
    for (query, _), rows in groups.items():
        liked = [(key, text) for key, text, row in rows if _liked(row)]
        texts = {text for _, text in liked}
        lowest = max((_number(row.get("rank")) or 0 for _, _, row in rows if _liked(row)), default=0)
        bad = tuple(dict.fromkeys(text for _, text, row in rows if _disliked(row, lowest) and text not in texts))
        counts["feedback_silent"] += sum(not _liked(row) and not _disliked(row, lowest) for _, _, row in rows)
        pairs += [Pair(key, query, text, key, bad) for key, text in liked]
    _check(path, pairs, problems, "nothing was clicked or rated above 0")
    return pairs, dict(counts)


def _liked(row: Mapping[str, Any]) -> bool:
    return bool(row.get("clicked")) or (_number(row.get("rating")) or 0) > 0


def _disliked(row: Mapping[str, Any], lowest_click: float) -> bool:
    rating, rank = _number(row.get("rating")), _number(row.get("rank"))
    skipped = row.get("clicked") is False and rank is not None and rank < lowest_click
    return skipped or (rating is not None and rating < 0)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of a JSONL, CSV or TSV file."""
    path = Path(path)
    if path.suffix not in (".jsonl", ".csv", ".tsv"):
        raise DataError(f"{path}: pairs are read from .jsonl, .csv and .tsv files")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{path}: cannot be read ({reason})") from None
    if path.suffix != ".jsonl":
        yield from _table(path, text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not a JSON object")
        yield number, row


def _table(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines: a text may hold one of Unicode's other line separators.
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, restkey=_BEYOND, delimiter="\t" if path.suffix == ".tsv" else ",")
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        for row in reader:
            yield reader.line_num, {key.strip().lower(): value for key, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a table ({error})") from None
    finally:
        csv.field_size_limit(before)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if _filled(text)]


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _check(path: Path, pairs: list[Pair], problems: list[str], empty: str = "there is no pair in it") -> None:
    if problems:
        more = f"\nand {len(problems) - _MOST} more" if len(problems) > _MOST else ""
        raise DataError("\n".join(problems[:_MOST]) + more)
    if not pairs:
        raise DataError(f"{path}: {empty}")
