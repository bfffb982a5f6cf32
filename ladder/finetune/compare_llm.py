"""An adapter against its base on dev: wins and losses, edge cases side by side, and what it forgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.components import Model
from ...core.errors import ConfigError
from ...core.progress import Reporter
from ...llm_ft.forgetting import Forgetting
from ..config import LLMRungSettings, PipelineConfig, with_changes
from ..gate import Comparison, compare_metric
from ..rungs.llm_after import side_by_side
from ..rungs.llm_data import base_folder, trained_prompt
from ..rungs.llm_train import forgetting_stage
from ..scoring import clusters, evaluate_fully
from .common import finetuning_bench

__all__ = ["LLMComparison", "adapter_of", "llm_compare"]


class LLMComparison(Model):
    """Base and adapter on the dev questions. Dev chose the adapter, so it flatters it: the gate looks at test."""

    metric: str
    """What both are compared by."""
    comparison: Comparison
    """Over all dev questions: means, difference with interval, wins, ties and losses."""
    edge_cases: dict[str, Any]
    """Dev questions that the base loses although their evidence is at hand, what became of them, what was newly lost,
    and the answers of both with the judge's verdicts where one is set."""
    forgetting: Forgetting | None
    """What the adapter forgets on general prompts; None where `rungs.llm.forgetting` is not set."""


def adapter_of(pipeline: PipelineConfig, given: Path | None, command: str) -> tuple[str, PipelineConfig]:
    """The adapter that a command is about, and the pipeline without it.

    Args:
        pipeline: Of the config.
        given: What `--adapter` names.
        command: For messages.

    Raises:
        ConfigError: There is none.
    """
    own = getattr(getattr(pipeline.generate, "llm", None), "adapter", None)
    if given is None and own is None:
        raise ConfigError(
            f"{command}: the config has no pipeline.generate.llm.adapter: name one with --adapter (`ragladder llm "
            "train --out` writes it), or give the best.yaml of a run that adopted one"
        )
    plain = pipeline if own is None else with_changes(pipeline, {"generate.llm.adapter": None})
    return str(given.absolute() if given is not None else own), plain


def llm_compare(path: Path, overrides: Sequence[str], adapter: Path | None, reporter: Reporter) -> LLMComparison:
    """Asks base and adapter the dev questions.

    Args:
        path: An experiment's YAML file, or the `best.yaml` of a run.
        overrides: `key.path=value`.
        adapter: The adapter; None takes the config's own.
        reporter: For progress.

    Raises:
        ConfigError: The config has no LLM on this machine, or no adapter.
        DataError: The adapter is of another base.
    """
    bench = finetuning_bench(path, overrides, "llm", reporter)
    config = bench.config
    settings = config.rungs.llm or LLMRungSettings()
    folder, plain = adapter_of(config.pipeline, adapter, "llm compare")
    base = base_folder(bench, plain)
    tuned = with_changes(trained_prompt(plain, settings), {"generate.llm.adapter": folder})
    bench.component(tuned.generate)  # an adapter of another base is heard of before the base answers
    metric = settings.metric or config.score.answer_metric
    before, after = (evaluate_fully(bench, one, "dev") for one in (plain, tuned))
    groups, alpha = clusters(bench.questions), config.gate.alpha
    forgotten = None
    if settings.forgetting is not None:
        bench.release_models()
        forgotten = bench.get(forgetting_stage(bench, base, bench.resources.path(folder), settings.forgetting))
    return LLMComparison(
        metric=metric,
        comparison=compare_metric(metric, after.scores, before.scores, groups, "dev", alpha, config.seed),
        edge_cases=side_by_side(bench, metric, before, after),
        forgetting=forgotten,
    )
