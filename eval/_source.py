"""What the loaders share: reading lines with their numbers, collecting problems, naming and normalising documents."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .questions import MOST_PROBLEMS

__all__ = [
    "DocumentSet",
    "Problems",
    "csv_rows",
    "json_file",
    "json_rows",
    "plain_text",
    "read_source",
    "require_file",
    "text_problem",
]

_LONGEST_NAME = 80
_SEPARATORS = ",;\t"


class Problems:
    """Collects what is wrong with a source, so that it is reported at once."""

    def __init__(self, source: Path) -> None:
        """Starts empty for a source."""
        self._source = source
        self._found: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Notes a problem at a place, `file:line`."""
        self._found.append(f"{where}: {what}")

    def check(self) -> None:
        """Raises DataError listing the problems (up to 20), if there are any."""
        if not self._found:
            return
        rest = len(self._found) - MOST_PROBLEMS
        shown = self._found[:MOST_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])
        raise DataError(f"{self._source} cannot be imported:\n" + "\n".join(shown))


class DocumentSet:
    """Documents to be written, named so that their files are safe on every system and unlike in any case."""

    def __init__(self) -> None:
        """Starts empty."""
        self.texts: dict[str, str] = {}
        self._names: set[str] = set()

    def add(self, key: str, text: str, suffix: str = ".txt") -> str:
        """Adds a document.

        Args:
            key: Its name in the source.
            text: Its text.
            suffix: Of the file.

        Returns:
            Its id: the file's name.
        """
        stem = re.sub(r"[^\w.\-]+|^\.+", "_", key).rstrip(". ") or "_"
        name = f"{stem[:_LONGEST_NAME]}{suffix}"
        if name.casefold() in self._names or len(stem) > _LONGEST_NAME:
            name = f"{stem[:_LONGEST_NAME]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{suffix}"
        self._names.add(name.casefold())
        self.texts[name] = text
        return name


def plain_text(*blocks: str) -> str:
    """Blocks joined by blank lines, as the parser of `.txt` files gives them back, so that offsets hold."""
    text = re.sub(r"\r\n?", "\n", "\n\n".join(blocks))
    parts = [part.strip("\n").rstrip() for part in re.split(r"\n[ \t]*\n+", text.strip("\n"))]
    return "\n\n".join(part for part in parts if part.strip())


def require_file(path: Path, what: str) -> Path:
    """The path, if it is a file.

    Raises:
        DataError: It is not.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; {what}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; {what}")
    return path


def read_source(path: Path) -> str:
    """Text of a UTF-8 file with `\\n` line ends.

    Raises:
        DataError: It cannot be read, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8 (in Excel: 'CSV UTF-8')") from None
    return re.sub(r"\r\n?", "\n", text)


def json_rows(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file, each with its place; lines that hold none are noted as problems."""
    for number, line in enumerate(read_source(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problems.add(where, f"not valid JSON: {error.msg} at column {error.colno}")
            continue
        if not isinstance(row, dict):
            problems.add(where, "expected an object in curly brackets")
        elif text_problem(row):
            problems.add(where, text_problem(row))
        else:
            yield where, row


def json_file(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return json.loads(read_source(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON: {error.msg} at column {error.colno}") from None


def csv_rows(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table with a header, each with the place of its first line.

    The header says what separates its cells: the one of comma, semicolon and tab that stands in it most often. German
    and French spreadsheets write semicolons, for instance.

    Raises:
        DataError: The file is empty, or no CSV.
    """
    text = read_source(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            where, start = f"{path}:{start}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                continue
            if len(cells) != len(header):
                problems.add(where, f"has {len(cells)} cells, but the header has {len(header)}")
                continue
            row = dict(zip(header, cells, strict=True))
            if text_problem(row):
                problems.add(where, text_problem(row))
            else:
                yield where, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None
    if header is None:
        raise DataError(f"{path}: the file is empty")


def _separator(text: str) -> str:
    header = next((line for line in text.split("\n") if line.strip()), "")
    return max(_SEPARATORS, key=header.count)


def text_problem(row: Mapping[str, Any]) -> str:
    """Why a row's texts cannot be written to a UTF-8 text file; empty where they can."""
    for key, value in row.items():
        if not isinstance(value, str):
            continue
        if "\0" in value:
            return f"{key}: holds a zero byte; take it out"
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{key}: holds half a character (a lone surrogate); take it out"
    return ""
