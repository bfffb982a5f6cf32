"""`ragladder llm`: the LoRA examples of the LLM rung with their checks, and its training alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Config, Json, Overrides, Quiet, Verbose, command

if TYPE_CHECKING:
    from ..finetune import LLMData, LLMTraining

__all__ = ["app"]

app = typer.Typer(help="Check the training data of the LLM, and finetune it by itself (LoRA).", no_args_is_help=True)


@app.command("data")
def data(
    config: Config,
    show: Annotated[int, typer.Option(min=0, help="Examples to print whole, evenly spread over all.")] = 5,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Estimate time and memory, from a few training steps that are made.")
    ] = False,
    price: Annotated[float, typer.Option(min=0, help="Price of an hour of the machine, for --estimate.")] = 0.0,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Build the LoRA examples through the config's retriever and check them. Exit code 3: not fit to train on."""
    from ...core.errors import ConfigError
    from ...core.progress import Reporter
    from ...llm_ft.estimate import EstimateSettings
    from ..finetune import llm_data

    if price and not estimate:
        raise ConfigError("--price: is for --estimate; add it, or leave the price out")
    wanted = EstimateSettings(price_per_hour=price) if estimate else None
    result = llm_data(config, set_ or (), show, wanted, Reporter(quiet=quiet or json, verbose=verbose))
    errors = len(result.report.errors)
    if json:
        print(result.model_dump_json(indent=1))
    else:
        _print_data(result, estimate, price)
        print(f"unfit: mend the {errors} errors above" if errors else f"next: {command('llm train', config, set_)}")
    if errors:
        raise typer.Exit(3)


@app.command("train")
def train(
    config: Config,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the adapter. Default: where stages are kept.", show_default=False),
    ] = None,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a LoRA adapter on the config's pipeline; nothing is adopted. Killed, it goes on where it was."""
    from ...core.progress import Reporter
    from ..finetune import llm_train

    result = llm_train(config, set_ or (), out, Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(result.model_dump_json(indent=1))
        return
    _print_training(result)
    if result.improved:
        print(f"next: {command('eval', config, [*(set_ or ()), f'pipeline.generate.llm.adapter={result.adapter}'])}")
    else:
        print(f"next: {command('llm data', config, set_)}")


def _print_data(result: LLMData, estimate: bool, price: float) -> None:
    report = result.report
    for sample in result.samples:
        print(f"--- {sample.question_id} ({sample.kind})")
        for role, text in sample.messages:
            print(f"[{role}]\n{text}")
        print(f"[assistant, to be learnt]\n{sample.completion}\n")
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
    print(f"{report.examples} examples of {report.questions} train questions ({kinds}); {result.dev_examples} of dev")
    noticed = {
        "train questions whose evidence retrieval missed: it was put into their prompts": result.inserted,
        "train questions that no chunk answers: left out": result.without_oracle,
        "examples from which distractors were taken so that they fit": result.trimmed,
    }
    for text, count in noticed.items():
        if count:
            print(f"note: {count} {text}")
    if report.tokens is not None:
        tokens = report.tokens
        print(
            f"tokens an example: {tokens.median} in the middle, {tokens.p95} at 95%, {tokens.longest} at most; window "
            f"{tokens.window}; longest completion {tokens.longest_completion}; {tokens.total} an epoch"
        )
    for finding in report.findings:
        print(f"{finding.severity:7}  {finding.check}: {finding.message}")
        for example in finding.samples:
            print(f"           {example}")
    if result.estimate is not None:
        cost = result.estimate
        money = f", {cost.money:.2f} at {price:g} an hour" if price else ""
        print(
            f"estimate: {_duration(cost.seconds)} for {cost.steps} steps ({cost.examples_per_second:.3g} examples/s), "
            f"{cost.peak_memory / 2**30:.1f} GiB, {cost.trainable_parameters:,} parameters trained{money}"
        )
    elif estimate:
        print("estimate: not made, as this data cannot be trained on")


def _print_training(result: LLMTraining) -> None:
    training = result.training
    if result.before is None or result.after is None:
        print("dev loss: not measured, as no dev example fits the window; the adapter of the last epoch is kept")
    else:
        fell = "" if result.improved else ": it did not fall, so the adapter has learnt nothing that dev shows"
        print(f"dev loss: {result.before:.4f} before, {result.after:.4f} after{fell}")
    when = "trained earlier," if result.reused else "trained"
    print(
        f"{when} in {_duration(training['seconds'])} on {training['examples']} examples: {training['steps']} steps, "
        f"the adapter is that of step {training['best_step']}; {training['trainable_parameters']:,} of "
        f"{training['total_parameters']:,} parameters, {training['dtype']}"
    )
    for note in training["notes"]:
        print(f"note: {note}")
    print(f"adapter: {result.adapter}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
