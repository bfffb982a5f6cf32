"""`ragladder embed`: the embedding rung by itself: its pairs, its cost, its training, a learning curve, a search."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ._show import next_line, print_result, reporter
from .options import Config, Json, Overrides, Quiet, Verbose

if TYPE_CHECKING:
    from ...embeddings.export import ExportedModel
    from ...embeddings.probe import EmbedEstimate
    from ..finetune.embedding import EmbedTraining, PairsReport
    from ..finetune.embedding_curve import LearningCurve
    from ..finetune.embedding_search import SearchResult

__all__ = ["app"]

app = typer.Typer(
    help="Look at the training pairs of the embedding model, and finetune it by itself.", no_args_is_help=True
)

WIDTH = 160


@app.command("pairs")
def pairs(
    config: Config,
    show: Annotated[int, typer.Option(min=0, help="Pairs to print, evenly spread over all.")] = 20,
    full: Annotated[bool, typer.Option("--full", help="Print passages whole, not their beginnings.")] = False,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print the training pairs of the config's pipeline, its mined negatives, and what was left out and why."""
    from ..finetune.embedding import embed_pairs

    report = embed_pairs(config, set_ or (), show, reporter(quiet, json, verbose))
    print_result(report, json, lambda: [*_pairs(report, full), next_line("embed train", config, set_)])


@app.command("train")
def train(
    config: Config,
    out: Annotated[
        Path | None, typer.Option(help="New folder for the model. Default: where stages are kept.", show_default=False)
    ] = None,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the query adapter and the embedding model of the config's pipeline; nothing is adopted.

    Killed, it goes on where it was.
    """
    from ..finetune.embedding import embed_train

    result = embed_train(config, set_ or (), out, reporter(quiet, json, verbose))
    used = [*(set_ or ()), *result.overrides]
    after = next_line("eval", config, used) if result.overrides else next_line("embed pairs", config, set_)
    print_result(result, json, lambda: [*_training(result), after])


@app.command("export")
def export(
    model: Annotated[str, typer.Argument(help="The model's folder, or a hub name.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    backend: Annotated[Literal["onnx", "openvino"], typer.Option(help="What is to run it.")] = "onnx",
    dtype: Annotated[Literal["fp32", "int8"], typer.Option(help="int8 (onnx) quantises: compare it first.")] = "fp32",
    json: Json = False,
) -> None:
    """Write a model with its network for ONNX Runtime or OpenVINO, compared with torch first."""
    from ...core.components import Resources
    from ...embeddings.export import export_model

    found = export_model(model, backend, dtype, folder, Resources())
    print_result(found, json, lambda: _exported(found, backend))


@app.command("estimate")
def estimate(
    config: Config,
    price: Annotated[float, typer.Option(min=0, help="Price of an hour of the machine.")] = 0.0,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Estimate time and memory of the training, from a few steps that are really made."""
    from ..finetune.embedding import embed_estimate

    found = embed_estimate(config, set_ or (), price, reporter(quiet, json, verbose))
    print_result(found, json, lambda: [*_estimate(found, price), next_line("embed train", config, set_)])


@app.command("curve")
def curve(
    config: Config,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train on a quarter, a half and all of the pairs, and say whether more pairs would help."""
    from ..finetune.embedding import embed_curve

    found = embed_curve(config, set_ or (), reporter(quiet, json, verbose))
    print_result(found, json, lambda: [*_curve(found), next_line("embed train", config, set_)])


@app.command("search")
def search(
    config: Config,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search over learning rate, epochs, loss, batch size and negatives, on dev; killed, it goes on where it was."""
    from ..finetune.embedding import embed_search

    found = embed_search(config, set_ or (), reporter(quiet, json, verbose))
    best = [*(set_ or ()), *found.overrides]
    print_result(found, json, lambda: [*_search(found), next_line("embed train", config, best)])


def _estimate(found: EmbedEstimate, price: float) -> list[str]:
    memory = "unknown" if found.peak_memory_mb is None else f"{found.peak_memory_mb:,.0f} MB"
    lines = [
        f"steps: {found.steps} of {found.batch_size} pairs, {found.seconds_per_step:.2f} s each",
        f"time: about {found.seconds / 60:.1f} minutes ({found.pairs_per_second:.1f} pairs a second)",
        f"peak memory: {memory}; weights trained: {found.trained_parameters:,}",
    ]
    return [*lines, f"cost: {found.money:.2f}"] if price else lines


def _exported(found: ExportedModel, backend: str) -> list[str]:
    return [
        f"exported to {found.folder}: {backend}/{', '.join(found.files)}",
        f"inputs: {', '.join(found.inputs)}; output: a vector a token, before pooling and normalising",
        f"in a pipeline: embed: {{model: {found.folder}, backend: {backend}}}",
    ]


def _curve(found: LearningCurve) -> list[str]:
    said = {
        "more data": "more data: twice the pairs should gain a worthwhile amount",
        "enough": "enough: twice the pairs should not gain a worthwhile amount",
        "unclear": "unclear: the interval holds the worthwhile gain; more dev questions would narrow it",
    }
    return [
        f"dev {found.metric}: {found.base_score:.4f} without training",
        *(f"  {point.pairs:>6} pairs  {point.score:.4f}" for point in found.points),
        f"gain per doubling: {found.gain_per_doubling:+.4f} [{found.low:+.4f}, {found.high:+.4f}] "
        f"(worthwhile: {found.worthwhile:g})",
        said[found.verdict],
    ]


def _search(found: SearchResult) -> list[str]:
    lines = [f"dev {found.metric}: {found.base_score:.4f} without training"]
    for trial in found.trials:
        shown = ", ".join(
            f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.settings.items()
        )
        score = "     -" if trial.score is None else f"{trial.score:.4f}"
        best = "  <- best" if trial.number == found.best else ""
        lines.append(f"  {score}  {trial.state:<8}  {shown}{best}")
    return [*lines, "the best of many on dev is too good to be true; the gate of a climb looks at test"]


def _pairs(report: PairsReport, full: bool) -> list[str]:
    lines = [report.summary]
    if report.negatives is not None:
        counts = report.negatives
        lines.append(
            f"hard negatives: {counts['complete']} pairs have all, {counts['partial']} some, {counts['without']} none "
            "(kept, with in-batch negatives alone)"
        )
    for pair in report.pairs:
        positive = _one_line(f"{pair.chunk_id}: {pair.positive}", full)
        lines += ["", f"{pair.question_id}  {pair.query}", f"  +  {positive}"]
        lines += [f"  -  {_one_line(negative, full)}" for negative in pair.negatives]
    return [*lines, ""] if report.pairs else lines


def _one_line(text: str, full: bool) -> str:
    return " ".join(text.split()) if full else textwrap.shorten(text, WIDTH, placeholder=" …")


def _training(result: EmbedTraining) -> list[str]:
    training = result.training
    if result.model is None:
        adapter = "no query adapter beats the base on dev"
        if result.improved:
            adapter = f"query adapter: {result.query_adapter}"
        return [f"dev {result.metric}: {result.before:.4f} before, {result.after:.4f} with the query adapter", adapter]
    when = "trained earlier," if result.reused else "trained"
    lines = [
        f"dev {result.metric}: {result.before:.4f} before, {result.after:.4f} after (among the candidates of dev; it "
        "chose, so this is a little too good to be true)",
        f"kept: {result.kept}",
        *_general(result),
        f"{when} in {training['seconds']:.0f} s on {training['pairs']} pairs, {training['precision']}",
    ]
    if result.adapter_score is not None:
        what = f": {result.query_adapter}" if result.query_adapter else " (changes nothing)"
        lines.append(f"query adapter: dev {result.adapter_score:.4f}{what}")
    return [*lines, f"model: {result.model}"]


def _general(result: EmbedTraining) -> list[str]:
    """What was kept, on the set that was not trained for."""
    scores = dict(result.training["general"])
    if not scores:
        return []
    before, after = scores[0.0], scores[result.training["alpha"]]
    return [f"general set ndcg@10: {before:.4f} before, {after:.4f} after"]
