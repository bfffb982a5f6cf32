"""Writes report.html: one file that needs no network, made from the run folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.cache import write_atomic
from . import charts, view, words
from .explorer import explorer_data, script_json
from .run_folder import read_run
from .slices import SMALL

__all__ = ["build_report"]

_HERE = Path(__file__).parent


def build_report(run_dir: Path) -> Path:
    """Makes the report of a run anew from its files.

    Args:
        run_dir: A folder that `ragladder climb` wrote. All but `ladder.json` may be missing; the report says what is.

    Returns:
        The path of `report.html` in the run folder.

    Raises:
        DataError: No such folder, no `ladder.json` in it, or a file that does not fit the contract.
    """
    run = read_run(Path(run_dir))
    index, details = explorer_data(run)
    html = _template().render(
        run=run,
        record=run.record,
        view=view.make_view(run),
        css=_own("report.css"),
        js=_own("report.js"),
        index=script_json(index),
        details=script_json(details),
        small=SMALL,
    )
    path = Path(run_dir) / "report.html"
    # A lone surrogate, which UTF-8 cannot hold, becomes a question mark.
    write_atomic(path, html.encode("utf-8", "replace"))
    return path


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for module in (words, charts, view):
        environment.globals.update({name: getattr(module, name) for name in module.__all__})
    return environment.get_template("report.html.j2")


def _own(name: str) -> Any:
    """A file of this folder, taken as it is: it is ours and holds nothing of the run."""
    from markupsafe import Markup

    return Markup((_HERE / name).read_text(encoding="utf-8"))
