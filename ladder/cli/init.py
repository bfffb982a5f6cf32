"""`ragladder init`: a folder to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["init"]


def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    template: Annotated[
        str, typer.Option(help="A config to start from, as `ragladder configs ls` lists them.")
    ] = "quickstart",
    documents: Annotated[
        Path | None,
        typer.Option(
            help="Your own folder of documents (Markdown, PDF, HTML, Word, …); needs --questions.", show_default=False
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Your own questions: a CSV with the columns question, answer and evidence (the passage that answers "
            "it, copied from the document), or JSONL.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a folder to start from: the quickstart with its documents, another template, or your own documents."""
    from ...core.errors import ConfigError

    if (documents is None) != (questions is None):
        raise ConfigError("--documents and --questions go together: name both, or neither")
    if documents is not None and questions is not None:
        from ..start import start_project

        if template != "quickstart":
            raise ConfigError("--template: with --documents the config is written for them; leave --template out")
        for line in start_project(folder, documents, questions):
            print(line)
        print(f"next: ragladder climb {shlex.quote(str(folder / 'ladder.yaml'))}")
        return
    from ..templates import write_template

    file = write_template(folder, template)
    if template == "quickstart":
        print(f"{folder} holds quickstart.yaml, its documents, questions and model")
        print(f"next: cd {shlex.quote(str(folder))} && ragladder climb {file.name}")
    else:
        print(f"{file}: put in your documents and questions, then")
        print(f"next: cd {shlex.quote(str(folder))} && ragladder check {file.name}")
