"""`ragladder data synth`: questions from documents."""

from __future__ import annotations

import json as json_module
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import Config, Json, Overrides, Quiet, Verbose, command

if TYPE_CHECKING:
    from ..synth import SynthOutcome, SynthPlan

__all__ = ["synth"]


def synth(
    config: Config,
    out: Annotated[Path, typer.Option(help="The .jsonl file to write; a report is written beside it.")] = Path(
        "synthetic.jsonl"
    ),
    n: Annotated[
        int | None, typer.Option(min=1, help="Questions wanted. Default: synth.n of the config.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Of single, multi, unanswerable, with commas. Default: synth.kinds.", show_default=False),
    ] = None,
    by: Annotated[
        Literal["auto", "llm", "extractive"] | None,
        typer.Option(help="Who writes. Default: synth.by.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it would cost; ask and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is not this command's.")] = False,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write questions from the config's documents and filter them. Killed, it goes on. Exit code 3: none passed."""
    from ...core.progress import Reporter
    from ..synth import plan_questions, synth_questions

    changes = {"n": n, "by": by, "kinds": _kinds(kind) if kind is not None else None}
    given = {name: value for name, value in changes.items() if value is not None}
    reporter = Reporter(quiet=quiet or json, verbose=verbose)
    if dry_run:
        plan = plan_questions(config, set_ or (), out, reporter, given)
        print(plan.model_dump_json(indent=1) if json else "\n".join(_plan_lines(plan)))
        return
    outcome = synth_questions(config, set_ or (), out, reporter, given, force)
    print(outcome.model_dump_json(indent=1) if json else "\n".join(_lines(outcome, config, out, set_)))
    if outcome.report.stopped:
        raise typer.Exit(5)
    if outcome.file is None:
        raise typer.Exit(3)


def _kinds(text: str) -> dict[str, float]:
    """The kinds named, in the shares that they have by default among themselves."""
    from ...core.errors import ConfigError
    from ...eval.synth import KINDS, SynthSettings

    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ConfigError(f"--kind {text}: there is no kind '{unknown[0]}'; there are {', '.join(KINDS)}")
    usual: dict[Any, float] = SynthSettings().kinds  # type: ignore[assignment]
    return {name: usual[name] for name in names}


def _plan_lines(plan: SynthPlan) -> list[str]:
    who = f"the LLM {plan.model}" if plan.writer == "llm" else "patterns (no LLM), fit for embedding training only"
    lines = [
        f"documents: {plan.documents}, with {plan.passages} passages",
        f"questions there already: {plan.existing}",
        "wanted: " + ", ".join(f"{count} {kind}" for kind, count in plan.wanted.items()),
        f"written by: {who}",
    ]
    if plan.writer == "llm":
        (few, many), (least, most) = plan.calls, plan.tokens
        lines.append(f"LLM calls: about {few} if all pass, at most {many}; about {least:,} to {most:,} tokens")
    return lines


def _lines(outcome: SynthOutcome, config: Path, out: Path, overrides: list[str] | None) -> list[str]:
    report = outcome.report
    by = "an LLM" if report.writer == "llm" else "patterns over headings and definitions, without an LLM"
    lines = [f"written by {by}; tag source: {report.source}", *report.lines(), f"report: {outcome.report_file}"]
    if report.stopped:
        lines.append(f"stopped: {report.stopped}; raise it and run the same command again to go on")
    if outcome.file is None:
        lines.append("no question passed: nothing was written; look at the counts above, and take a stronger LLM")
        return lines
    questions = f"data.questions={_value(os.path.relpath(out.absolute(), config.absolute().parent))}"
    lines.append(f"{outcome.file}: {report.kept} questions")
    lines.append(f"next: {command('data audit', config, [*(overrides or ()), questions])}")
    return lines


def _value(text: str) -> str:
    """A text as a YAML value; quoted only where YAML would read it as something else."""
    import yaml

    try:
        plain = yaml.safe_load(text) == text
    except yaml.YAMLError:
        plain = False
    return text if plain else json_module.dumps(text, ensure_ascii=False)
