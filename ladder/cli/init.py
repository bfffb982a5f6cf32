"""`ragladder init`: a folder to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ._show import print_json
from .options import Json

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
    json: Json = False,
) -> None:
    """Make a folder to start from: the quickstart with its documents, another template, or your own documents."""
    from ...core.errors import ConfigError

    if (documents is None) != (questions is None):
        raise ConfigError("--documents and --questions go together: name both, or neither")
    if documents is not None and questions is not None:
        from ..start import start_project

        if template != "quickstart":
            raise ConfigError("--template: with --documents the config is written for them; leave --template out")
        notes, config = start_project(folder, documents, questions), folder / "ladder.yaml"
        if json:
            print_json({"config": str(config), "notes": notes})
            return
        print("\n".join([*notes, f"next: ragladder climb {shlex.quote(str(config))}"]))
        return
    from ..templates import write_template

    file = write_template(folder, template)
    if json:
        print_json({"config": str(file), "notes": []})
        return
    if template == "quickstart":
        print(f"{folder} holds quickstart.yaml, its documents, questions and model")
        print(f"next: cd {shlex.quote(str(folder))} && ragladder climb {file.name}")
    else:
        print(f"{file}: put in your documents and questions, then")
        print(f"next: cd {shlex.quote(str(folder))} && ragladder check {file.name}")
