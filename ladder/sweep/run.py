"""`ragladder sweep`: load, plan, try, rank. The same command resumes a sweep that was stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ...core.files import write_atomic
from ...core.progress import Reporter
from ...eval.questions import load_questions
from ..config import ExperimentConfig, PipelineConfig
from ..measures import MEASURES
from ..scoring import clusters
from ..workbench import Workbench
from .baseline import BaselineRecord, GainRecord, gains
from .budget import Account, OverBudget
from .evaluate import Evaluator, Outcome, Task, asked_of, needs_of
from .executors import Executor, LocalProcesses, Ray, Setup, ThisProcess
from .folder import SweepFolder
from .load import load_sweep
from .plan import SweepPlan, by_prefix, plan_sweep
from .racing import combined, halve, race
from .record import baseline_record, summary, trial_record
from .results import Result, SweepRecord, axes_of, front, ranked, tied
from .search import Ask, Judge, Strategy, chosen_before, configurations, drawn, once, strategy_for
from .settings import CORRECTED, SweepSettings
from .space import Configuration, Space
from .trials import TrialLog, locked
from .words import number, point_text

__all__ = ["Sweep", "prepare_sweep", "sweep"]

_PLANNED = 5000
"""Configurations up to which a guided search's whole space is counted for the plan."""
_Name = tuple[str, tuple[int, ...] | None]
"""Of a task: key of its configuration, places of its questions."""


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


class Sweep:
    """One sweep over one workbench."""

    def __init__(self, bench: Workbench, settings: SweepSettings) -> None:
        """Checks that there are questions and valid points.

        Raises:
            DataError: A split that is asked has no questions.
            ConfigError: No valid point.
        """
        self.bench = bench
        self.config: ExperimentConfig = bench.config
        self.settings = settings
        self.seed = settings.seed if settings.seed is not None else bench.config.seed
        self.questions = asked_of(bench, settings.questions)
        self.space = Space(bench.config.pipeline, settings)
        self.space.check()
        self.judge = Judge(settings, self.space, self.config.gate)
        named = [name for constraint in self.space.after for name in constraint.names]
        sections = PipelineConfig.model_fields
        self.needs = needs_of([*settings.objectives, *(n for n in named if n.split(".")[0] not in sections)])
        tested = settings.search.kind in CORRECTED and settings.objectives[0] not in MEASURES
        self.baseline = self.space.start if tested else None
        self._files = SweepFolder(bench, settings)
        self.folder = self._files.path
        self.log = TrialLog(self.folder, settings.questions)
        self.account = Account(settings.budget, self._files.seconds)
        of = clusters(self.questions)
        self._groups = [of[question.id] for question in self.questions]
        self._results: dict[str, Result] = {}
        self._parts: dict[str, list[Outcome]] = {}
        self._dropped: dict[str, str] = {}
        self._order: dict[str, int] = {}

    # --- the plan --------------------------------------------------------------------------------------------------

    def plan(self) -> SweepPlan:
        """What is about to be computed. Parses, chunks and encodes a sample: all of it is needed anyway, and kept."""
        chosen = self._chosen()
        if chosen is None:
            small = self.space.size <= _PLANNED
            chosen = configurations(self.space) if small else drawn(self.space, _PLANNED // 10, self.seed)
        recorded = {row["key"] for row in self.log.rows}
        baseline = self.baseline if self._alone(chosen) else None
        plan = plan_sweep(self.bench, chosen, self.needs, recorded, len(self.questions), self._at_most, baseline)
        plan.left_out = self.space.left_out
        return plan

    @property
    def guided(self) -> bool:
        """Whether the plan is an upper limit."""
        return self._at_most is not None

    @property
    def planned_end(self) -> bool:
        """Whether no limit but that of trials ended the sweep: an end that was asked for."""
        return self.account.ended in ("", "trials")

    @property
    def _at_most(self) -> int | None:
        """Trials of a search that is guided, None for one that is known before."""
        search, budget = self.settings.search, self.settings.budget.trials
        most = getattr(search, "trials", None) if search.kind in ("tpe", "nsga2") else None
        if search.kind == "coordinate":
            most = 1 + search.passes * sum(len(values) for values in self.space.axes.values())
        given = [number for number in (most, budget) if number is not None]
        return min(given) if given else None

    def _chosen(self) -> list[Configuration] | None:
        return chosen_before(self.settings, self.space, self.seed)

    def _alone(self, chosen: Sequence[Configuration]) -> bool:
        """Whether the pipeline as configured is scored beside the configurations, being none of them."""
        return self.baseline is not None and all(c.key != self.baseline.key for c in chosen)

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
            self._files.begin()
            plan = plan or self.plan()
            executor = self._executor()
            over = ""
            try:
                self._drive(self._strategy(), executor)
            except OverBudget as limit:
                over = str(limit)
            finally:
                executor.close()
                self._files.save("running", self.account.seconds)
            record = self._record(plan, over)
            write_atomic(self.folder / "sweep.json", (record.model_dump_json(indent=1) + "\n").encode())
            self._files.save(record.status, self.account.seconds)
            return record

    def _strategy(self) -> Strategy:
        search, chosen = self.settings.search, self._chosen()
        if chosen is None:
            return strategy_for(self.settings, self.space, self.judge, self.seed)
        if search.kind == "racing":
            return race(chosen, search, self.judge, self._groups, self._dropped, self.seed)
        if search.kind == "halving":
            return halve(chosen, search, self.judge, len(self._groups), self._dropped, self.seed)
        first = [self.baseline] if self.baseline is not None and self._alone(chosen) else []
        return once([*first, *chosen])

    def _executor(self) -> Executor:
        runtime = self.config.runtime
        setup = Setup.of(self.bench, self.needs, self.settings)
        if runtime.executor == "serial" or (runtime.executor == "processes" and runtime.workers == 1):
            return ThisProcess(Evaluator(self.bench, *setup.how))
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
        wanted: dict[_Name, Configuration] = {}
        for ask in asks:
            wanted.setdefault((ask.configuration.key, ask.part), ask.configuration)
        for key, _ in wanted:
            self._order.setdefault(key, len(self._order))
        found: dict[_Name, Outcome] = {}
        for name, configuration in wanted.items():
            known = self.log.find(*name)
            if known is not None:
                found[name] = known
                self._take(configuration, known)
        tasks = [Task(c.key, c.pipeline, part) for (key, part), c in wanted.items() if (key, part) not in found]
        for name, outcome in self._scored(by_prefix(tasks), executor):
            self.log.add(wanted[name], outcome)
            found[name] = outcome
            self._say(self._take(wanted[name], outcome), outcome)
        return [found[(ask.configuration.key, ask.part)] for ask in asks]

    def _scored(self, tasks: Sequence[Task], executor: Executor) -> Iterator[tuple[_Name, Outcome]]:
        """Runs tasks within the budget, a few at a time where one is set."""
        left = list(tasks)
        while left:
            room = self.account.room(len(left))
            # executors cannot be called back: hand out what may run, and look at the limits after each outcome
            batch, left = left[:room], left[room:]
            for done, outcome in enumerate(executor.run(batch), 1):
                yield (outcome.key, tuple(outcome.part) if outcome.part is not None else None), outcome
                if done < len(batch):
                    self.account.check()

    def _take(self, configuration: Configuration, outcome: Outcome) -> Result:
        """Adds an outcome to the results and to what was spent."""
        key = configuration.key
        parts = self._parts.setdefault(key, [])
        if not any(kept.part == outcome.part for kept in parts):
            # the pipeline as configured is no choice of the search, so no limit of trials is for it
            self.account.trials += not parts and configuration is not self.baseline
            parts.append(outcome)
            self.account.take(outcome)
        whole = outcome if outcome.part is None else combined(parts)
        result = self._results.setdefault(key, Result(configuration, whole, trial=self.log.number(key)))
        result.outcome = whole
        result.broken = self.judge.broken(whole, configuration) if whole.status == "ok" else ""
        return result

    def _say(self, result: Result, outcome: Outcome) -> None:
        names = [*self.judge.objectives, *self.needs.measures]
        shown = ", ".join(f"{n} {number(outcome.value(n))}" for n in dict.fromkeys(names))
        said = shown if outcome.status == "ok" else f"{outcome.status}: {outcome.error}"
        self.bench.reporter.line(f"  trial {len(self.log.rows)}: {point_text(result.configuration.point)}: {said}")

    # --- the result ------------------------------------------------------------------------------------------------

    def _candidates(self) -> list[Result]:
        """All results but that of a baseline that is no point of the space, in the order of asking: so ties fall the
        same way after a kill."""
        for key, why in self._dropped.items():
            self._results[key].dropped = why
        everything = sorted(self._results.values(), key=lambda result: self._order[result.configuration.key])
        for result in everything:
            part = result.outcome.part
            if result.status == "ok" and part is not None and len(part) < len(self.questions):
                result.dropped = f"{len(part)} of {len(self.questions)} questions when the sweep ended"
            result.dropped = result.dropped or self.judge.lacks(result.outcome)
        return [result for result in everything if result.configuration is not self.baseline]

    def _compared(self, tried: Sequence[Result]) -> tuple[dict[str, GainRecord], BaselineRecord | None]:
        """Every configuration against the pipeline as configured, where that can be tested."""
        if self.baseline is None or self.baseline.key not in self._results:
            return {}, None
        start, outcomes = self._results[self.baseline.key], [result.outcome for result in tried]
        seed, missing = self.config.seed, self.config.gate.max_missing
        gained, basis = gains(start.outcome, outcomes, self.settings.objectives[0], self._groups, seed, missing)
        inside = any(result is start for result in tried)
        told = (self.judge.objectives, self._shown, self._groups, seed)
        return gained, baseline_record(start, inside, basis, *told)

    @property
    def _shown(self) -> tuple[str, ...]:
        return (*self.judge.objectives, *self.needs.measures)

    def _record(self, plan: SweepPlan, over: str) -> SweepRecord:
        from ... import __version__

        tried = self._candidates()
        order = ranked(tried, self.judge)
        same = tied(order, self.judge, self._groups, self.seed)
        gained, baseline = self._compared(tried)
        pareto = front(order, self.judge) if len(self.judge.objectives) > 1 else set()
        placed = {result.configuration.key for result in order}
        rest = [result for result in tried if result.configuration.key not in placed]
        told = (same, gained, pareto, self.judge.objectives, self._shown, self._groups, self.config.seed)
        ranks = [*enumerate(order, 1), *((None, result) for result in rest)]
        best = self._files.write_best(order[0].configuration) if order else None
        return SweepRecord(
            status="budget" if over else "finished",
            run_id=self.folder.name,
            name=self.config.name,
            created=self._files.created,
            ragladder=__version__,
            config_sha256=self._files.sha,
            seed=self.seed,
            search=self.settings.search.kind,
            objectives=self.settings.objectives,
            constraints=self.settings.constraints,
            questions=len(self.questions),
            split=self.settings.questions,
            counts=dict(Counter(result.status for result in tried)),
            plan=tuple(plan.lines(self.guided)),
            summary=summary(self.settings, order, tried, same, gained, baseline, over),
            winner=order[0].configuration.point if order else None,
            best_yaml=str(best) if best else None,
            trials=tuple(trial_record(result, rank, *told) for rank, result in ranks),
            baseline=baseline,
            axes=tuple(axes_of(tried, self.judge, self.space.axes, self.seed)),
            pareto=tuple(result.trial for result in order if result.configuration.key in pareto),
            tokens=self.account.tokens,
            money=round(self.account.money, 6),
            seconds=round(self.account.seconds, 1),
        )
