"""`ragladder sweep`: load, plan, try, rank. The same command resumes a sweep that was stopped."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...core.cache import digest, write_atomic
from ...core.config import to_yaml
from ...core.progress import Reporter
from ...eval.questions import by_split, load_questions
from ..config import ExperimentConfig, PipelineConfig
from ..environment import environment
from ..run_files import best_yaml
from ..runs import read_state
from ..scoring import clusters
from ..workbench import Workbench
from .evaluate import Evaluator, Outcome, Task, needs_of, prices
from .executors import Executor, LocalProcesses, Ray, Setup, ThisProcess
from .load import load_sweep
from .plan import SweepPlan, by_prefix, plan_sweep
from .racing import combined, halve, race
from .record import summary, trial_record
from .results import Result, SweepRecord, axes_of, front, ranked, tied
from .search import Ask, Judge, Strategy, configurations, drawn, strategy_for
from .settings import SweepSettings
from .space import Configuration, Space
from .trials import TrialLog, locked
from .words import number, point_text

__all__ = ["Sweep", "prepare_sweep", "sweep"]

_PLANNED = 5000
"""Configurations up to which a guided search's whole space is counted for the plan."""


def sweep(path: str | Path, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> SweepRecord:
    """Sweeps the space of an experiment; the same call resumes a sweep that was stopped.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`, or `key.path=a,b,c` for an axis.
        reporter: Where progress goes; quiet by default.

    Returns:
        What `sweep.json` holds.

    Raises:
        RagladderError: Whatever stopped it; what is finished is kept.
    """
    return prepare_sweep(path, overrides, reporter or Reporter(quiet=True)).run()


def prepare_sweep(path: str | Path, overrides: Sequence[str], reporter: Reporter) -> Sweep:
    """Loads and checks config, space and questions; nothing is computed yet.

    Raises:
        RagladderError: Something cannot be used.
    """
    config, settings = load_sweep(Path(path), overrides)
    base_dir = Path(path).absolute().parent
    questions = load_questions(config.resources(base_dir).path(config.data.questions))
    return Sweep(Workbench(config, base_dir, questions, reporter), settings)


@dataclass
class _Spent:
    """What a sweep used, over all its commands."""

    trials: int = 0
    seconds: float = 0.0
    tokens: int = 0
    money: float = 0.0


class _OverBudget(Exception):
    """Ends a search; never leaves this module."""


class Sweep:
    """One sweep over one workbench."""

    def __init__(self, bench: Workbench, settings: SweepSettings) -> None:
        """Checks that there are dev questions and valid points.

        Raises:
            DataError: No dev questions.
            ConfigError: No valid point.
        """
        by_split(bench.questions, "dev")
        self.bench = bench
        self.config: ExperimentConfig = bench.config
        self.settings = settings
        self.seed = settings.seed if settings.seed is not None else bench.config.seed
        self.space = Space(bench.config.pipeline, settings)
        self.space.check()
        self.judge = Judge(settings, self.space)
        self.questions = bench.split("dev")
        named = [name for constraint in self.space.after for name in constraint.names]
        sections = PipelineConfig.model_fields
        self.needs = needs_of([*settings.objectives, *(n for n in named if n.split(".")[0] not in sections)])
        self.folder = self._open()
        self.log = TrialLog(self.folder)
        self.results: dict[str, Result] = {}
        self._parts: dict[str, list[Outcome]] = {}
        self._dropped: dict[str, str] = {}
        self._spent = _Spent()
        self._ended = ""
        self._order: dict[str, int] = {}
        self._stages: dict[str, int] = {}
        self._started = time.monotonic()
        self._before = float(self._state().get("seconds", 0.0))

    # --- the folder ------------------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """Over the settings that change results: limits and where it runs are left out."""
        left_out = {"runtime": True, "name": True, "rungs": True, "gate": True, "published": True, "sweep": True}
        content = self.config.model_dump(mode="json", exclude=left_out)  # type: ignore[arg-type]
        ours = self.settings.model_dump(mode="json", exclude={"budget", "trial_timeout_s"})
        files = self.bench.corpus_identity(self.config.pipeline)["files"]
        asked = [
            [q.id, q.text, q.answer, [[e.doc_id, e.text] for e in q.evidence], q.split] for q in self.bench.questions
        ]
        return digest([content, ours, digest(files), digest(asked)])

    def _open(self) -> Path:
        """The folder of this sweep: that of an earlier command on the same settings and data, else a new one."""
        self._sha = self.digest
        root = self.bench.resources.cache_dir / "sweeps"
        for folder in sorted(root.glob("*"), reverse=True) if root.is_dir() else []:
            if read_state(folder).get("config_sha256") == self._sha:
                return folder
        now = datetime.now(UTC)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.config.name).strip("-") or "sweep"
        return root / f"{now:%Y%m%d-%H%M%S}-{name}-{self._sha[:6]}"

    def _state(self) -> dict[str, Any]:
        return read_state(self.folder)

    def _begin(self) -> None:
        new = not (self.folder / "run.json").is_file()
        self.folder.mkdir(parents=True, exist_ok=True)
        if new:
            self._save_state("running")
            write_atomic(self.folder / "config.yaml", to_yaml(self.config).encode())
            write_atomic(self.folder / "env.json", json.dumps(environment(self.bench), indent=1).encode())
        self.bench.reporter.log = self.folder / "run.log"
        verb = "resuming" if self.log.rows else "sweep folder:"
        self.bench.reporter.line(f"{verb} {self.folder}")

    def _save_state(self, status: str) -> None:
        created = self._state().get("created") or datetime.now(UTC).isoformat(timespec="seconds")
        state = {
            "status": status,
            "name": self.config.name,
            "created": created,
            "config_sha256": self._sha,
            "seconds": round(self._before + time.monotonic() - self._started, 1),
        }
        write_atomic(self.folder / "run.json", json.dumps(state, indent=1).encode())

    # --- the plan --------------------------------------------------------------------------------------------------

    def plan(self) -> SweepPlan:
        """What is about to be computed. Parses, chunks and encodes a sample: all of it is needed anyway, and kept."""
        search = self.settings.search
        if search.kind == "random":
            chosen = drawn(self.space, search.trials, self.seed)
        elif search.kind in ("racing", "halving"):
            chosen = self._starters()
        else:
            chosen = self._some()
        recorded = {row["key"] for row in self.log.rows}
        plan = plan_sweep(self.bench, chosen, self.needs, recorded, len(self.questions))
        plan.left_out = self.space.left_out
        if self._at_most:
            plan.trials = min(plan.trials, self._at_most)
            plan.llm_calls = min(plan.llm_calls, self._at_most * len(self.questions))
        return plan

    @property
    def guided(self) -> bool:
        """Whether the plan is an upper limit."""
        return self._at_most is not None

    @property
    def planned_end(self) -> bool:
        """Whether no limit but that of trials ended the sweep: an end that was asked for."""
        return self._ended in ("", "trials")

    @property
    def _at_most(self) -> int | None:
        """Trials of a search that is guided, None for one that is known before."""
        search, budget = self.settings.search, self.settings.budget.trials
        most = getattr(search, "trials", None) if search.kind in ("tpe", "nsga2") else None
        if search.kind == "coordinate":
            most = 1 + search.passes * sum(len(values) for values in self.space.axes.values())
        given = [number for number in (most, budget) if number is not None]
        return min(given) if given else None

    def _some(self) -> list[Configuration]:
        if self.settings.search.kind == "grid" or self.space.size <= _PLANNED:
            return configurations(self.space)
        return drawn(self.space, _PLANNED // 10, self.seed)

    def _starters(self) -> list[Configuration]:
        trials = getattr(self.settings.search, "trials", None)
        return configurations(self.space) if trials is None else drawn(self.space, trials, self.seed)

    # --- the search ------------------------------------------------------------------------------------------------

    def run(self, plan: SweepPlan | None = None) -> SweepRecord:
        """Tries, ranks, and leaves the folder.

        Args:
            plan: Made before, so that it is not made again.

        Raises:
            RagladderError: What stops every trial: an LLM's own budget, a full disk, another process at work.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            self._begin()
            plan = plan or self.plan()
            executor = self._executor()
            over = ""
            try:
                self._drive(self._strategy(), executor)
            except _OverBudget as limit:
                over = str(limit)
            finally:
                executor.close()
                self._save_state("running")
            record = self._record(plan, over)
            write_atomic(self.folder / "sweep.json", (record.model_dump_json(indent=1) + "\n").encode())
            self._save_state(record.status)
            return record

    def _strategy(self) -> Strategy:
        search, groups = self.settings.search, self._groups()
        if search.kind == "racing":
            return race(self._starters(), search, self.judge, groups, self._dropped, self.seed)
        if search.kind == "halving":
            return halve(self._starters(), search, self.judge, len(groups), self._dropped, self.seed)
        return strategy_for(self.settings, self.space, self.judge, self.seed)

    def _executor(self) -> Executor:
        runtime, settings = self.config.runtime, self.settings
        if runtime.executor == "serial" or (runtime.executor == "processes" and runtime.workers == 1):
            return ThisProcess(Evaluator(self.bench, self.needs, settings.trial_timeout_s, settings.latency_questions))
        setup = Setup.of(self.bench, self.needs, settings.trial_timeout_s, settings.latency_questions)
        if runtime.executor == "processes":
            return LocalProcesses(setup, runtime.workers)
        return Ray(setup, runtime.ray_address, units=2 * runtime.workers)

    def _drive(self, strategy: Strategy, executor: Executor) -> None:
        """Sends a strategy its outcomes until it has no more to ask."""
        with closing(strategy):
            try:
                asks = next(strategy)
                while True:
                    asks = strategy.send(self._answer(asks, executor))
            except StopIteration:
                return

    def _answer(self, asks: Sequence[Ask], executor: Executor) -> list[Outcome]:
        """Outcomes of a batch: recorded ones first, the rest in the order of what they share."""
        wanted: dict[tuple[str, tuple[int, ...] | None], Configuration] = {}
        for ask in asks:
            wanted.setdefault((ask.configuration.key, ask.part), ask.configuration)
        for key, _ in wanted:
            self._order.setdefault(key, len(self._order))
        found: dict[tuple[str, tuple[int, ...] | None], Outcome] = {}
        for name, configuration in wanted.items():
            known = self.log.find(*name)
            if known is not None:
                found[name] = known
                self._take(configuration, known, new=False)
        tasks = [Task(c.key, c.pipeline, part) for (key, part), c in wanted.items() if (key, part) not in found]
        for task, outcome in self._scored(by_prefix(tasks), executor):
            name = (task.key, task.part)
            self.log.add(wanted[name], outcome)
            found[name] = outcome
            self._take(wanted[name], outcome, new=True)
        return [found[(ask.configuration.key, ask.part)] for ask in asks]

    def _scored(self, tasks: Sequence[Task], executor: Executor) -> Iterator[tuple[Task, Outcome]]:
        """Runs tasks within the budget, a few at a time where one is set."""
        by_name = {(task.key, task.part): task for task in tasks}
        left = list(tasks)
        while left:
            self._check_budget()
            most = self.settings.budget.trials
            room = len(left) if most is None else most - self._spent.trials
            # executors cannot be called back: hand out what may run, and look at the clock after each outcome
            batch, left = left[:room], left[room:]
            outcomes = executor.run(batch)
            for done, outcome in enumerate(outcomes, 1):
                part = tuple(outcome.part) if outcome.part is not None else None
                yield by_name[(outcome.key, part)], outcome
                if done < len(batch):
                    self._check_budget(of_trials=False)

    def _check_budget(self, of_trials: bool = True) -> None:
        budget, spent = self.settings.budget, self._spent
        minutes = (self._before + time.monotonic() - self._started) / 60
        limits = [
            ("minutes", budget.minutes, minutes),
            ("tokens", budget.tokens, spent.tokens),
            ("money", budget.money, spent.money),
        ]
        if of_trials:
            limits.append(("trials", budget.trials, spent.trials))
        for name, most, used in limits:
            if most is not None and used >= most:
                self._ended = name
                raise _OverBudget(f"sweep.budget.{name} ({most:g}) is used up")

    def _take(self, configuration: Configuration, outcome: Outcome, new: bool) -> None:
        """Adds an outcome to the results and to what was spent."""
        key = configuration.key
        parts = self._parts.setdefault(key, [])
        if not any(kept.part == outcome.part for kept in parts):
            self._spent.trials += not parts
            parts.append(outcome)
            read, wrote = prices(configuration.pipeline)
            for stage, (prompt, completion) in outcome.tokens.items():
                if stage not in self._stages:
                    self._stages[stage] = prompt + completion
                    self._spent.tokens += prompt + completion
                    self._spent.money += (prompt * read + completion * wrote) / 1e6
        whole = outcome if outcome.part is None else combined(parts)
        if key not in self.results:
            self.results[key] = Result(configuration, whole, trial=self.log.number(key))
        self.results[key].outcome = whole
        self.results[key].broken = self.judge.broken(whole, configuration) if whole.status == "ok" else ""
        if new:
            self._say(self.results[key], outcome)

    def _say(self, result: Result, outcome: Outcome) -> None:
        names = [*self.judge.objectives, *self.needs.measures]
        shown = ", ".join(f"{n} {number(outcome.value(n))}" for n in dict.fromkeys(names))
        said = shown if outcome.status == "ok" else f"{outcome.status}: {outcome.error}"
        self.bench.reporter.line(f"  trial {len(self.log.rows)}: {point_text(result.configuration.point)}: {said}")

    # --- the result ------------------------------------------------------------------------------------------------

    def _groups(self) -> list[str]:
        of = clusters(self.questions)
        return [of[question.id] for question in self.questions]

    def _record(self, plan: SweepPlan, over: str) -> SweepRecord:
        from ... import __version__

        for key, why in self._dropped.items():
            self.results[key].dropped = why
        # in the order of asking, so that ties fall the same way after a kill
        everything = sorted(self.results.values(), key=lambda result: self._order[result.configuration.key])
        for result in everything:
            part = result.outcome.part
            if result.status == "ok" and part is not None and len(part) < len(self.questions):
                result.dropped = f"{len(part)} of {len(self.questions)} questions when the sweep ended"
        order, groups = ranked(everything, self.judge), self._groups()
        same = tied(order, self.judge, groups, self.seed)
        pareto = front(order, self.judge) if len(self.judge.objectives) > 1 else set()
        rest = [result for result in everything if result not in order]
        names = (*self.judge.objectives, *self.needs.measures)
        trials = [
            trial_record(result, rank, same, pareto, self.judge.objectives, names, groups, self.config.seed)
            for rank, result in [*enumerate(order, 1), *((None, result) for result in rest)]
        ]
        best = self._write_best(order[0].configuration) if order else None
        return SweepRecord(
            status="budget" if over else "finished",
            run_id=self.folder.name,
            name=self.config.name,
            created=self._state()["created"],
            ragladder=__version__,
            config_sha256=self._sha,
            seed=self.seed,
            search=self.settings.search.kind,
            objectives=self.settings.objectives,
            constraints=self.settings.constraints,
            questions=len(self.questions),
            counts=dict(Counter(result.status for result in everything)),
            plan=tuple(plan.lines(self.guided)),
            summary=summary(order, everything, same, self.judge.objectives, over),
            winner=order[0].configuration.point if order else None,
            best_yaml=str(best) if best else None,
            trials=tuple(trials),
            axes=tuple(axes_of(everything, self.judge, self.space.axes, self.seed)),
            pareto=tuple(result.trial for result in order if result.configuration.key in pareto),
            tokens=self._spent.tokens,
            money=round(self._spent.money, 6),
            seconds=round(self._before + time.monotonic() - self._started, 1),
        )

    def _write_best(self, winner: Configuration) -> Path:
        head = (
            f"# The best of a sweep on dev: {point_text(winner.point)}\n"
            "# Score it on dev: ragladder eval best.yaml; climb from it (test untouched): ragladder climb best.yaml\n"
        )
        config = self.config.model_copy(update={"pipeline": winner.pipeline, "sweep": None})
        write_atomic(self.folder / "best.yaml", best_yaml(self.bench, config, head).encode())
        return self.folder / "best.yaml"
