"""Runs parsers in processes of their own, so that one that hangs or crashes costs its file and nothing else.

Each process reads one job a line from its standard input and answers with one line. Plain subprocesses rather than
`multiprocessing`: they need no guarded main module, share no locks with threads here, and can be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.components import Resources

__all__ = ["Job", "run_jobs"]


@dataclass(frozen=True, slots=True)
class Job:
    """A file to parse with a parser's settings.

    Attributes:
        path: The file.
        doc_id: Its id in the corpus.
        settings: The parser's settings.
        out: Where the documents of a file of many are saved; empty for a file of one document.
    """

    path: str
    doc_id: str
    settings: Any
    out: str = ""


def run_jobs(jobs: Sequence[Job], timeout: float, resources: Resources) -> Iterator[tuple[Job, dict[str, Any] | str]]:
    """Parses files.

    Args:
        jobs: What to parse.
        timeout: Seconds a file.
        resources: `workers` is the number of processes.

    Yields:
        Each job as it ends, with `{"document": its JSON}` or `{"saved": its folder}`, or the reason why there is none.
    """
    if not jobs:
        return
    waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Job, dict[str, Any] | str] | BaseException] = queue.SimpleQueue()
    count = max(1, min(resources.workers, len(jobs)))
    for job in [*jobs, *[None] * count]:
        waiting.put(job)
    workers = [_Worker(waiting, done, timeout, resources) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        for _ in jobs:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        for worker in workers:
            worker.stop()


class _Worker(threading.Thread):
    """Feeds one process, and starts another where it died."""

    def __init__(self, waiting: Any, done: Any, timeout: float, resources: Resources) -> None:
        super().__init__(daemon=True)
        self._waiting = waiting
        self._done = done
        self._timeout = timeout
        self._resources = resources
        self._process: _Process | None = None
        self._stopped = False

    def run(self) -> None:
        try:
            while not self._stopped and (job := self._waiting.get()) is not None:
                self._done.put((job, self._parse(job)))
        except BaseException as error:  # handed to the caller's thread
            self._done.put(error)
        finally:
            if self._process is not None:
                self._process.close()

    def stop(self) -> None:
        """Ends the process; what it was doing is lost."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
        self.join()

    def _parse(self, job: Job) -> dict[str, Any] | str:
        if self._process is None:
            self._process = _Process(self._resources)
        request = {"path": job.path, "doc_id": job.doc_id, "out": job.out, "module": type(job.settings).__module__}
        request |= {"settings": type(job.settings).__qualname__, "values": job.settings.model_dump(mode="json")}
        answer = self._process.ask(json.dumps(request), self._timeout)
        if isinstance(answer, str):
            self._process = None
            return answer
        return str(answer["failure"]) if "failure" in answer else answer


class _Process:
    """A process that parses."""

    def __init__(self, resources: Resources) -> None:
        # It finds this package and the user's own modules where this process found them.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        arguments = [resources.device, str(resources.base_dir), str(resources.cache_dir)]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}._worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
        )
        self._pipes = (self._process.stdin, self._process.stdout)
        self._read()  # that it is ready, so that starting it is no part of a file's time

    def ask(self, request: str, timeout: float) -> dict[str, Any] | str:
        """Its answer, or in words why there is none; then the process has ended."""
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            self.kill()

        timer = threading.Timer(timeout, give_up)
        timer.start()
        try:
            if self._write(request) and (answer := self._read()):
                return json.loads(answer)
        finally:
            timer.cancel()
        status, complaint = self.close()
        if timed_out.is_set():
            return f"it took longer than {timeout:g} seconds; raise parse.timeout, or use a faster parser"
        return f"the parser's process ended with status {status} ({complaint}); use another parser for it"

    def _write(self, line: str) -> bool:
        pipe = self._pipes[0]
        try:
            if pipe is not None:
                pipe.write(line.encode() + b"\n")
                pipe.flush()
            return pipe is not None
        except OSError:  # it has died
            return False

    def _read(self) -> bytes:
        """A whole line; empty where the process has died."""
        pipe = self._pipes[1]
        line = pipe.readline() if pipe is not None else b""
        return line if line.endswith(b"\n") else b""

    def kill(self) -> None:
        """Ends the process at once; may be called from any thread."""
        self._process.kill()

    def close(self) -> tuple[int, str]:
        """Ends the process and gives its files back; returns its status and the last line that it complained."""
        self.kill()
        status = self._process.wait()
        for pipe in self._pipes:
            if pipe is not None:
                with contextlib.suppress(OSError):  # the unsent rest of a request
                    pipe.close()
        with self._complaints as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").strip().splitlines()
        return status, lines[-1] if lines else "a crash, or no memory left"
