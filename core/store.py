"""The stage store: every step's result is kept under the hash of all that determines it.

A stage is built at most once, by one process, in a temporary folder that is renamed when it is whole. So a result
that is there is complete, a kill loses at most the stage in hand, and what two runs share is computed once. With a
shared place (core/shared.py) what another machine finished is fetched from there, and what is finished here goes there.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from .cache import LastFew, digest
from .errors import StageError
from .files import sync, sync_tree
from .shared_store import DamagedStage, SharedStages

__all__ = ["Stage", "StageRecord", "Store"]

T = TypeVar("T")
RECORD = "stage.json"


@dataclass(frozen=True)
class Stage(Generic[T]):
    """One step and all that determines its result.

    Attributes:
        name: What the step is, for instance `chunk`.
        params: JSON values that determine the result: settings, file hashes, model fingerprints. Device, workers and
            batch size stay out.
        build: Called with an empty folder and the loaded results of `inputs`; writes files into the folder.
        load: Reads the result from the finished folder.
        inputs: Stages whose results this one needs.
        version: Raised when `build` gives another result for the same parameters.
    """

    name: str
    params: Mapping[str, Any]
    build: Callable[..., None] = field(repr=False)
    load: Callable[[Path], T] = field(repr=False)
    inputs: tuple[Stage[Any], ...] = field(default=(), repr=False)
    version: int = 1

    @cached_property
    def key(self) -> str:
        """sha256 over name, version, parameters and the inputs' keys."""
        return digest([self.name, self.version, dict(self.params), [stage.key for stage in self.inputs]])

    @property
    def folder_name(self) -> str:
        """Name of the stage's folder in a store."""
        return f"{self.name}-{self.key[:20]}"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What a store knows of a finished stage."""

    name: str
    key: str
    seconds: float
    folder: Path


class Store:
    """Finished stages in `root/stages`, with the loaded results of the latest ones kept in memory."""

    def __init__(
        self,
        root: Path,
        memory: int = 64,
        log: Callable[[str], None] | None = None,
        shared: SharedStages | None = None,
    ) -> None:
        """Opens a store.

        Args:
            root: Its folder; made when first written to.
            memory: How many loaded results stay in memory.
            log: Told of each stage that is built or fetched.
            shared: Where stages come from that are not in the folder, and where finished ones go.
        """
        self.root = Path(root)
        self._memory: LastFew[Any] = LastFew(memory)
        self._log = log or (lambda _: None)
        self._shared = shared

    def folder(self, stage: Stage[Any]) -> Path:
        """Where the stage's result is, or will be after `get`."""
        return self.root / "stages" / stage.folder_name

    def has(self, stage: Stage[Any]) -> bool:
        """True where the stage is finished, here or at the shared place.

        Raises:
            UnreachableError: The shared place cannot be read.
        """
        return self._here(stage) or self._elsewhere(stage)

    def _here(self, stage: Stage[Any]) -> bool:
        return (self.folder(stage) / RECORD).is_file()

    def _elsewhere(self, stage: Stage[Any]) -> bool:
        """Whether it can be fetched. Without its inputs, whose records are asked for too, it is no use."""
        if self._shared is None or self._shared.find(stage.folder_name, stage.key) is None:
            return False
        return all(self.has(parent) for parent in stage.inputs)

    def record(self, stage: Stage[Any]) -> StageRecord:
        """The record of a finished stage, its building time among it (also when it was built by an earlier run).

        Raises:
            StageError: The stage is not finished, or its record cannot be read.
            UnreachableError: The shared place cannot be read.
        """
        folder = self.folder(stage)
        if self._shared is not None and not self._here(stage):
            listing = self._shared.find(stage.folder_name, stage.key)
            if listing is not None:
                return StageRecord(stage.name, stage.key, listing.seconds, folder)
        try:
            data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            return StageRecord(data["name"], data["key"], data["seconds"], folder)
        except FileNotFoundError:
            raise StageError(f"stage '{stage.name}' is not finished: {folder}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable(stage, folder, error) from error

    def get(self, stage: Stage[T]) -> T:
        """The stage's result, fetched or built first if it is not there, its inputs before it.

        Raises:
            StageError: The store cannot be written, or the folder of a finished stage cannot be read.
            UnreachableError: The shared place cannot be read or written.
        """
        return self._memory.get(stage.key, lambda: self._loaded(stage))

    def _loaded(self, stage: Stage[T]) -> T:
        if not self._here(stage):
            self._make(stage)
        try:
            result = stage.load(self.folder(stage))
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(stage, self.folder(stage), error) from error
        if self._shared is not None:
            self._share(stage, self._shared)
        return result

    def _make(self, stage: Stage[Any]) -> None:
        try:
            if self._shared is not None and self._elsewhere(stage) and self._fetch(stage, self._shared):
                return
            inputs = [self.get(parent) for parent in stage.inputs]
            with self._lock(stage):
                if not self._here(stage):
                    self._build(stage, inputs)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StageError(
                    f"the disk is full: stage '{stage.name}' could not be written below {self.root}; free some space "
                    "and run the same command again (what is finished is kept)"
                ) from error
            raise

    @contextmanager
    def _lock(self, stage: Stage[Any]) -> Iterator[None]:
        locks = self.root / "locks"
        lock = FileLock(locks / f"{stage.folder_name}.lock")
        try:
            locks.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=1)
            except Timeout:
                self._log(f"{stage.name}: waiting for another process that computes it")
                lock.acquire()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                raise StageError(f"nothing can be written below {self.root}: {error.strerror}") from error
            raise
        try:
            yield
        finally:
            lock.release()

    def _build(self, stage: Stage[Any], inputs: list[Any]) -> None:
        self._log(f"{stage.name}: computing")
        with self._filling(stage) as folder:
            started = time.perf_counter()
            stage.build(folder, *inputs)
            record = {
                "name": stage.name,
                "version": stage.version,
                "key": stage.key,
                "params": dict(stage.params),
                "inputs": [parent.folder_name for parent in stage.inputs],
                "seconds": round(time.perf_counter() - started, 3),
            }
            (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")

    def _fetch(self, stage: Stage[Any], shared: SharedStages) -> bool:
        """Whether the stage is here now; what came damaged is told and left."""
        with self._lock(stage):
            if self._here(stage):
                return True
            self._log(f"{stage.name}: fetching from {shared.url}")
            try:
                with self._filling(stage) as folder:
                    shared.fetch(stage.folder_name, folder)
            except DamagedStage as error:
                self._log(f"{stage.name}: damaged at {shared.url} ({error}); computed again")
                return False
        return True

    def _share(self, stage: Stage[Any], shared: SharedStages) -> None:
        """Uploads a stage once; a note beside the stages spares asking again."""
        note = self.root / "shared" / shared.name / stage.folder_name
        if note.is_file():
            return
        with self._lock(stage):
            if note.is_file():
                return
            if shared.push(stage.folder_name, stage.key, self.record(stage).seconds, self.folder(stage)):
                self._log(f"{stage.name}: uploaded to {shared.url}")
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()

    @contextmanager
    def _filling(self, stage: Stage[Any]) -> Iterator[Path]:
        """A temporary folder that becomes the stage's when the block has filled it; the lock is held."""
        final = self.folder(stage)
        temporary = final.with_name(f".{final.name}.tmp")
        # A leftover is a killed build's: whoever holds the lock may remove it.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            sync_tree(temporary)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            # numpy says "2400 requested and 1520 written", without an error number, where the disk is full
            if isinstance(error, OSError) and error.errno is None and "requested and" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(final)) from error
            raise
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        sync(final.parent)


def _unreadable(stage: Stage[Any], folder: Path, error: Exception) -> StageError:
    return StageError(
        f"the result of stage '{stage.name}' cannot be read ({error!r}); delete {folder} and run the same command again"
    )
