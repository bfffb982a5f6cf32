"""Sends a finished climb to experiment trackers: MLflow, Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..core.errors import MissingExtra, StageError
from .records import LadderRecord
from .report.words import headline
from .runs import load_ladder

__all__ = ["Tracker", "check_trackers", "track_run"]

Tracker = Literal["mlflow", "wandb"]

_FILES = ("ladder.json", "report.html", "best.yaml", "config.yaml", "env.json", "scores.parquet", "trials.parquet")
_LONGEST = 500  # MLflow's limit on a parameter's value


def check_trackers(trackers: Sequence[Tracker]) -> None:
    """Stops before a climb where a tracker's package is missing, not after it.

    Raises:
        MissingExtra: Naming the pip command.
    """
    for tracker in trackers:
        if find_spec(tracker) is None:
            package = "'ragladder[track]'" if tracker == "mlflow" else "wandb"
            raise MissingExtra(f"runtime.track: {tracker} is not installed: pip install {package}")


def track_run(trackers: Sequence[Tracker], project: str, run: Path) -> list[str]:
    """Logs a finished run: settings, scores of each arm on test and dev, trials, artefacts.

    Args:
        trackers: Which ones.
        project: MLflow's experiment, W&B's project.
        run: A finished run folder.

    Returns:
        Where each was logged, a line each.

    Raises:
        MissingExtra: The tracker's package is not installed.
        StageError: The tracker could not be reached or refused; the run folder is whole all the same.
    """
    check_trackers(trackers)
    record = load_ladder(run)
    log = {"mlflow": _to_mlflow, "wandb": _to_wandb}
    lines = []
    for tracker in trackers:
        try:
            lines.append(log[tracker](project, run, record))
        except Exception as error:
            raise StageError(
                f"{tracker}: the run could not be logged ({type(error).__name__}: {error}); {run} is whole: mend the "
                f"connection, then run `ragladder runs track {run.name} --to {tracker}`"
            ) from error
    return lines


def _to_mlflow(project: str, run: Path, record: LadderRecord) -> str:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(project)
    experiment = found.experiment_id if found else client.create_experiment(project)
    logged = client.create_run(experiment, run_name=record.run_id)
    key = logged.info.run_id
    params = [Param(name, value[:_LONGEST]) for name, value in _params(record).items()]
    metrics = [Metric(name, value, 0, step) for step, name, value in _metrics(record)]
    tags = [RunTag("summary", headline(record)), RunTag("ragladder", record.ragladder)]
    for start in range(0, len(params), 100):  # a batch takes 100 parameters, 1,000 metrics
        client.log_batch(key, params=params[start : start + 100])
    for start in range(0, len(metrics), 1000):
        client.log_batch(key, metrics=metrics[start : start + 1000])
    client.log_batch(key, tags=tags)
    for trial in _trials(run):
        child = client.create_run(experiment, run_name=f"trial {trial['trial']}", tags={"mlflow.parentRunId": key})
        known = {k: str(trial[k])[:_LONGEST] for k in ("rung", "axis", "value", "status") if trial[k] is not None}
        values = [] if trial["mean"] is None else [Metric(_named(trial["objective"]), trial["mean"], 0, 0)]
        client.log_batch(child.info.run_id, metrics=values, params=[Param(k, v) for k, v in known.items()])
        client.set_terminated(child.info.run_id, "FINISHED" if trial["status"] == "ok" else "FAILED")
    for file in _files(run):
        client.log_artifact(key, str(file))
    client.set_terminated(key)
    return f"mlflow: experiment '{project}', run {key}"


def _to_wandb(project: str, run: Path, record: LadderRecord) -> str:
    # It would advertise Weave wherever llama_index is imported.
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    import wandb

    # What it prints would stand among our own lines; what it captures and measures of this process says nothing.
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    by_step: dict[int, dict[str, Any]] = {}
    for step, name, value in _metrics(record):
        by_step.setdefault(step, {})[name] = value
    if trials := _trials(run):
        columns = list(trials[0])
        rows = [[row[column] for column in columns] for row in trials]
        by_step.setdefault(max(by_step, default=0), {})["trials"] = wandb.Table(columns=columns, data=rows)
    artefact = wandb.Artifact(f"run-{record.run_id}", type="ragladder-run")
    for file in _files(run):
        artefact.add_file(str(file))
    about = {"name": record.run_id, "config": _params(record), "notes": headline(record)}
    with wandb.init(project=project, settings=settings, **about) as logged:
        for step, values in sorted(by_step.items()):
            logged.log(values, step=step)
        logged.log_artifact(artefact)
        offline, folder = logged.offline, Path(logged.dir).parent
    later = f"; offline: `wandb sync {folder}` sends it" if offline else ""
    return f"wandb: project '{project}', run {record.run_id}{later}"


def _params(record: LadderRecord) -> dict[str, str]:
    """The final pipeline's settings, the verdicts, and what the data were."""
    flat = dict(_flat("pipeline", record.final.pipeline))
    verdicts = {f"verdict.{rung.name}": rung.decision.verdict for rung in record.rungs}
    named = {"name": record.name, "seed": str(record.seed), "config_sha256": record.config_sha256}
    return {**named, **verdicts, **flat}


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, child in value.items() for pair in _flat(f"{prefix}.{key}", child)]
    return [(prefix, str(value))]


def _metrics(record: LadderRecord) -> list[tuple[int, str, float]]:
    """(step, name, value): the baseline is step 0, a rung's candidate the rung's number."""
    arms = [(0, record.baseline), *((n, r.candidate) for n, r in enumerate(record.rungs, 1) if r.candidate)]
    rows = []
    for step, arm in arms:
        for split, scores in arm.scores.items():
            for metric, score in scores.items():
                for part in ("mean", "low", "high"):
                    value = getattr(score, part)
                    if value is not None:
                        suffix = "" if part == "mean" else f".{part}"
                        rows.append((step, f"{split}.{_named(metric)}{suffix}", value))
    return rows


def _named(metric: str) -> str:
    """MLflow takes no `@` in a name."""
    return metric.replace("@", "_at_")


def _trials(run: Path) -> Sequence[dict[str, Any]]:
    import pyarrow.parquet as pq

    path = run / "trials.parquet"
    return pq.read_table(path).to_pylist() if path.is_file() else []


def _files(run: Path) -> list[Path]:
    return [run / name for name in _FILES if (run / name).is_file()]
