"""What is written down of a sweep: a record of each trial, and the result in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from ...core.types import Score
from ..records import EstimateRecord
from ..scoring import estimates
from .results import Result, TrialRecord
from .words import number, point_text

__all__ = ["summary", "trial_record"]

_SHOWN = 50
"""Configurations whose intervals are worked out."""


def trial_record(
    result: Result,
    rank: int | None,
    same: Mapping[str, tuple[float, bool]],
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
        pareto: Keys of the Pareto front.
        objectives: Those that are ranked by; the first configurations get intervals of them.
        names: All that is shown.
        groups: The group of each dev question.
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
        error=outcome.error or result.dropped or (f"{result.broken} does not hold" if result.broken else ""),
        objectives={name: outcome.value(name) for name in names},
        estimates=_intervals(result, objectives, groups, seed) if close else {},
        behind=behind,
        same_as_best=alike,
        pareto=key in pareto,
        seconds=outcome.seconds,
    )


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
    order: Sequence[Result],
    everything: Sequence[Result],
    same: dict[str, tuple[float, bool]],
    objectives: Sequence[str],
    over: str,
) -> str:
    """The result in words, honest about what the questions cannot tell."""
    ended = f" {over}: raise it and run the same command to go on." if over else ""
    if not order:
        causes = Counter(result.status for result in everything)
        first = next((r.outcome.error or r.broken or r.dropped for r in everything if r.status != "ok"), "")
        counted = ", ".join(f"{count} {status}" for status, count in causes.items()) or "none was tried"
        return f"No configuration could be ranked ({counted}); the first: {first or 'nothing ran'}.{ended}"
    first = order[0]
    value = number(first.outcome.value(objectives[0]))
    text = f"Best of {len(order)} on dev: {point_text(first.configuration.point)} with {objectives[0]} {value}."
    alike = [result for result in order[1:] if same.get(result.configuration.key, (0, False))[1]]
    if alike:
        widest = max(same[result.configuration.key][0] for result in alike)
        text += (
            f" {len(alike)} {'other' if len(alike) == 1 else 'others'} cannot be told apart from it by these questions "
            f"(up to {widest:.4f} lower): take the cheapest of them, or ask more questions."
        )
    elif same:
        text += " It is better than every other that was compared, with confidence."
    return text + ended
