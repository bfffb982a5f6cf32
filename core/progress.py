"""Progress of long work: a bar with a rate and an ETA on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Reporter", "Task"]


@dataclass(slots=True)
class Task:
    """A piece of work under way; `advance` counts what is done."""

    name: str
    total: int | None
    unit: str
    reporter: Reporter
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    last_line: float = field(default_factory=time.monotonic)
    bar: tuple[Progress, TaskID] | None = None

    def advance(self, count: int = 1) -> None:
        """Counts finished units."""
        self.done += count
        self.reporter._update(self)

    def state(self) -> str:
        """The count, rate and ETA in words."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        rate = self.done / seconds
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        text = f"{self.name}: {self.done}" + (f"/{self.total}" if self.total else "") + f" {self.unit}, {speed}/s"
        if self.total and self.done and self.done < self.total:
            text += f", about {_duration((self.total - self.done) / rate)} left"
        return text


def _duration(seconds: float) -> str:
    """`48 s`, `12 min`, `2 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class Reporter:
    """Where progress and log lines go; nothing of it changes a result."""

    def __init__(
        self, quiet: bool = False, verbose: bool = False, interval: float = 10.0, log: Path | None = None
    ) -> None:
        """Makes a reporter.

        Args:
            quiet: Prints nothing.
            verbose: Prints details too.
            interval: Seconds between plain lines where standard error is no terminal.
            log: A file that every line and detail is added to, with the time.
        """
        self.quiet = quiet
        self.verbose = verbose
        self.log = log
        self._interval = interval
        self._terminal = sys.stderr.isatty()

    def line(self, text: str) -> None:
        """Prints a line to standard error and the log."""
        self._write(text)
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Adds a line to the log; prints it when verbose."""
        if self.verbose:
            self.line(text)
        else:
            self._write(text)

    def _write(self, text: str) -> None:
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as handle:
                handle.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    @contextmanager
    def task(self, name: str, total: int | None, unit: str = "items") -> Iterator[Task]:
        """Shows progress while the block runs."""
        task = Task(name, total, unit, self)
        if self.quiet or not self._terminal:
            yield task
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(16), TextColumn("{task.fields[state]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            number = progress.add_task(name, total=total, state="")
            task.bar = (progress, number)
            yield task

    def _update(self, task: Task) -> None:
        if task.bar is not None:
            progress, number = task.bar
            progress.update(number, completed=task.done, state=task.state().partition(": ")[2])
        elif not self.quiet and time.monotonic() - task.last_line > self._interval:
            task.last_line = time.monotonic()
            self.line(task.state())
