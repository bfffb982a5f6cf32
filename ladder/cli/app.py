"""Puts the commands together and turns errors into sentences and exit codes."""

from __future__ import annotations

import os
import sys

import typer

from ...core.errors import RagladderError
from . import ask, check, climb, compare, doctor, eval, export, init, report, runs

__all__ = ["app", "main"]

app = typer.Typer(
    name="ragladder",
    help="Decide from measurements what to fix next in a RAG pipeline: retrieval knobs, the embedding model, or the LLM.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done (also when the gate says stop), 2 config, 3 data, 4 a step failed, 5 budget used up, 130 Ctrl-C.",
)

app.command("init")(init.init)
app.command("check")(check.check)
app.command("climb")(climb.climb)
app.command("report")(report.report)
app.add_typer(runs.app, name="runs")
app.command("ask")(ask.ask)
app.command("eval")(eval.evaluate)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Entry point of the `ragladder` command."""
    # Read at their first import, so set before anything heavy is imported.
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except RagladderError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
