"""Loads the sweep of an experiment: its section `sweep:`, with axes from `--set key=a,b,c` put over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ...core.config import read_yaml
from ...core.errors import ConfigError
from ..config import ExperimentConfig, PipelineConfig, load_experiment
from .settings import CoordinateSearch, GridSearch, RandomSearch, SweepSettings
from .space import Space

__all__ = ["axis_of", "load_sweep"]


def axis_of(text: str) -> tuple[str, list[Any]] | None:
    """An axis from an override: `pipeline.chunk.size=128,256`, the `pipeline.` not needed; None for another override.

    The values are YAML, parted by commas; a single value is one too, where the key is one of the pipeline's.
    """
    key, equals, value = text.partition("=")
    path = key.strip().removeprefix("pipeline.")
    if not equals or path.split(".")[0] not in PipelineConfig.model_fields:
        return None
    try:
        values = yaml.safe_load(f"[{value}]")
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {text}: the values are not valid YAML") from None
    if not values:
        raise ConfigError(f"--set {text}: no value after '='")
    return path, values


def load_sweep(path: Path, overrides: Sequence[str]) -> tuple[ExperimentConfig, SweepSettings]:
    """The experiment and its sweep.

    Raises:
        ConfigError: Listing all that is wrong; there is nothing to sweep.
    """
    axes: dict[str, list[Any]] = {}
    plain = []
    names = _axes_in(path)
    for text in overrides:
        axis = axis_of(text)
        # one value of what is no axis is an ordinary override
        if axis is not None and (len(axis[1]) > 1 or axis[0] in names):
            axes[axis[0]] = axis[1]
        else:
            plain.append(f"pipeline.{text}" if axis is not None and not text.startswith("pipeline.") else text)
    config = load_experiment(path, plain)
    usual = SweepSettings(objectives=(f"evidence_recall@{config.score.budgets[0]}c",))
    settings = config.sweep or _from_rung(config) or usual
    if axes:
        settings = settings.model_copy(update={"space": {**settings.space, **axes}})
    if not settings.space:
        raise ConfigError(
            f"{path}: nothing to sweep: add axes below sweep.space, or --set pipeline.chunk.size=128,256,512"
        )
    Space(config.pipeline, settings).check("--set" if axes else str(path))
    return config, settings


def _axes_in(path: Path) -> set[str]:
    """Axes that the file names."""
    data, _ = read_yaml(path)
    found: set[str] = set()
    for section in (data.get("sweep"), (data.get("rungs") or {}).get("retrieval")):
        space = section.get("space") if isinstance(section, dict) else None
        found |= set(space) if isinstance(space, dict) else set()
    return found


def _from_rung(config: ExperimentConfig) -> SweepSettings | None:
    """The retrieval rung's space as a sweep, for a config without one."""
    rung = config.rungs.retrieval
    if rung is None or not rung.space:
        return None
    search: Any = {
        "coordinate": lambda: CoordinateSearch(kind="coordinate", passes=rung.passes),
        "random": lambda: RandomSearch(kind="random", trials=rung.trials or 50),
        "grid": GridSearch,
    }[rung.search]()
    return SweepSettings(space=rung.space, objectives=(rung.metric,), search=search)
