"""The file of trials: one JSON line each, appended at once, so that a kill loses at most the trial in hand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...core.cache import digest
from ...core.errors import StageError
from .evaluate import Outcome
from .space import Configuration

__all__ = ["TrialLog", "locked"]

FILE = "trials.jsonl"
_SYNC_S = 1.0


class TrialLog:
    """Trials of one sweep."""

    def __init__(self, folder: Path, questions: str = "dev") -> None:
        """Reads what is there; a torn last line, which a kill left, is cut off.

        Args:
            folder: Of the sweep.
            questions: Which ones score the trials.
        """
        self._questions = questions
        self.path = folder / FILE
        self.rows: list[dict[str, Any]] = []
        self._known: dict[str, Outcome] = {}
        self._first: dict[str, int] = {}
        self._synced = 0.0
        if self.path.is_file():
            self._read()

    def find(self, key: str, part: Sequence[int] | None) -> Outcome | None:
        """A recorded outcome, whatever its status; None where there is none."""
        return self._known.get(_name(key, part))

    def number(self, key: str) -> int:
        """The first trial of a configuration; 0 where there is none."""
        return self._first.get(key, 0)

    def add(self, configuration: Configuration, outcome: Outcome) -> None:
        """Appends a trial. The system has it when this returns; the disk too, at the latest a second after the last."""
        row = {
            "trial": len(self.rows) + 1,
            "point": configuration.point,
            "changes": configuration.changes,
            "split": self._questions,
            **outcome.as_row(),
        }
        with open(self.path, "ab") as handle:
            handle.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
            handle.flush()
            if time.monotonic() - self._synced > _SYNC_S:  # a sync takes longer than a trial that is arithmetic
                os.fsync(handle.fileno())
                self._synced = time.monotonic()
        self._keep(row, outcome)

    def _keep(self, row: dict[str, Any], outcome: Outcome) -> None:
        self.rows.append(row)
        self._first.setdefault(outcome.key, row["trial"])
        self._known[_name(outcome.key, outcome.part)] = outcome

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        names = set(Outcome.__dataclass_fields__)
        for number, line in enumerate(whole.decode("utf-8", "surrogatepass").splitlines(), 1):
            try:
                row = json.loads(line)
                outcome = Outcome(**{name: value for name, value in row.items() if name in names})
            except (ValueError, TypeError) as error:
                advice = "delete this line, and its trial runs again"
                raise StageError(f"{self.path}:{number}: damaged ({error}); {advice}") from None
            self._keep(row, outcome)
        if len(whole) < len(data):
            with open(self.path, "rb+") as handle:
                handle.truncate(len(whole))


def _name(key: str, part: Sequence[int] | None) -> str:
    return key if part is None else f"{key}:{digest(list(part))[:12]}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process from the same sweep.

    Raises:
        StageError: One works on it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StageError(f"another process works on this sweep ({folder}); wait for it, or stop it first") from None
    try:
        yield
    finally:
        lock.release()
