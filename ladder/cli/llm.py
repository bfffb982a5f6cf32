"""`ragladder llm`: the LLM rung by parts: prompts, data, training, learning curve, export."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ._show import next_line, print_result, reporter
from .options import Config, Json, Overrides, Quiet, Verbose

if TYPE_CHECKING:
    from ...llm_ft.export import AdapterExport, ExportFormat
    from ..finetune.compare_llm import LLMComparison
    from ..finetune.llm import CurveReport, LLMData, LLMTraining, PromptReport

__all__ = ["app"]

_FEW = 50
_MOST_CASES = 20

app = typer.Typer(
    help="Try prompts, check the training data of the LLM, finetune it (LoRA), and export it.", no_args_is_help=True
)


@app.command("prompts")
def prompts(
    config: Config, set_: Overrides = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Try the prompts of rungs.llm.prompts on dev, and list what the best one still answers wrongly."""
    from ..finetune.llm import llm_prompts

    report = llm_prompts(config, set_ or (), reporter(quiet, json, verbose))
    print_result(report, json, lambda: [*_prompts(report), next_line("llm data", config, set_)])


@app.command("data")
def data(
    config: Config,
    rows: Annotated[int, typer.Option("--show", min=0, help="Examples to print whole, evenly spread over all.")] = 5,
    page: Annotated[
        Path | None, typer.Option(help="File for a page of the checks and the samples, to read and to share.")
    ] = None,
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
    from ...core.words import counted
    from ...llm_ft.estimate import EstimateSettings
    from ..finetune.llm import llm_data

    if price and not estimate:
        raise ConfigError("--price: is for --estimate; add it, or leave the price out")
    wanted = EstimateSettings(price_per_hour=price) if estimate else None
    result = llm_data(config, set_ or (), rows, wanted, reporter(quiet, json, verbose))
    errors = len(result.report.errors)
    lines = [*_samples(result), *_findings(result, estimate, price)]
    if page is not None:
        from ...core.files import write_atomic

        write_atomic(page, ("\n".join(["# Training data", "", *lines]) + "\n").encode())
    unfit = f"unfit: mend the {counted(errors, 'error')} above"
    print_result(result, json, lambda: [*lines, unfit if errors else next_line("llm train", config, set_)])
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
    from ..finetune.llm import llm_train

    result = llm_train(config, set_ or (), out, reporter(quiet, json, verbose))
    used = [*(set_ or ()), f"pipeline.generate.llm.adapter={result.adapter}", *_prompt_changes(result)]
    after = next_line("eval", config, used) if result.improved else next_line("llm data", config, set_)
    print_result(result, json, lambda: [*_training(result), after])


@app.command("curve")
def curve(
    config: Config, set_: Overrides = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Train on a quarter, half and all of the train questions, and predict what doubling them would bring."""
    from ..finetune.llm import llm_curve

    report = llm_curve(config, set_ or (), reporter(quiet, json, verbose))
    print_result(report, json, lambda: [*_curve(report), next_line("llm train", config, set_)])


@app.command("compare")
def compare(
    config: Config,
    adapter: Annotated[
        Path | None, typer.Option(help="The adapter. Default: the config's own.", show_default=False)
    ] = None,
    rows: Annotated[int, typer.Option("--show", min=0, help="Answers to print side by side.")] = 10,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Ask base and adapter the dev questions: wins and losses, edge cases side by side, what it forgets."""
    from ..finetune.compare_llm import llm_compare

    result = llm_compare(config, set_ or (), adapter, reporter(quiet, json, verbose))
    print_result(result, json, lambda: [*_comparison(result, rows), next_line("climb", config, set_)])


@app.command("export")
def export(
    config: Config,
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    adapter: Annotated[
        Path | None, typer.Option(help="The adapter. Default: the config's own.", show_default=False)
    ] = None,
    formats: Annotated[str, typer.Option(help="Servers, separated by commas.")] = "vllm,ollama,transformers",
    name: Annotated[str, typer.Option(help="Name of the served model.")] = "ragladder",
    base: Annotated[str, typer.Option(help="Name of the base in commands, for instance on the hub.")] = "",
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Write an adapter for vLLM, Ollama and transformers, alone and merged, with the command for each."""
    from ...core.errors import ConfigError
    from ...llm_ft.export import EXPORT_FORMATS
    from ..finetune.llm import llm_export

    wanted = [one.strip() for one in formats.split(",") if one.strip()]
    unknown = [one for one in wanted if one not in EXPORT_FORMATS]
    if unknown or not wanted:
        raise ConfigError(f"--formats: '{', '.join(unknown)}' is not known; choose from {', '.join(EXPORT_FORMATS)}")
    chosen = cast("list[ExportFormat]", wanted)
    result = llm_export(config, set_ or (), folder, adapter, chosen, name, base)
    print_result(result, json, lambda: _exported(result, folder))


def _exported(result: AdapterExport, folder: Path) -> list[str]:
    lines = [f"exported to {result.folder}", *(f"note: {note}" for note in result.notes)]
    lines += [f"{server}:\n  " + line.replace("\n", "\n  ") for server, line in result.commands.items()]
    return [*lines, f"next: cd {shlex.quote(str(folder))}, and one of the commands above"]


def _prompts(report: PromptReport) -> list[str]:
    how = ", ".join(f"{key} = {value}" for key, value in report.changes.items()) or "the config's own"
    lines = [
        f"best of {report.tried} prompts tried and the config's: {how}",
        f"{report.metric} on dev: {_mean(report.estimate.mean)}",
    ]
    if report.reference is not None:
        lines.append(f"the reference LLM with the same prompt: {_mean(report.reference.mean)}")
    lines.append(f"edge cases left for training: {len(report.edge_cases)} of {report.estimate.n} dev questions")
    for one in report.edge_cases[:_MOST_CASES]:
        expected = one.reference or "(the documents do not answer)"
        lines += [
            f"  {one.question_id}: {one.question}",
            f"      expected: {expected}",
            f"      answered: {one.answer}",
        ]
    more = len(report.edge_cases) - _MOST_CASES
    return [*lines, f"  {more} more are in --json"] if more > 0 else lines


def _samples(result: LLMData) -> list[str]:
    lines = []
    for sample in result.samples:
        lines.append(f"--- {sample.question_id} ({sample.kind})")
        lines += [f"[{role}]\n{text}" for role, text in sample.messages]
        lines.append(f"[assistant, to be learnt]\n{sample.completion}\n")
    return lines


def _findings(result: LLMData, estimate: bool, price: float) -> list[str]:
    report = result.report
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
    examples = f"{report.examples} examples of {report.questions} train questions ({kinds})"
    lines = [f"{examples}; {result.dev_examples} of dev"]
    noticed = {
        "train questions whose evidence retrieval missed, so that it was put into their prompts": result.inserted,
        "train questions that no chunk answers, so that they are left out": result.without_oracle,
        "examples from which distractors were taken so that they fit": result.trimmed,
        "edge cases among the train questions, which have further examples": result.edge_cases,
    }
    lines += [f"note: {text}: {count}" for text, count in noticed.items() if count]
    lines += [f"note: {note}" for note in result.notes]
    if report.questions < _FEW:
        lines.append(
            f"note: {report.questions} train questions are few, {_FEW} to {2 * _FEW} a usual start: "
            "`ragladder llm curve` predicts what doubling them would bring"
        )
    if result.teacher:
        lines.append(f"note: {result.teacher}")
    if report.tokens is not None:
        tokens = report.tokens
        lines.append(
            f"tokens an example: {tokens.median} in the middle, {tokens.p95} at 95%, {tokens.longest} at most; window "
            f"{tokens.window}; longest completion {tokens.longest_completion}; {tokens.total} an epoch"
        )
    for finding in report.findings:
        lines.append(f"{finding.severity:7}  {finding.check}: {finding.message}")
        lines += [f"           {example}" for example in finding.samples]
    if result.estimate is not None:
        cost = result.estimate
        money = f", {cost.money:.2f} at {price:g} an hour" if price else ""
        lines.append(
            f"estimate: {_duration(cost.seconds)} for {cost.steps} steps ({cost.examples_per_second:.3g} examples/s), "
            f"{cost.peak_memory / 2**30:.1f} GiB, {cost.trainable_parameters:,} parameters trained{money}"
        )
        lines += [f"the whole rung: {line}" for line in result.work]
    elif estimate:
        lines.append("estimate: not made, as this data cannot be trained on")
    return lines


def _training(result: LLMTraining) -> list[str]:
    training = result.training
    if result.before is None or result.after is None:
        lines = ["dev loss: not measured, as no dev example fits the window; the adapter of the last epoch is kept"]
    else:
        fell = "" if result.improved else ": it did not fall, so the adapter has learnt nothing that dev shows"
        lines = [f"dev loss: {result.before:.4f} before, {result.after:.4f} after{fell}"]
    when = "trained earlier," if result.reused else "trained"
    lines.append(
        f"{when} in {_duration(training['seconds'])} on {training['examples']} examples: {training['steps']} steps, "
        f"the adapter is that of step {training['best_step']}; {training['trainable_parameters']:,} of "
        f"{training['total_parameters']:,} parameters, {training['dtype']}"
    )
    if result.searched > 1:
        lines.append(f"the best of {result.searched} trainings by dev loss")
    return [*lines, *(f"note: {note}" for note in training["notes"]), f"adapter: {result.adapter}"]


def _prompt_changes(result: LLMTraining) -> list[str]:
    """Overrides that ask with the prompt that was trained."""
    import json

    return [f"{key}={json.dumps(value)}" for key, value in result.prompt_changes.items()]


def _curve(report: CurveReport) -> list[str]:
    lines = []
    for point in report.points:
        loss = "" if point["dev_loss"] is None else f", dev loss {point['dev_loss']:.4f}"
        lines.append(
            f"{point['share']:5.0%}  {point['questions']} questions, {point['examples']} examples: {report.metric} "
            f"{_mean(point[report.metric])}{loss}"
        )
    return [*lines, f"{report.advice.replace('_', ' ')}: {report.reason}"]


def _comparison(result: LLMComparison, rows: int) -> list[str]:
    one, edge = result.comparison, result.edge_cases
    interval = "" if one.low is None or one.high is None else f" (95% interval {one.low:+.4f} to {one.high:+.4f})"
    gain = "unknown" if one.difference is None else f"{one.difference:+.4f}{interval}"
    lines = [
        f"{result.metric} on dev: {_mean(one.incumbent)} base, {_mean(one.candidate)} adapter: {gain}; {one.wins} won, "
        f"{one.ties} tied, {one.losses} lost",
        f"edge cases: {len(edge['mended'])} of {len(edge['questions'])} that the base loses are mended; "
        f"{len(edge['newly_lost'])} others newly lost",
    ]
    for row in edge["answers"][:rows]:
        lines += [f"--- {row['question_id']} ({row['became']})", row["question"], f"reference: {row['reference']}"]
        for name, side in (("base", "before"), ("adapter", "after")):
            lines.append(f"{name} ({_mean(row[f'{side}_score'])}): {row[side]}")
            lines += [f"  {claim}" for claim in row.get(f"{side}_claims", ())]
    return lines if result.forgetting is None else [*lines, f"forgetting: {result.forgetting.sentence()}"]


def _mean(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
