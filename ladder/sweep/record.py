"""What is written down of a sweep: a record of each trial, of the pipeline as configured, and the result in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict

from ...core.types import Score
from ...core.words import counted
from ..records import EstimateRecord
from ..scoring import estimates
from .baseline import BaselineRecord, Basis, GainRecord
from .results import Result, TrialRecord
from .settings import CORRECTED, SweepSettings
from .words import gain_text, number, point_text

__all__ = ["baseline_record", "summary", "trial_record"]

_SHOWN = 50
"""Configurations whose intervals are worked out."""


def trial_record(
    result: Result,
    rank: int | None,
    same: Mapping[str, tuple[float, bool]],
    gained: Mapping[str, GainRecord],
    pareto: Container[str],
    objectives: Sequence[str],
    names: Sequence[str],
    groups: Sequence[str],
    seed: int,
) -> TrialRecord:
    """The record of one configuration.

    Args:
        result: What was found of it.
        rank: Among the ranked; None where it is not.
        same: By key: how far it is behind the best, and whether the two cannot be told apart.
        gained: By key: the comparison with the pipeline as configured.
        pareto: Keys of the Pareto front.
        objectives: Those that are ranked by; the first configurations get intervals of them.
        names: All that is shown.
        groups: The group of each question.
        seed: Of the bootstrap.
    """
    outcome, key = result.outcome, result.configuration.key
    behind, alike = (0.0, True) if rank == 1 else same.get(key, (None, None))
    close = rank is not None and rank <= _SHOWN
    return TrialRecord(
        rank=rank,
        trial=result.trial,
        point=result.configuration.point,
        status=result.status,  # type: ignore[arg-type]
        error=_error(result),
        objectives={name: outcome.value(name) for name in names},
        estimates=_intervals(result, objectives, groups, seed) if close else {},
        behind=behind,
        same_as_best=alike,
        pareto=key in pareto,
        gain=gained.get(key),
        seconds=outcome.seconds,
    )


def baseline_record(
    result: Result,
    in_space: bool,
    basis: Basis,
    objectives: Sequence[str],
    names: Sequence[str],
    groups: Sequence[str],
    seed: int,
) -> BaselineRecord:
    """The record of the pipeline as configured.

    Args:
        result: What was found of it.
        in_space: Whether it is one of the configurations.
        basis: Of the comparison.
        objectives: As for `trial_record`, with `names`, `groups` and `seed`.
        names: All that is shown.
        groups: The group of each question.
        seed: Of the bootstrap.
    """
    return BaselineRecord.model_validate(
        {
            **asdict(basis),
            "trial": result.trial,
            "in_space": in_space,
            "status": result.status,
            "error": _error(result),
            "objectives": {name: result.outcome.value(name) for name in names},
            "estimates": _intervals(result, objectives, groups, seed),
            "metric": objectives[0],
        }
    )


def _error(result: Result) -> str:
    broken = f"{result.broken} does not hold" if result.broken else ""
    return result.outcome.error or result.dropped or broken


def _intervals(
    result: Result, objectives: Sequence[str], groups: Sequence[str], seed: int
) -> dict[str, EstimateRecord]:
    outcome = result.outcome
    of = {str(place): group for place, group in enumerate(groups)}
    rows = [
        Score(str(place), name, value, "ok" if value is not None else "judge_error")
        for name in objectives
        if name in outcome.values
        for place, value in zip(outcome.applies[name], outcome.values[name], strict=True)
    ]
    return estimates(rows, of, seed)


def summary(
    settings: SweepSettings,
    order: Sequence[Result],
    everything: Sequence[Result],
    same: Mapping[str, tuple[float, bool]],
    gained: Mapping[str, GainRecord],
    baseline: BaselineRecord | None,
    over: str,
) -> str:
    """The result in words, honest about what the questions cannot tell.

    Args:
        settings: Of the sweep.
        order: The ranked configurations.
        everything: All of them.
        same: As for `trial_record`, with `gained`.
        gained: By key: the comparison with the pipeline as configured.
        baseline: The pipeline as configured; None where no comparison can be corrected.
        over: The limit that ended the sweep; empty where none did.
    """
    ended = f" {over}: raise it and run the same command to go on." if over else ""
    if not order:
        causes = Counter(result.status for result in everything)
        first = next((r.outcome.error or r.broken or r.dropped for r in everything if r.status != "ok"), "")
        counted = ", ".join(f"{count} {status}" for status, count in causes.items()) or "none was tried"
        return f"No configuration could be ranked ({counted}); the first: {first or 'nothing ran'}.{ended}"
    best, metric, on = order[0], settings.objectives[0], settings.questions.replace("+", " and ")
    value = number(best.outcome.value(metric))
    text = f"Best of {len(order)} on {on}: {point_text(best.configuration.point)} with {metric} {value}."
    return f"{text} {_against(settings, best, gained, baseline)}{_alike(order, same)}{ended}"


def _against(
    settings: SweepSettings, best: Result, gained: Mapping[str, GainRecord], baseline: BaselineRecord | None
) -> str:
    """The winner and the pipeline as configured."""
    kind = settings.search.kind
    if kind not in CORRECTED:
        return (
            f"Whether it beats the pipeline as configured is not tested: a {kind} search goes where scores are good, "
            "and no test can be corrected for that; ragladder climb best.yaml judges on test."
        )
    if baseline is None:
        return f"Nothing is tested: {settings.objectives[0]} is one number for all questions."
    if baseline.note:
        return f"It was not compared with the pipeline as configured: {baseline.note}."
    gain = gained.get(best.configuration.key)
    used = " Test is used up by this sweep." if settings.questions != "dev" else ""
    if gain is None:
        return f"It is the pipeline as configured.{used}"
    count = baseline.configurations
    shown = f"{gain_text(gain)}, corrected for {counted(count, 'configuration')}"
    if gain.low is None:
        few = f"{baseline.clusters} documents are too few for a test"
        return f"Whether it beats the pipeline as configured cannot be told ({gain.difference:+.4f}): {few}.{used}"
    if gain.verdict != "unclear":
        return f"{gain.verdict.capitalize()} than the pipeline as configured by {shown}.{used}"
    needed = f"; about {gain.questions_needed:,} questions could show it" if gain.questions_needed else ""
    return f"Not shown to be better than the pipeline as configured: {shown}{needed}.{used}"


def _alike(order: Sequence[Result], same: Mapping[str, tuple[float, bool]]) -> str:
    """The others and the winner."""
    behind = [same[result.configuration.key] for result in order[1:] if result.configuration.key in same]
    alike = [difference for difference, equal in behind if equal]
    if not behind:
        return ""
    if not alike:
        return " It is better than every other that was compared, with confidence."
    return (
        f" {counted(len(alike), 'other')} cannot be told apart from it by these questions "
        f"(up to {max(alike):.4f} lower): take the cheapest of them, or ask more questions."
    )
