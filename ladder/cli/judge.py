"""`ragladder judge`: what a judge's scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Config, Json, Overrides, Quiet

if TYPE_CHECKING:
    from ...core.components import Resources
    from ...core.progress import Reporter
    from ...core.types import Embedder
    from ...eval.calibrate import Calibration, Figure
    from ..config import ExperimentConfig

__all__ = ["app"]

app = typer.Typer(help="Hold a judge, or a metric, against human labels.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # with a callback, a single command keeps its name
    pass


@app.command("calibrate")
def calibrate(
    config: Config,
    labels: Annotated[
        Path, typer.Argument(help="CSV: answer, human, and id or question; see docs/judges.md.", show_default=False)
    ],
    metric: Annotated[
        str | None,
        typer.Option(help="Which score. Default: the judge's only metric, else the answer metric.", show_default=False),
    ] = None,
    threshold: Annotated[float, typer.Option(help="A score from here on means accepted.")] = 0.5,
    probes: Annotated[int, typer.Option(help="Questions a sanity probe; 0 leaves them out.")] = 10,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier calibration (--json) of the same judge, shown beside.", show_default=False),
    ] = None,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hold a judge against human labels: agreement, kappa, bias, a corrected mean. Exit code 3: it fails a probe."""
    from ...core.config import validate
    from ...core.progress import Reporter
    from ...eval import calibrate as library
    from ...eval.questions import load_questions
    from ..config import load_experiment

    experiment = load_experiment(config, set_ or ())
    resources = experiment.resources(Path(config).absolute().parent)
    questions = load_questions(resources.path(experiment.data.questions))
    chosen = _metric(experiment, metric)
    given = {"metric": chosen, "threshold": threshold, "probes": probes, "seed": experiment.seed}
    settings = validate(given, library.CalibrateSettings, "ragladder judge calibrate")
    rows = library.load_labels(labels, questions)
    scored = next((row.judge for row in rows if row.judge), "")
    embedder, embedded_by = None, None
    if library.metric_needs_embedder(chosen) and not scored:
        embedder, embedded_by = _embedder(experiment, resources, Reporter(quiet=quiet or json))
    earlier = _earlier(baseline) if baseline is not None else None
    if earlier is not None:  # before the judge is asked, which costs
        own = experiment.score.custom
        here = scored or library.judge_identity(chosen, experiment.score.judge, resources, embedded_by, own)
        library.require_same_judge(earlier.judge, here)
    # The probes look at no question that the gate does.
    seen = [question for question in questions if question.split != "test"]
    found = library.calibrate(
        rows,
        settings,
        seen,
        experiment.score.judge,
        resources,
        embedder,
        embedded_by,
        custom=experiment.score.custom,
    )
    print(found.model_dump_json(indent=1) if json else "\n".join(_lines(found, earlier)))
    if not found.sound:
        raise typer.Exit(3)


def _embedder(
    experiment: ExperimentConfig, resources: Resources, reporter: Reporter
) -> tuple[Embedder, dict[str, Any]]:
    """The pipeline's embedder, with the cache that runs use, and its identity."""
    from ...core.cache import VectorCache, digest
    from ...embeddings.encode import CachedEmbedder

    embed = experiment.pipeline.embed
    identity = embed.identity(resources)
    cache = VectorCache(resources.cache_dir / "vectors" / digest(identity)[:20])
    return CachedEmbedder(embed.build(resources), identity, cache, reporter), identity


def _metric(experiment: ExperimentConfig, metric: str | None) -> str:
    from ...core.errors import ConfigError

    if metric is not None:
        return metric
    judge = experiment.score.judge
    if judge is None:
        return experiment.score.answer_metric
    names = list(judge.metrics)
    if len(names) > 1:
        raise ConfigError(
            f"--metric: the judge has {len(names)} metrics; say which one the labels are about: "
            + ", ".join(f"ragas/{name}" for name in names)
        )
    return f"ragas/{names[0]}"


def _earlier(path: Path) -> Calibration:
    from pydantic import ValidationError

    from ...core.errors import DataError
    from ...eval.calibrate import Calibration

    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError:
        raise DataError(f"{path}: not what 'ragladder judge calibrate --json' prints") from None


def _lines(found: Calibration, earlier: Calibration | None) -> list[str]:
    lines = [f"{found.metric}, accepted from {found.threshold:g} on; judge {found.judge}"]
    for probe in found.probes:
        mean = "no score" if probe.mean is None else f"mean {probe.mean:.2f}"
        failed = f", {probe.failed} failed" if probe.failed else ""
        verdict = "passed" if probe.passed else "FAILED"
        lines.append(f"  probe {probe.name:9} {verdict}  {probe.right} of {probe.cases} {probe.wanted}, {mean}{failed}")
    if not found.sound:
        return [
            *lines,
            "this judge measures nothing: the labels were not looked at; take a stronger LLM or another metric",
        ]
    lines.append(
        f"{found.rows} answers, {found.labelled} labelled, {found.compared} compared, about {found.questions} questions"
    )
    lines += [f"  without a score: {count} {status}" for status, count in found.failed.items()]
    for name in ("agreement", "kappa", "auc", "bias"):
        sign = "+" if name == "bias" else ""
        before = f"   before: {_shown(getattr(earlier, name), sign)}" if earlier is not None else ""
        lines.append(f"  {name:10} {_shown(getattr(found, name), sign)}{before}")
    if earlier is not None and earlier.threshold != found.threshold:
        lines.append(f"  note: agreement and kappa before were at the threshold {earlier.threshold:g}")
    if found.confusion is not None:
        c = found.confusion
        lines.append(
            f"  accepted by both {c.both_accept}, by the judge alone {c.judge_only}, by people alone "
            f"{c.human_only}, by neither {c.both_reject}"
        )
    if found.corrected_mean is not None:
        lines.append(
            f"  mean by the judge {found.judge_mean:.3f}, corrected {_shown(found.corrected_mean)} "
            f"(holds if the labelled answers are a random sample)"
        )
    return lines


def _shown(figure: Figure | None, sign: str = "") -> str:
    if figure is None or figure.value is None:
        return "not defined (all alike)"
    if figure.low is None or figure.high is None:
        return f"{figure.value:{sign}.3f}  (too few labels, or no disagreement: no interval)"
    return f"{figure.value:{sign}.3f}  [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"
