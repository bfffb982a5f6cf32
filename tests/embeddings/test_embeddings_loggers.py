"""`report_to`: the trainer's loggers, each run for real where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, MissingExtra
from ragladder.embeddings.pairs import Pair
from ragladder.embeddings.train import EmbedTrainSettings, TrainResult, train_embedder

NAMES = "locker depot parcel battery robot invoice door code button lamp courier van"
PAIRS = [Pair(f"q{n}", f"how long {word}", f"the amber {word} is on", f"c{n}") for n, word in enumerate(NAMES.split())]


def trained(model: Path, out: Path, logger: str) -> TrainResult:
    """Twelve steps, reported to a logger."""
    settings = {"epochs": 4, "batch_size": 4, "dtype": "fp32", "wise_ft": [], "patience": None, "report_to": [logger]}
    checkpoints = out / "training" / "checkpoints"
    given = EmbedTrainSettings.model_validate(settings)
    return train_embedder(model, PAIRS, lambda encode: 0.5, given, out, Resources(), checkpoints=checkpoints)


def test_a_logger_that_is_unknown_or_missing_is_said(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="report_to: 'paper' is no logger of the trainer; known: .*wandb"):
        trained(tiny_model, tmp_path, "paper")
    if find_spec("clearml") is None:
        with pytest.raises(MissingExtra, match="'clearml' is not installed .*pip install clearml"):
            trained(tiny_model, tmp_path, "clearml")


def test_tensorboard_gets_the_losses(tiny_model: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = trained(tiny_model, tmp_path, "tensorboard")
    # Beside the checkpoints, which are removed.
    (file,) = (tmp_path / "training").rglob("events.out.tfevents.*")
    found = events.EventAccumulator(str(file.parent))
    found.Reload()
    steps = {event.step: event.value for event in found.Scalars("train/loss")}
    assert steps[1] == pytest.approx(result.history[0].loss, abs=1e-3)
    assert set(steps) == {1, 10}


def test_mlflow_gets_the_losses(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "mlruns").as_uri()
    for name, value in (("MLFLOW_TRACKING_URI", uri), ("MLFLOW_ALLOW_FILE_STORE", "true")):
        monkeypatch.setenv(name, value)
    result = trained(tiny_model, tmp_path, "mlflow")
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    (first, *_) = client.get_metric_history(run.info.run_id, "loss")
    assert (first.step, first.value) == (1, pytest.approx(result.history[0].loss, abs=1e-3))
