"""Files and folders that are there whole or not at all, also after a crash."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

__all__ = ["sync", "sync_tree", "whole_folder", "write_atomic"]


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path, existing: Literal["refuse", "replace", "keep"] = "refuse") -> Iterator[Path]:
    """Gives an empty folder to fill, which becomes the target once it is filled and on disk.

    Args:
        target: The folder.
        existing: What becomes of one that is there with content by then: an error, it gives way, or it is kept (another
            process made the same).

    Raises:
        OSError: It has content and is to be refused, or the disk cannot be written.
    """
    temporary = _beside(target)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        sync_tree(temporary)
        if existing == "replace":
            shutil.rmtree(target, ignore_errors=True)
        elif existing == "refuse" and target.is_dir():
            target.rmdir()
        try:
            os.replace(temporary, target)
        except OSError:
            if existing != "keep" or not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Waits until all below a folder is on disk."""
    for directory, _, files in os.walk(folder):
        for name in files:
            sync(Path(directory) / name)
        sync(Path(directory))


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some file systems cannot sync folders; a disk that is full or broken must be heard of
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
