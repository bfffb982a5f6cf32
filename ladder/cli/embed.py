"""`ragladder embed`: the training pairs of the embedding rung, and its training alone."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Config, Json, Overrides, Quiet, Verbose, command

if TYPE_CHECKING:
    from ..finetune import EmbedTraining, PairsReport

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
    from ..finetune import embed_pairs

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
    """Finetune the embedding model of the config's pipeline; nothing is adopted. Killed, it goes on where it was."""
    from ...core.progress import Reporter
    from ..finetune import embed_train

    result = embed_train(config, set_ or (), out, Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(result.model_dump_json(indent=1))
        return
    _print_training(result)
    if result.improved:
        print(f"next: {command('eval', config, [*(set_ or ()), f'pipeline.embed.model={result.model}'])}")
    else:
        print(f"next: {command('embed pairs', config, set_)}")


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
    print(f"model: {result.model}")
