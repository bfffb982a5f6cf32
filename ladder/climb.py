"""The climb: load, plan, baseline and diagnosis, then for each rung: propose, score, decide, record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import DataError, RagladderError
from ..core.progress import Reporter
from ..core.types import Split
from ..eval.diagnosis import count_causes
from ..eval.questions import load_questions, with_evidence
from ..llm_ft.model import check_device
from .config import ExperimentConfig, PipelineConfig, load_experiment
from .diagnose import diagnose, headroom, outcomes
from .forgone import forgone
from .gate import (
    Comparison,
    Decision,
    beats_both,
    compare_metric,
    decide,
    decide_max_t,
    no_candidate,
    skip,
    spend,
    stop,
)
from .max_t import Family, check_gate, compare_trials, metric_of, selection
from .metric_versions import metric_versions
from .records import ArmRecord, CostRecord, DataRecord, Diagnosis, LadderRecord, RungRecord
from .rungs import Proposal, RungContext, propose_embedding, propose_llm, propose_prompt, propose_retrieval
from .runs import Run, config_digest, data_record, open_run
from .scoring import clusters, estimates, evaluate_fully, judges
from .track import check_trackers, track_run
from .words import next_step, summary
from .workbench import Evaluation, Meter, Workbench

__all__ = ["Climb", "climb", "differences", "prepare"]

RUNGS: tuple[tuple[str, Callable[..., Proposal]], ...] = (
    ("retrieval", propose_retrieval),
    ("embedding", propose_embedding),
    ("prompt", propose_prompt),
    ("llm", propose_llm),
)


def climb(path: str | Path, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> LadderRecord:
    """Climbs the ladder of an experiment; the same call resumes a climb that was killed.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`, as the command's `--set`.
        reporter: Where progress goes; quiet by default.

    Returns:
        What `ladder.json` holds; the run folder has the rest, `report.html` too.

    Raises:
        RagladderError: Whatever stopped it; what is finished is kept.
    """
    from .report import build_report

    ready = prepare(path, overrides, reporter or Reporter(quiet=True))
    record = ready.run()
    folder = ready.bench.resources.cache_dir / "runs" / record.run_id
    build_report(folder)
    track_run(ready.config.runtime.track, ready.config.runtime.track_project, folder)
    return record


def prepare(path: str | Path, overrides: Sequence[str], reporter: Reporter) -> Climb:
    """Loads and checks config, questions and components; nothing is computed yet.

    Raises:
        RagladderError: Something cannot be used.
    """
    config = load_experiment(Path(path), overrides)
    check_trackers(config.runtime.track)
    base_dir = Path(path).absolute().parent
    questions = load_questions(config.resources(base_dir).path(config.data.questions))
    return Climb(Workbench(config, base_dir, questions, reporter))


@dataclass(frozen=True)
class _Arm:
    """A pipeline with its scores on dev, and on test where it was looked at."""

    name: str
    pipeline: PipelineConfig
    dev: Evaluation
    test: Evaluation | None


class Climb:
    """One climb over one workbench."""

    def __init__(self, bench: Workbench) -> None:
        """Checks that the data can carry the climb.

        Raises:
            DataError: dev or test has no question with evidence, or train has none although a rung needs them.
            ConfigError: The gate's settings do not fit the metrics or the sweep, or the LLM rung cannot train here.
            MissingExtra: It trains on 4-bit weights without bitsandbytes.
        """
        self.bench = bench
        self.config: ExperimentConfig = bench.config
        check_gate(self.config)
        if self.config.rungs.llm is not None:  # before the hours of the rungs below it
            check_device(self.config.rungs.llm.train, bench.resources.device)
        needs_train = self.config.rungs.embedding or self.config.rungs.llm
        needed: tuple[Split, ...] = ("dev", "test", "train") if needs_train else ("dev", "test")
        for split in needed:
            with_evidence(bench.questions, split)
        self.groups = clusters(bench.questions)
        self.started = time.monotonic()

    def run(self) -> LadderRecord:
        """Climbs, and leaves the run folder.

        Returns:
            The finished record.
        """
        bench, note = self.bench, self.bench.reporter.line
        corpus = bench.get(bench.documents_stage(self.config.pipeline))
        for failure in corpus.failures:
            note(f"warning: {failure.doc_id}: {failure.reason}")
        gold = bench.get(bench.gold_stage(self.config.pipeline))
        data = data_record(bench, corpus, gold)
        self._check_evidence(data)
        run = open_run(bench, config_digest(self.config), data)
        note(f"run folder: {run.folder}")
        arm = self._arm("baseline", self.config.pipeline, test=True)
        diagnosis = diagnose(bench, arm.dev)
        self._say_baseline(arm, diagnosis)
        arms, rungs = [arm], []
        for name, propose in RUNGS:
            if name == "prompt" and self.config.rungs.of(name) is None:
                continue  # a part of the LLM rung, not one that is missed
            prompt = next((one for one in arms if one.name == "prompt" and one is not arm), None)
            record, arm, tried = self._climb_rung(name, propose, arm, prompt, rungs, run)
            rungs.append(record)
            arms += [tried] if tried else []
            note(f"{name}: {record.decision.verdict}: {record.decision.reasons[0]}")
        rungs = [self._weighed(rung, arm) for rung in rungs]
        record = self._record(run, data, arms[0], arm, diagnosis, rungs)
        run.finish(
            self.bench, record, [(a.name, e) for a in arms for e in (a.dev, a.test) if e is not None], arm.pipeline
        )
        return record

    def _check_evidence(self, data: DataRecord) -> None:
        """Stops where no evidence is in any document: then documents and questions do not belong together."""
        lost, asked = sum(data.evidence_lost.values()), len(self.bench.questions)
        answerable = asked - sum(data.unanswerable.values())
        if answerable and lost == answerable:
            example = next(q for q in self.bench.questions if q.answerable)
            raise DataError(
                f"no evidence of any of {answerable} questions was found in the documents, for instance of "
                f"'{example.id}' in '{example.evidence[0].doc_id}'; check data.documents, and doc_id and text of the "
                "evidence"
            )
        if lost:
            self.bench.reporter.line(f"warning: the starting parsers lose evidence of {lost} of {answerable} questions")

    # --- one rung ---

    def _climb_rung(
        self,
        name: str,
        propose: Callable[..., Proposal],
        incumbent: _Arm,
        prompt: _Arm | None,
        before: list[RungRecord],
        run: Run,
    ) -> tuple[RungRecord, _Arm, _Arm | None]:
        """The rung's record, the arm to go on with, and the arm that was tried, if any.

        `prompt` is the best prompt of dev where the gate looked at it and did not adopt it.
        """
        settings = self.config.rungs.of(name)
        reason = self._why_not(name, settings, incumbent, before)
        if reason is not None:
            return _untried(name, reason), incumbent, None
        self.bench.reporter.line(f"{name}: climbing")
        with self.bench.meter() as meter:
            context = RungContext(self.bench, incumbent.pipeline, self._deadline(), self.bench.reporter.line)
            proposal = propose(context, settings)
            run.add_trials(name, proposal.trials)
            alpha = self._alpha(before)
            family = self._family(name, context, proposal, incumbent, alpha)
            if family is not None:
                proposal = family.proposal(proposal)
            if proposal.candidate is None:
                decision = no_candidate(proposal.reason)
                lost = self._arm(name, proposal.tried, test=False) if proposal.tried else None
                shown = self._arm_record(lost) if lost else None
                return _record_of(name, proposal, decision, incumbent, shown, {}, meter), incumbent, lost
            tried = self._arm(name, proposal.candidate, test=True)
        if proposal.after is not None and tried.test is not None and incumbent.test is not None:
            proposal = replace(proposal, details=proposal.details | proposal.after(incumbent.test, tried.test))
        dev, decision = self._judge(proposal.metric, tried, incumbent, family, alpha)
        if prompt is not None:
            rival = self._compare(proposal.metric, tried.test, prompt.test, alpha)
            decision = beats_both(decision, decide(rival, (), self.config.gate))
        record = _record_of(name, proposal, decision, incumbent, self._arm_record(tried), dev, meter)
        return record, tried if decision.verdict == "adopt" else incumbent, tried

    def _weighed(self, rung: RungRecord, final: _Arm) -> RungRecord:
        """A rung that was not tried, with what it would cost and could win from where the climb ended."""
        if rung.decision.verdict not in ("skip", "stop") or rung.name == "prompt":
            return rung
        context = RungContext(self.bench, final.pipeline, self._deadline(), self.bench.reporter.line)
        return rung.model_copy(update={"forgone": forgone(context, rung.name, final.dev)})

    def _alpha(self, before: list[RungRecord]) -> float:
        """What the next look at test may spend."""
        rungs = self.config.rungs
        earlier = [record.decision for record in before if rungs.of(record.name) is not None]
        return spend(self.config.gate.alpha, rungs.looks(), earlier)

    def _family(
        self, name: str, context: RungContext, proposal: Proposal, incumbent: _Arm, alpha: float
    ) -> Family | None:
        """All trials of a sweep on dev and test, where `gate.selection` asks for them."""
        if name != "retrieval" or selection(self.config) != "max-t":
            return None
        arms = (incumbent.dev, incumbent.test)
        return compare_trials(context, metric_of(self.config), proposal.trials, arms, self.groups, alpha)

    def _judge(
        self, metric: str, tried: _Arm, incumbent: _Arm, family: Family | None, alpha: float
    ) -> tuple[dict[str, Any], Decision]:
        """The comparison on dev that chose the candidate, where one did, and the verdict."""
        watched = [name for name in self.config.gate.guardrails if name != metric]
        if family is not None:
            arms = (tried.dev, tried.test), (incumbent.dev, incumbent.test)
            guards = [family.guard(name, *arms, self.groups, self.config.seed) for name in watched]
            return {}, decide_max_t(family.comparisons, guards, self.config.gate)[1]
        dev = self._compare(metric, tried.dev, incumbent.dev, alpha)
        primary = self._compare(metric, tried.test, incumbent.test, alpha)
        guards = [self._compare(name, tried.test, incumbent.test, alpha) for name in watched]
        return dev.model_dump(mode="json"), decide(primary, guards, self.config.gate)

    def _why_not(self, name: str, settings: Any, incumbent: _Arm, before: list[RungRecord]) -> Decision | None:
        """The decision not to try a rung, None where it is to be tried."""
        target, metric = self.config.gate.target, self.config.score.answer_metric
        if before and before[-1].decision.verdict == "stop":
            return stop("the target was met before this rung")
        if target is not None and incumbent.test is not None:
            reached = estimates(incumbent.test.scores, self.groups, self.config.seed)[metric]
            if reached.low is not None and reached.low >= target:
                return stop(
                    f"the target is met: {metric} on test is {reached.mean:.3f}, its lower bound {reached.low:.3f} "
                    f"is not below {target:g}"
                )
        if settings is None:
            return skip(f"rungs.{name} is not in the config")
        return headroom(self.bench, "llm" if name == "prompt" else name, incumbent.dev)

    def _compare(
        self, metric: str, candidate: Evaluation | None, incumbent: Evaluation | None, alpha: float
    ) -> Comparison:
        if candidate is None or incumbent is None:
            raise RagladderError("internal: an arm was not scored before it was compared")
        split = candidate.split
        return compare_metric(metric, candidate.scores, incumbent.scores, self.groups, split, alpha, self.config.seed)

    def _deadline(self) -> float | None:
        minutes = self.config.runtime.max_minutes
        return None if minutes is None else self.started + 60 * minutes

    # --- arms and records ---

    def _arm(self, name: str, pipeline: PipelineConfig, test: bool) -> _Arm:
        dev = evaluate_fully(self.bench, pipeline, "dev")
        return _Arm(name, pipeline, dev, evaluate_fully(self.bench, pipeline, "test") if test else None)

    def _arm_record(self, arm: _Arm) -> ArmRecord:
        splits = [e for e in (arm.dev, arm.test) if e is not None]
        scores: Any = {e.split: estimates(e.scores, self.groups, self.config.seed) for e in splits}
        count = len(arm.dev.questions)
        generation = sum(a.seconds for a in arm.dev.answers)
        return ArmRecord(
            arm=arm.name,
            pipeline=arm.pipeline.model_dump(mode="json"),
            scores=scores,
            seconds_per_question=round((arm.dev.retrieved.seconds + generation) / count, 4),
            context_tokens=round(sum(a.prompt_tokens for a in arm.dev.answers) / count, 1),
            causes={str(cause): n for cause, n in count_causes(outcomes(self.bench, arm.dev)).items()},
        )

    def _record(
        self, run: Run, data: DataRecord, baseline: _Arm, final: _Arm, diagnosis: Diagnosis, rungs: list[RungRecord]
    ) -> LadderRecord:
        from .. import __version__

        first, last = self._arm_record(baseline), self._arm_record(final)
        metric = self.config.score.answer_metric
        return LadderRecord(
            status="finished",
            run_id=run.folder.name,
            name=self.config.name,
            created=run.created,
            ragladder=__version__,
            config_sha256=config_digest(self.config),
            seed=self.config.seed,
            data=data,
            answer_metric=metric,
            judges=judges(self.bench),
            metrics=metric_versions(first.scores["dev"], self.config.score),
            baseline=first,
            diagnosis=diagnosis,
            rungs=tuple(rungs),
            final=last,
            summary=summary(metric, first, last, rungs, self.config.gate.target),
            next_step=next_step(last, rungs, self.config.gate.target, metric),
            seconds=round(time.monotonic() - self.started, 1),
        )

    def _say_baseline(self, arm: _Arm, diagnosis: Diagnosis) -> None:
        note = self.bench.reporter.line
        values = estimates(arm.dev.scores, self.groups, self.config.seed)
        metric = self.config.score.answer_metric
        shown = values[metric]
        note(f"baseline on dev: {metric} {_shown(shown.mean)} ({shown.n_ok}/{shown.n} questions)")
        note(
            "where dev questions are lost: "
            + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in diagnosis.causes.items() if v)
        )
        for ceiling in diagnosis.ceilings:
            note(f"  {ceiling.name.replace('_', ' ')}: {metric} {_shown(ceiling.estimate.mean)} ({ceiling.meaning})")


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _untried(name: Any, decision: Decision) -> RungRecord:
    return RungRecord(
        name=name, decision=decision, metric="", changes={}, dev={}, candidate=None, cost=CostRecord(), details={}
    )


def _record_of(
    name: Any,
    proposal: Proposal,
    decision: Decision,
    incumbent: _Arm,
    candidate: ArmRecord | None,
    dev: dict[str, Any],
    meter: Meter,
) -> RungRecord:
    changes = differences(incumbent.pipeline, proposal.candidate) if proposal.candidate else {}
    cost = CostRecord(
        seconds=round(sum(meter.seconds.values()), 1),
        prompt_tokens=sum(meter.prompt_tokens.values()),
        completion_tokens=sum(meter.completion_tokens.values()),
    )
    return RungRecord(
        name=name,
        decision=decision,
        metric=proposal.metric,
        changes=changes,
        dev=dev,
        candidate=candidate,
        cost=cost,
        details={"how": proposal.reason, **proposal.details},
    )


def differences(before: PipelineConfig, after: PipelineConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: key path to (before, after)."""
    a, b = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return {key: (a.get(key), b.get(key)) for key in [*b, *(k for k in a if k not in b)] if a.get(key) != b.get(key)}


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict) or not data:
        return {prefix: data}
    return {
        key: value
        for name, child in data.items()
        for key, value in _flat(child, f"{prefix}.{name}".lstrip(".")).items()
    }
