"""Puts the commands together and turns errors into sentences and exit codes."""

from __future__ import annotations

import errno
import inspect
import os
import shlex
import sys
from typing import Annotated

import typer

from ...core.distributed import help_leader, is_main, leading
from ...core.errors import RagladderError, StageError
from . import (
    ask,
    check,
    climb,
    compare,
    components,
    configs,
    data,
    doctor,
    embed,
    eval,
    export,
    init,
    judge,
    llm,
    report,
    runs,
    sweep,
)
from .logs import third_party_logs

__all__ = ["app", "main"]

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)

app = typer.Typer(
    name="ragladder",
    help="Decide from measurements what to fix next in a RAG pipeline: "
    "retrieval knobs, the embedding model, or the LLM.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    # Plain help and usage errors: rich's take twice the time to import and colour what is piped.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    # After \b lines stay as they are.
    epilog="\b\nOn your own documents:\n  ragladder init mine --documents DOCS --questions QUESTIONS.csv\n"
    "  ragladder climb mine/ladder.yaml\n\n"
    "Exit codes: 0 done (also when the gate says stop), 2 config, 3 data, 4 a step failed, "
    "5 budget used up, 130 Ctrl-C.",
)


def _version(asked: bool) -> None:
    if asked:
        from ... import __version__

        print(f"ragladder {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# The short help is the line in `ragladder --help`; a command's own docstring would be cut there.
app.command("init", short_help="Start here: a folder from your documents, or from a template.")(init.init)
app.command("check", short_help="Validate everything and print the plan; run nothing.")(check.check)
app.command("climb", short_help="Climb the ladder, a gate after each rung.")(climb.climb)
app.command("sweep", short_help="Try many configurations on dev, and rank them.")(sweep.sweep)
app.command("report", short_help="Write report.html of a run again.")(report.report)
app.add_typer(runs.app, name="runs", short_help="List what was climbed, show a run, log it to a tracker.")
app.command("ask", short_help="Ask the pipeline that a run ended with.")(ask.ask)
app.command("eval", short_help="Score the pipeline of a config on one split.")(eval.evaluate)
app.command("compare", short_help="Compare two runs, question by question.")(compare.compare)
app.command("export", short_help="Write a run's pipeline as a folder that loads.")(export.export)
app.command("components", short_help="List what can stand in a config, with settings and cost.")(components.components)
app.add_typer(configs.app, name="configs")
app.command("doctor", short_help="Show what is installed and reachable.")(doctor.doctor)
app.add_typer(data.app, name="data", short_help="Import, write, audit and split questions.")
app.add_typer(judge.app, name="judge")
app.add_typer(embed.app, name="embed", short_help="Finetune the embedding model by itself.")
app.add_typer(llm.app, name="llm", short_help="The LLM rung by parts: prompts, data, LoRA, export.")


def _whole_sentences(group: typer.Typer) -> None:
    """Lists the commands of a group with a whole sentence each, where typer would cut it in the middle."""
    for command in group.registered_commands:
        if command.short_help is None and command.callback is not None:
            first = (inspect.getdoc(command.callback) or "").partition("\n\n")[0]
            command.short_help = " ".join(first.split()).split(". ")[0].removesuffix(".") + "."


for _group in app.registered_groups:
    if _group.typer_instance is not None:
        _whole_sentences(_group.typer_instance)


def main() -> None:
    """Entry point of the `ragladder` command."""
    # Read at their first import, so set before anything heavy is imported.
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    third_party_logs(verbose=False)
    if not is_main():  # one of several processes of torchrun: it helps the first to train
        sys.exit(help_leader())
    try:
        with leading():
            app()
    except RagladderError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno in _DENIED and error.filename:
            print(f"error: {error.filename}: {error.strerror}; mend that, or name another place", file=sys.stderr)
            sys.exit(StageError.exit_code)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" ({error.filename})" if error.filename else ""
        advice = "free some space and run the same command again (what is finished is kept)"
        print(f"error: the disk is full{where}; {advice}", file=sys.stderr)
        sys.exit(StageError.exit_code)
    except SystemExit as end:
        if end.code == 130:  # typer's exit for Ctrl-C
            again = shlex.join(["ragladder", *sys.argv[1:]])
            print(f"\nstopped; what is finished is kept; go on by the same command:\n  {again}", file=sys.stderr)
        raise
