"""A search over the settings of embedding finetuning: Optuna's TPE on dev, poor trials pruned after an epoch."""

from __future__ import annotations

import json
import shutil
from typing import Any

from pydantic import ValidationError

from ...core.cache import digest
from ...core.components import Model
from ...core.errors import ConfigError, DataError, StageError
from ...core.files import write_atomic
from ...core.progress import Reporter
from ...embeddings.encode import StaticSettings
from ...embeddings.mine import HardNegativeSettings
from ...embeddings.train_settings import EmbedTrainSettings
from ..config import EmbeddingRungSettings
from ..rungs.embedding_data import EmbeddingData
from ..rungs.embedding_stages import embedding_stage, training_checkpoints
from ..workbench import Workbench

__all__ = ["SearchResult", "SearchTrial", "search_settings"]


class SearchTrial(Model):
    """One training."""

    number: int
    """From 0 on; 0 has the config's own settings."""
    settings: dict[str, Any]
    """Learning rate, epochs, loss, batch size, negatives."""
    state: str
    """`complete`, `pruned` (worse after an epoch than the median of those before), or `failed`."""
    score: float | None
    """Best dev score; of the last epoch where pruned."""
    seconds: float
    """Wall-clock time of the training; 0 where it is not known."""
    error: str = ""
    """Why it failed."""


class SearchResult(Model):
    """What a search found."""

    metric: str
    """What was maximised on dev."""
    base_score: float
    """Dev score of the untrained base."""
    trials: tuple[SearchTrial, ...]
    """In their order."""
    best: int
    """Number of the best trial. It was chosen among all by its dev score, which is therefore too good to be true."""
    overrides: tuple[str, ...]
    """Its settings as `--set` takes them; empty where the config's own are best."""


def search_settings(
    bench: Workbench, settings: EmbeddingRungSettings, data: EmbeddingData, reporter: Reporter
) -> SearchResult:
    """Trains with settings that Optuna proposes, each training a stage of the store.

    Killed, the same search goes on: the sampler proposes the same, and finished trainings are found.

    Args:
        bench: Questions and stages.
        settings: The rung's, with the space.
        data: Pairs.
        reporter: Told of each trial.

    Raises:
        ConfigError: The rung trains no model, or every trial failed.
    """
    import optuna

    train = settings.train
    if train is None:
        raise ConfigError("rungs.embedding.train is null, so there is nothing to search over")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = settings.search
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=space.seed, n_startup_trials=4),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0),
    )
    own = _own_values(train, isinstance(bench.config.pipeline.embed, StaticSettings))
    if _in_space(own, settings):
        study.enqueue_trial(own)
    ledger = _Ledger(bench, settings, data)
    trials: list[SearchTrial] = []
    base_score = 0.0
    for number in range(space.trials):
        trial = study.ask()
        values = own if number == 0 and not _in_space(own, settings) else _suggested(trial, settings)
        done, base = _run(bench, settings, data, values, number, trial, ledger)
        base_score = base if base is not None else base_score
        state = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[done.state]
        study.tell(trial, done.score if done.state == "complete" else None, optuna.trial.TrialState[state])
        trials.append(done)
        shown = ", ".join(
            f"{name} {value:.2g}" if name == "learning_rate" else f"{name} {value}" for name, value in values.items()
        )
        score = "" if done.score is None else f" {done.score:.4f}"
        reporter.line(f"search: trial {number + 1}/{space.trials}: {shown}: {done.state}{score}{done.error}")
    complete = [trial for trial in trials if trial.state == "complete" and trial.score is not None]
    if not complete:
        raise ConfigError(f"embed search: every trial failed; the first: {trials[0].error}")
    best = max(complete, key=lambda trial: trial.score or 0.0)
    return SearchResult(
        metric=settings.metric,
        base_score=base_score,
        trials=tuple(trials),
        best=best.number,
        overrides=() if best.number == 0 else _overrides(train, best.settings),
    )


def _own_values(train: EmbedTrainSettings, static: bool) -> dict[str, Any]:
    return {
        "learning_rate": train.resolved_learning_rate(static),
        "epochs": train.epochs,
        "loss": train.loss,
        "batch_size": train.first_batch_size(),
        "num_negatives": train.hard_negatives.num_negatives if train.hard_negatives else 0,
    }


def _in_space(values: dict[str, Any], settings: EmbeddingRungSettings) -> bool:
    space = settings.search
    ranges = all(getattr(space, n)[0] <= values[n] <= getattr(space, n)[1] for n in ("learning_rate", "epochs"))
    return ranges and all(values[n] in getattr(space, n) for n in ("loss", "batch_size", "num_negatives"))


def _suggested(trial: Any, settings: EmbeddingRungSettings) -> dict[str, Any]:
    space = settings.search
    return {
        "learning_rate": trial.suggest_float("learning_rate", *space.learning_rate, log=True),
        "epochs": trial.suggest_int("epochs", *space.epochs),
        "loss": trial.suggest_categorical("loss", list(space.loss)),
        "batch_size": trial.suggest_categorical("batch_size", list(space.batch_size)),
        "num_negatives": trial.suggest_categorical("num_negatives", list(space.num_negatives)),
    }


def _changed(train: EmbedTrainSettings | None, values: dict[str, Any]) -> EmbedTrainSettings:
    """The settings with a trial's values.

    Raises:
        ConfigError: They do not go together.
    """
    own = train or EmbedTrainSettings()
    negatives = values["num_negatives"]
    kept = own.hard_negatives or HardNegativeSettings()
    data = {**own.model_dump(), **{name: values[name] for name in values if name != "num_negatives"}}
    data["hard_negatives"] = {**kept.model_dump(), "num_negatives": negatives} if negatives else None
    try:
        return EmbedTrainSettings.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(one["msg"] for one in error.errors())) from None


def _overrides(train: EmbedTrainSettings, values: dict[str, Any]) -> tuple[str, ...]:
    changed = _changed(train, values).model_dump(mode="json")
    before = train.model_dump(mode="json")
    return tuple(
        f"rungs.embedding.train.{name}={json.dumps(value)}" for name, value in changed.items() if value != before[name]
    )


class _Ledger:
    """Trials that were pruned: no stage tells of them, and they need not be trained again."""

    def __init__(self, bench: Workbench, settings: EmbeddingRungSettings, data: EmbeddingData) -> None:
        space = settings.model_dump(mode="json", exclude={"search": {"trials"}, "pairs": True})
        name = digest([space, [[pair.query, pair.positive] for pair in data.pairs]])[:20]
        self._path = bench.resources.cache_dir / "training" / f"search-{name}.json"
        self._rows: dict[str, float] = json.loads(self._path.read_text()) if self._path.is_file() else {}

    def get(self, key: str) -> float | None:
        return self._rows.get(key)

    def add(self, key: str, score: float) -> None:
        self._rows[key] = score
        write_atomic(self._path, json.dumps(self._rows).encode())


def _run(
    bench: Workbench,
    settings: EmbeddingRungSettings,
    data: EmbeddingData,
    values: dict[str, Any],
    number: int,
    trial: Any,
    ledger: _Ledger,
) -> tuple[SearchTrial, float | None]:
    """One trial, and the score of the untrained base where it was learnt."""
    import optuna

    def ended(state: str, score: float | None, seconds: float = 0.0, error: str = "") -> SearchTrial:
        return SearchTrial(number=number, settings=values, state=state, score=score, seconds=seconds, error=error)

    last: list[float] = []

    def on_epoch(epoch: int, score: float) -> None:
        last.append(score)
        trial.report(score, epoch)
        if number and epoch < values["epochs"] and trial.should_prune():
            raise optuna.TrialPruned

    try:
        # The config's own settings as they stand, so that their training is that of `embed train` and of a climb.
        rung = settings.model_copy(update={"train": _changed(settings.train, values)}) if number else settings
        stage = embedding_stage(bench, bench.config.pipeline, rung, data, on_epoch)
        reused, pruned = bench.store.has(stage), ledger.get(stage.key)
        if pruned is not None and not reused:
            return ended("pruned", pruned), None
        try:
            result = bench.get(stage)
        except optuna.TrialPruned:
            ledger.add(stage.key, last[-1])
            shutil.rmtree(training_checkpoints(bench, stage.params), ignore_errors=True)
            return ended("pruned", last[-1]), None
    except (StageError, DataError, ConfigError) as error:
        return ended("failed", None, error=f": {error}"), None
    if reused:
        # So that later trials are compared with the same figures as in the search that was killed.
        for epoch, score in enumerate((row["dev"] for row in result["history"] if row["dev"] is not None), 1):
            trial.report(score, epoch)
    return ended("complete", result["best_score"], result["seconds"]), result["base_score"]
