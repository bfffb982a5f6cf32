"""`gate.selection: max-t`: every configuration of a sweep on dev and test, in place of one chosen on dev.

The correction is for the configurations that were looked at, so these must not depend on scores: a grid, or a random
draw. A search that follows the scores (an axis at a time, racing, models) would have looked at others had they come out
otherwise, and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..core.errors import ConfigError
from ..core.types import Score, Split
from .comparison import Comparison, compare_family, compare_metric
from .config import ExperimentConfig, PipelineConfig, RetrievalRungSettings, with_changes
from .gate import best_of_family
from .measures import lower_is_better
from .rungs import Proposal, RungContext, Trial
from .rungs.retrieval import changes_answers_only
from .workbench import Evaluation, Workbench

__all__ = ["BOTH", "FEW", "Family", "check_gate", "compare_trials", "metric_of", "selection"]

BOTH = "dev+test"
FEW = 10
"""Points up to which `gate.selection: auto` takes max-t: beyond, a choice on dev finds as much and scores less on test
(docs/gate-simulated.md)."""


@dataclass(frozen=True)
class Family:
    """The configurations of a sweep against the incumbent, on dev and test.

    Attributes:
        pipelines: One a configuration.
        comparisons: Adjusted for their number, in the same order.
    """

    pipelines: tuple[PipelineConfig, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def best(self) -> int:
        """Position of the one to gate."""
        return best_of_family(self.comparisons)

    def proposal(self, proposal: Proposal) -> Proposal:
        """The rung's proposal with the best of the family in place of the choice of dev."""
        chosen, best = self.pipelines[self.best], self.comparisons[self.best]
        reason = f"the best of {len(self.pipelines)} configurations on dev and test (max-T)"
        details = proposal.details | {"selection": "max-t", "chosen_on_dev_too": chosen == proposal.candidate}
        return replace(proposal, candidate=chosen, metric=best.metric, reason=reason, details=details)

    def guard(
        self,
        metric: str,
        candidate: Sequence[Evaluation | None],
        incumbent: Sequence[Evaluation | None],
        groups: Mapping[str, Hashable],
        seed: int,
    ) -> Comparison:
        """A guardrail of the best one, at a share of alpha: it was chosen on the same questions."""
        alpha = self.comparisons[self.best].alpha / len(self.comparisons)
        return compare_metric(metric, _scores(candidate), _scores(incumbent), groups, BOTH, alpha, seed)


def check_gate(config: ExperimentConfig) -> None:
    """Checks that the gate's settings fit the metrics and the sweep.

    Raises:
        ConfigError: A guardrail of a metric of which less is better; max-t with a search that follows the scores, or
            with axes that two metrics choose.
    """
    costs = [metric for metric in config.gate.guardrails if lower_is_better(metric)]
    if costs:
        raise ConfigError(f"gate.guardrails: of {', '.join(costs)} less is better, and a guardrail keeps a metric high")
    rung = config.rungs.retrieval
    if config.gate.selection != "max-t" or rung is None:
        return
    if _follows_scores(rung):
        raise ConfigError(
            "gate.selection 'max-t' needs a search whose points do not depend on scores, and rungs.retrieval.search "
            f"is '{rung.search}': set it to grid or random, or gate.selection to split"
        )
    if _two_metrics(rung):
        answers = ", ".join(axis for axis in rung.space if changes_answers_only(axis))
        raise ConfigError(
            f"gate.selection 'max-t' compares all configurations by one metric, but {answers} change answers only and "
            "the other axes of rungs.retrieval.space what is retrieved: sweep one kind, or set gate.selection to split"
        )


def selection(config: ExperimentConfig) -> Literal["split", "max-t"]:
    """How the retrieval rung's best configuration is found: `gate.selection`, with auto decided before any score."""
    rung = config.rungs.retrieval
    if config.gate.selection != "auto":
        return config.gate.selection
    if rung is None or not rung.space or _follows_scores(rung) or _two_metrics(rung):
        return "split"
    points = math.prod(len(values) for values in rung.space.values())
    return "max-t" if min(points, rung.trials or points) <= FEW else "split"


def _follows_scores(rung: RetrievalRungSettings) -> bool:
    return rung.search not in ("grid", "random")


def _two_metrics(rung: RetrievalRungSettings) -> bool:
    return len({changes_answers_only(axis) for axis in rung.space}) > 1


def compare_trials(
    context: RungContext,
    metric: str,
    trials: Sequence[Trial],
    incumbent: Sequence[Evaluation | None],
    groups: Mapping[str, Hashable],
    alpha: float,
) -> Family | None:
    """Scores every trial of a sweep on dev and test and compares it with the incumbent.

    Costs for each trial what its scoring on test costs; what dev needed is cached.

    Args:
        context: The incumbent's pipeline and the workbench.
        metric: What the gate looks at.
        trials: Of the sweep; failed ones have no scores and were never a choice.
        incumbent: Its evaluations on dev and test.
        groups: Group by question id.
        alpha: Spent on this look.

    Returns:
        The family; None where no trial differs from the incumbent.

    Raises:
        BudgetError: The time is used up.
    """
    bench, found = context.bench, {}
    for trial in trials:
        if trial.status == "ok":
            pipeline = with_changes(context.incumbent, trial.changes)
            if pipeline != context.incumbent:
                found[pipeline.model_dump_json()] = pipeline
    if not found:
        return None
    why = (
        " (gate.selection: auto; set split if dev was looked at before)"
        if bench.config.gate.selection == "auto"
        else ""
    )
    context.note(f"  max-T: scoring {len(found)} configurations on test too{why}")
    scores = []
    for pipeline in found.values():
        context.check_budget()
        scores.append([s for split in ("dev", "test") for s in _scored(bench, pipeline, metric, split)])
    comparisons = compare_family(metric, scores, _scores(incumbent), groups, BOTH, alpha, bench.config.seed)
    return Family(tuple(found.values()), comparisons)


def metric_of(config: ExperimentConfig) -> str:
    """What the configurations of the retrieval rung are compared by."""
    rung = config.rungs.retrieval
    if rung is None or all(changes_answers_only(axis) for axis in rung.space):
        return config.score.answer_metric
    return rung.metric


def _scored(bench: Workbench, pipeline: PipelineConfig, metric: str, split: Split) -> list[Score]:
    if metric == bench.config.score.answer_metric:
        return bench.evaluate(pipeline, split).scores
    questions = bench.split(split)
    return bench.retrieval_scores(pipeline, questions, bench.retrieve(pipeline, questions))


def _scores(evaluations: Sequence[Evaluation | None]) -> list[Score]:
    return [score for evaluation in evaluations if evaluation is not None for score in evaluation.scores]
