"""Config files and data that come with the package."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from ..core.errors import DataError

__all__ = ["write_quickstart"]

_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*")


def write_quickstart(folder: Path) -> None:
    """Copies the quickstart (config, documents, questions, model) into a new folder.

    Raises:
        DataError: The folder is there already and not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not empty; name a new folder")
    with as_file(files("ragladder") / "configs") as source:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source / "quickstart", folder / "quickstart", ignore=_LEFT_OUT)
            shutil.copy(source / "quickstart.yaml", folder / "quickstart.yaml")
        except OSError as error:
            raise DataError(f"{folder}: the quickstart could not be written: {error.strerror or error}") from error
