"""Folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

__all__ = ["make_folder"]


def make_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder beside its place and moves it there; what another process put there meanwhile is kept.

    Args:
        folder: Where it is to be.
        fill: Called with an empty folder.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        try:
            os.replace(temporary, folder)
        except OSError:
            # Another process was first; what it made is the same.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
