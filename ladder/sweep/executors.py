"""Where trials run: in this process, in local processes, or on a Ray cluster.

Tasks are handed out in units that share an encoding, so that what they share is computed once and not waited for.
Every outcome is handed back as soon as it is there, in any order.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from ...core.errors import BudgetError, RagladderError, StageError, require
from ...core.progress import Reporter
from ..config import ExperimentConfig, PipelineConfig
from ..workbench import Workbench
from .evaluate import Evaluator, Needs, Outcome, Task
from .ranking import search_key
from .settings import SweepSettings

__all__ = ["Executor", "LocalProcesses", "Ray", "Setup", "ThisProcess", "units_of"]

_GRACE = 20.0
"""Seconds after `trial_timeout_s` at which a process that does not react is killed."""
_ATTEMPTS = 2
"""Times a task is given to a process before it is recorded as what kills them."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to make its own evaluator.

    Attributes:
        config: The experiment as JSON, with the absolute path of its cache.
        base_dir: Folder that its relative paths start from.
        cwd: Working directory, where components from outside are looked for.
        needs: `Needs` as JSON.
        timeout_s: Most seconds of a trial.
        latency_questions: Single queries timed.
        questions: Which ones are asked.
        threads: Of one worker.
    """

    config: str
    base_dir: str
    cwd: str
    needs: str
    timeout_s: float | None
    latency_questions: int
    questions: str
    threads: int = 1

    @classmethod
    def of(cls, bench: Workbench, needs: Needs, settings: SweepSettings) -> Setup:
        """The setup of a sweep over a workbench."""
        runtime = bench.config.runtime.model_copy(
            update={"cache_dir": str(bench.resources.cache_dir), "device": bench.resources.device}
        )
        config = bench.config.model_copy(update={"runtime": runtime}).model_dump_json()
        base_dir = str(bench.resources.base_dir.absolute())
        threads = max(1, (os.cpu_count() or 1) // max(1, runtime.workers))
        how = (settings.trial_timeout_s, settings.latency_questions, settings.questions)
        return cls(config, base_dir, os.getcwd(), json.dumps(asdict(needs)), *how, threads)

    @property
    def how(self) -> tuple[Needs, float | None, int, str]:
        """What an evaluator takes beside its workbench."""
        needs = json.loads(self.needs)
        given = Needs(tuple(needs["metrics"]), tuple(needs["measures"]), needs["answers"], needs["judged"])
        return given, self.timeout_s, self.latency_questions, self.questions

    def evaluator(self) -> Evaluator:
        """Makes the evaluator, with a workbench of its own on the shared store."""
        from ...eval.questions import load_questions

        config = ExperimentConfig.model_validate_json(self.config)
        base_dir = Path(self.base_dir)
        questions = load_questions(config.resources(base_dir).path(config.data.questions))
        bench = Workbench(config, base_dir, questions, Reporter(quiet=True))
        return Evaluator(bench, *self.how)


class Executor(Protocol):
    """Scores tasks somewhere."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come."""
        ...

    def close(self) -> None:
        """Ends what was started."""
        ...


class ThisProcess:
    """One task after the other, here."""

    def __init__(self, evaluator: Evaluator) -> None:
        """Takes the evaluator."""
        self._evaluator = evaluator

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes in the order of the tasks."""
        return self._evaluator.run(tasks)

    def close(self) -> None:
        """Nothing was started."""


def units_of(tasks: Sequence[Task], least: int) -> list[list[Task]]:
    """Tasks in units that share an encoding; where these are fewer than `least`, that share a search."""
    units: dict[str, list[Task]] = {}
    for key in (_encoding_key, lambda task: search_key(task.pipeline)):
        units = {}
        for task in tasks:
            units.setdefault(key(task), []).append(task)
        if len(units) >= least:
            break
    return list(units.values())


def _encoding_key(task: Task) -> str:
    return task.pipeline.model_dump_json(include={"parse", "chunk", "context", "embed"})


def _dumped(tasks: Sequence[Task]) -> str:
    rows = [{"key": t.key, "pipeline": t.pipeline.model_dump(mode="json"), "part": t.part} for t in tasks]
    return json.dumps(rows)


def _loaded(text: str) -> list[Task]:
    return [
        Task(row["key"], PipelineConfig.model_validate(row["pipeline"]), row["part"] and tuple(row["part"]))
        for row in json.loads(text)
    ]


# --- local processes ---


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    unit: deque[Task] = field(default_factory=deque)
    since: float = 0.0


class LocalProcesses:
    """A few processes of this machine; one that dies or hangs is replaced, its other tasks go on."""

    def __init__(self, setup: Setup, workers: int) -> None:
        """Starts no process yet.

        Args:
            setup: Of the evaluators.
            workers: Processes.
        """
        self._setup = setup
        self._count = workers
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._deaths: Counter[str] = Counter()

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come.

        Raises:
            RagladderError: A worker met what would stop every task: an LLM's budget, a full disk.
        """
        waiting = deque(units_of(tasks, self._count))
        while waiting or any(worker.unit for worker in self._workers):
            self._hand_out(waiting)
            busy = {worker.pipe: worker for worker in self._workers if worker.unit}
            for pipe in wait(list(busy), timeout=self._patience(busy.values())):
                yield from self._receive(busy[pipe], waiting)  # type: ignore[index]
            yield from self._end_hung(waiting)

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            _end(worker)
        self._workers = []

    def _hand_out(self, waiting: deque[list[Task]]) -> None:
        idle = [worker for worker in self._workers if not worker.unit]
        while waiting:
            if idle:
                worker = idle.pop()
            elif len(self._workers) < self._count:
                worker = self._start()
            else:
                return
            unit = waiting.popleft()
            worker.unit, worker.since = deque(unit), time.monotonic()
            worker.pipe.send(_dumped(unit))

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there, self._setup), daemon=True)
        process.start()
        there.close()
        worker = _Worker(process, here)
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker, waiting: deque[list[Task]]) -> Iterator[Outcome]:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker, waiting)
            return
        if kind != "done":
            raise BudgetError(content) if kind == "budget" else StageError(content)
        worker.unit.popleft()
        worker.since = time.monotonic()
        yield Outcome(**content)

    def _bury(self, worker: _Worker, waiting: deque[list[Task]]) -> Iterator[Outcome]:
        worker.process.join(timeout=5)
        code = worker.process.exitcode
        self._workers.remove(worker)
        _end(worker)
        task = worker.unit[0]
        self._deaths[task.key] += 1
        if self._deaths[task.key] < _ATTEMPTS:
            waiting.appendleft(list(worker.unit))
            return
        why = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        yield _lost(task, "failed", f"its process died {_ATTEMPTS} times ({why}): out of memory, or a library crashed")
        worker.unit.popleft()
        if worker.unit:
            waiting.appendleft(list(worker.unit))

    def _end_hung(self, waiting: deque[list[Task]]) -> Iterator[Outcome]:
        limit = self._setup.timeout_s
        if limit is None:
            return
        for worker in [w for w in self._workers if w.unit and time.monotonic() - w.since > limit + _GRACE]:
            self._workers.remove(worker)
            _end(worker)
            why = f"took longer than trial_timeout_s ({limit:g} s); its process was ended"
            yield _lost(worker.unit.popleft(), "timeout", why)
            if worker.unit:
                waiting.appendleft(list(worker.unit))

    def _patience(self, busy: Any) -> float | None:
        if self._setup.timeout_s is None:
            return None
        return max(0.1, min(w.since for w in busy) + self._setup.timeout_s + _GRACE - time.monotonic())


def _lost(task: Task, status: str, error: str) -> Outcome:
    return Outcome(task.key, status, error, part=list(task.part) if task.part is not None else None)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.process.is_alive():
        worker.process.terminate()
        worker.process.join(timeout=5)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join(timeout=5)


def _serve(pipe: Connection, setup: Setup) -> None:
    """A worker's life: units come, outcomes go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(setup.threads))
    evaluator: Evaluator | None = None
    while True:
        try:
            unit = _loaded(pipe.recv())
        except (EOFError, OSError):
            return
        try:
            evaluator = evaluator or setup.evaluator()
            for outcome in evaluator.run(unit):
                pipe.send(("done", outcome.as_row()))
        except BudgetError as error:
            pipe.send(("budget", str(error)))
        except (RagladderError, OSError) as error:
            pipe.send(("stop", str(error)))


# --- Ray ---


@lru_cache(maxsize=2)
def _evaluator_of(setup: Setup) -> Evaluator:
    return setup.evaluator()


def _score_unit(setup: Setup, unit: str) -> list[dict[str, Any]]:
    """Runs on a node; one evaluator serves all units of a worker."""
    if os.path.isdir(setup.cwd):
        os.chdir(setup.cwd)
    return [outcome.as_row() for outcome in _evaluator_of(setup).run(_loaded(unit))]


class Ray:
    """A Ray cluster. Nodes must see the data and `runtime.cache_dir` at the same paths; a unit of a node that dies goes
    to another."""

    def __init__(self, setup: Setup, address: str | None = None, units: int = 4, retries: int = 10) -> None:
        """Connects.

        Args:
            setup: Of the evaluators.
            address: Of the cluster; None starts or finds one on this machine.
            units: Least number of units that tasks are cut into, where they can be.
            retries: Times a unit is given out again after its node or worker died.

        Raises:
            MissingExtra: Ray is not installed.
            StageError: There is no cluster at the address.
        """
        require("ray", "ray", "runtime.executor 'ray'")
        import ray

        self._setup = setup
        self._units = units
        self._ours = not ray.is_initialized()
        if self._ours:
            _reach(address)
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise StageError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
        self._score = ray.remote(max_retries=retries, num_cpus=setup.threads)(_score_unit)

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come.

        Raises:
            RagladderError: A node met what would stop every task.
        """
        import ray

        waiting = {self._score.remote(self._setup, _dumped(unit)): unit for unit in units_of(tasks, self._units)}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in done:
                unit = waiting.pop(reference)
                try:
                    rows = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause if isinstance(error.cause, RagladderError) else None
                    raise cause or StageError(f"a Ray task failed: {error}") from error
                except ray.exceptions.RayError as error:
                    why = f"its node or worker died too often: {type(error).__name__}"
                    yield from (_lost(task, "failed", why) for task in unit)
                    continue
                yield from (Outcome(**row) for row in rows)

    def close(self) -> None:
        """Disconnects, if this made the connection."""
        import ray

        if self._ours:
            ray.shutdown()


def _reach(address: str | None) -> None:
    """Looks whether somebody listens at an address: Ray itself would try for minutes.

    Raises:
        StageError: Nobody does.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, `local`, or none: Ray finds or starts the cluster
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise StageError(f"no Ray cluster at {address}: {why}; start it, or correct runtime.ray_address") from None
