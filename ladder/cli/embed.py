"""`ragladder embed`: the embedding rung by itself: its pairs, its cost, its training, a learning curve, a search."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Config, Json, Overrides, Quiet, Verbose, command

if TYPE_CHECKING:
    from ..embedding_curve import LearningCurve
    from ..embedding_search import SearchResult
    from ..finetune_embedding import EmbedTraining, PairsReport

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
    from ...core.progress import Reporter
    from ..finetune_embedding import embed_pairs

    report = embed_pairs(config, set_ or (), show, Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(report.model_dump_json(indent=1))
        return
    _print_pairs(report, full)
    print(f"next: {command('embed train', config, set_)}")


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
    from ...core.progress import Reporter
    from ..finetune_embedding import embed_train

    result = embed_train(config, set_ or (), out, Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(result.model_dump_json(indent=1))
        return
    _print_training(result)
    if result.overrides:
        print(f"next: {command('eval', config, [*(set_ or ()), *result.overrides])}")
    else:
        print(f"next: {command('embed pairs', config, set_)}")


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
    from ...core.progress import Reporter
    from ..finetune_embedding import embed_estimate

    found = embed_estimate(config, set_ or (), price, Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(found.model_dump_json(indent=1))
        return
    memory = "unknown" if found.peak_memory_mb is None else f"{found.peak_memory_mb:,.0f} MB"
    print(f"steps: {found.steps} of {found.batch_size} pairs, {found.seconds_per_step:.2f} s each")
    print(f"time: about {found.seconds / 60:.1f} minutes ({found.pairs_per_second:.1f} pairs a second)")
    print(f"peak memory: {memory}; weights trained: {found.trained_parameters:,}")
    if price:
        print(f"cost: {found.money:.2f}")
    print(f"next: {command('embed train', config, set_)}")


@app.command("curve")
def curve(
    config: Config,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train on a quarter, a half and all of the pairs, and say whether more pairs would help."""
    from ...core.progress import Reporter
    from ..finetune_embedding import embed_curve

    found = embed_curve(config, set_ or (), Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(found.model_dump_json(indent=1))
        return
    _print_curve(found)
    print(f"next: {command('embed train', config, set_)}")


@app.command("search")
def search(
    config: Config,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search over learning rate, epochs, loss, batch size and negatives, on dev; killed, it goes on where it was."""
    from ...core.progress import Reporter
    from ..finetune_embedding import embed_search

    found = embed_search(config, set_ or (), Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(found.model_dump_json(indent=1))
        return
    _print_search(found)
    print(f"next: {command('embed train', config, [*(set_ or ()), *found.overrides])}")


def _print_curve(found: LearningCurve) -> None:
    print(f"dev {found.metric}: {found.base_score:.4f} without training")
    for point in found.points:
        print(f"  {point.pairs:>6} pairs  {point.score:.4f}")
    said = {
        "more data": "more data: twice the pairs should gain a worthwhile amount",
        "enough": "enough: twice the pairs should not gain a worthwhile amount",
        "unclear": "unclear: the interval holds the worthwhile gain; more dev questions would narrow it",
    }
    print(
        f"gain per doubling: {found.gain_per_doubling:+.4f} [{found.low:+.4f}, {found.high:+.4f}] "
        f"(worthwhile: {found.worthwhile:g})"
    )
    print(said[found.verdict])


def _print_search(found: SearchResult) -> None:
    print(f"dev {found.metric}: {found.base_score:.4f} without training")
    for trial in found.trials:
        shown = ", ".join(
            f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.settings.items()
        )
        score = "     -" if trial.score is None else f"{trial.score:.4f}"
        print(f"  {score}  {trial.state:<8}  {shown}{'  <- best' if trial.number == found.best else ''}")
    print("the best of many on dev is too good to be true; the gate of a climb looks at test")


def _print_pairs(report: PairsReport, full: bool) -> None:
    print(report.summary)
    if report.negatives is not None:
        counts = report.negatives
        print(
            f"hard negatives: {counts['complete']} pairs have all, {counts['partial']} some, {counts['without']} none "
            "(kept, with in-batch negatives alone)"
        )
    for pair in report.pairs:
        print(f"\n{pair.question_id}  {pair.query}\n  +  {_one_line(f'{pair.chunk_id}: {pair.positive}', full)}")
        for negative in pair.negatives:
            print(f"  -  {_one_line(negative, full)}")
    if report.pairs:
        print()


def _one_line(text: str, full: bool) -> str:
    return " ".join(text.split()) if full else textwrap.shorten(text, WIDTH, placeholder=" …")


def _print_training(result: EmbedTraining) -> None:
    training = result.training
    if result.model is None:
        print(f"dev {result.metric}: {result.before:.4f} before, {result.after:.4f} with the query adapter")
        print(f"query adapter: {result.query_adapter}" if result.improved else "no query adapter beats the base on dev")
        return
    print(f"dev {result.metric}: {result.before:.4f} before, {result.after:.4f} after (among the candidates of dev)")
    if result.improved:
        print(
            f"kept: {training['alpha']:g} of the weights of epoch {training['best_epoch']}, the rest of the base's; "
            "chosen on dev, so a little too good to be true"
        )
    else:
        print("kept: the base itself, as no trained model beats it on dev")
    when = "trained earlier," if result.reused else "trained"
    print(f"{when} in {training['seconds']:.0f} s on {training['pairs']} pairs, {training['precision']}")
    if result.adapter_score is not None:
        print(
            f"query adapter: dev {result.adapter_score:.4f}"
            + (f": {result.query_adapter}" if result.query_adapter else " (changes nothing)")
        )
    print(f"model: {result.model}")
