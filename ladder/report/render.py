"""Fills the templates of this folder and writes pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...core.files import write_atomic
from . import charts, costs, figures, findings, flow, metric_words, provenance, sweep_charts, sweep_views, view, words
from .slices import SMALL

__all__ = ["write_page"]

_HERE = Path(__file__).parent
_MODULES = (words, metric_words, charts, figures, findings, flow, sweep_charts, sweep_views, costs, provenance, view)


def write_page(template: str, values: Mapping[str, Any], path: Path) -> Path:
    """Renders a template to a file, whole or not at all.

    Args:
        template: A file of this folder.
        values: What it shows, besides style, script and the functions of this package.
        path: Where to.

    Returns:
        The path.

    Raises:
        DataError: It cannot be written there.
    """
    scripts = {"js": _own("report.js"), "unpack_js": _own("unpack.js"), "zoom_js": _own("zoom.js")}
    own = {"css": _own("report.css"), "small": SMALL, "zoomable": False, **scripts}
    html = _template(template).render({**own, **values})
    # A lone surrogate, which UTF-8 cannot hold, becomes a question mark.
    try:
        write_atomic(path, html.encode("utf-8", "replace"))
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise DataError(f"{path}: the page cannot be written there: {error.strerror}; name another file") from None
    return path


def _template(name: str) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for module in _MODULES:
        environment.globals.update({name: getattr(module, name) for name in module.__all__})
    return environment.get_template(name)


def _own(name: str) -> Any:
    """A file of this folder, taken as it is: it is ours and holds nothing of the run."""
    from markupsafe import Markup

    return Markup((_HERE / name).read_text(encoding="utf-8"))
