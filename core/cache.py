"""Append-only caches of many small results, safe against kills and shared between processes; the last few in memory.

Each write makes one new segment file (written beside, then renamed), so a crash loses at most the segment in hand and
two processes never write the same file. Keys are hashes of all that determines a value; a value never changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from .errors import DataError
from .files import write_atomic

__all__ = ["JsonCache", "LastFew", "VectorCache", "canonical_json", "digest"]


T = TypeVar("T")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON, as 64 hexadecimal digits."""
    # surrogatepass: names of files that are not UTF-8 hold lone surrogates
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


class JsonCache:
    """Keys to JSON values."""

    def __init__(self, folder: Path) -> None:
        """Opens the cache in a folder, which need not exist yet."""
        self._folder = Path(folder)
        self._values: dict[str, Any] = {}
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values that are there; segments of other processes are picked up."""
        with self._lock:
            if any(key not in self._values for key in keys):
                self._refresh()
            return {key: self._values[key] for key in keys if key in self._values}

    def put_many(self, values: Mapping[str, Any]) -> None:
        """Adds values as one segment."""
        if not values:
            return
        lines = "".join(json.dumps([key, value], ensure_ascii=False) + "\n" for key, value in values.items())
        name = f"{uuid.uuid4().hex}.jsonl"
        with self._lock:
            write_atomic(self._folder / name, lines.encode("utf-8", "surrogatepass"))
            self._seen.add(name)
            self._values.update(values)

    def _refresh(self) -> None:
        for name in _segments(self._folder, ".jsonl", self._seen):
            path = self._folder / name
            try:
                with open(path, encoding="utf-8", errors="surrogatepass") as handle:
                    found = dict(json.loads(line) for line in handle)
            except FileNotFoundError:
                continue  # removed since it was listed: its values are computed again
            except (ValueError, TypeError) as error:
                raise _damaged(path, error) from error
            self._values.update(found)
            self._seen.add(name)


class VectorCache:
    """Keys to float32 vectors of one dimension; segments are memory-mapped `.npy` files beside a list of keys."""

    def __init__(self, folder: Path) -> None:
        """Opens the cache in a folder, which need not exist yet."""
        self._folder = Path(folder)
        self._where: dict[str, tuple[np.ndarray, int]] = {}
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys without a vector, each once, in order."""
        unique = list(dict.fromkeys(keys))
        with self._lock:
            if any(key not in self._where for key in unique):
                self._refresh()
            return [key for key in unique if key not in self._where]

    def get(self, keys: Sequence[str]) -> np.ndarray:
        """Vectors of the keys, shape (len(keys), dimension); KeyError for one that is missing."""
        with self._lock:
            if any(key not in self._where for key in keys):
                self._refresh()
            rows = [self._where[key] for key in keys]
        if not rows:
            return np.zeros((0, 0), dtype=np.float32)
        out = np.empty((len(rows), rows[0][0].shape[1]), dtype=np.float32)
        for position, (segment, row) in enumerate(rows):
            out[position] = segment[row]
        return out

    def put(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Adds vectors, shape (len(keys), dimension), as one segment.

        Raises:
            ValueError: There is not one row for each key, or a key holds a line break.
        """
        if not keys:
            return
        array = np.ascontiguousarray(vectors, dtype=np.float32)
        if array.ndim != 2 or len(array) != len(keys):
            raise ValueError(f"{len(keys)} keys need vectors of shape ({len(keys)}, dimension), got {array.shape}")
        if any("\n" in key for key in keys):
            raise ValueError("a key holds a line break")
        name = uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{name}.tmp"
        try:
            with open(temporary, "wb") as handle:
                np.save(handle, array)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, self._folder / f"{name}.npy")
        finally:
            temporary.unlink(missing_ok=True)
        write_atomic(self._folder / f"{name}.keys", "\n".join(keys).encode())
        with self._lock:
            self._load(f"{name}.keys")

    def _refresh(self) -> None:
        for name in _segments(self._folder, ".keys", self._seen):
            self._load(name)

    def _load(self, name: str) -> None:
        path = self._folder / name
        try:
            segment = np.load(path.with_suffix(".npy"), mmap_mode="r")
            keys = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return  # half of it, or all, was removed: its vectors count as missing
        except ValueError as error:
            raise _damaged(path.with_suffix(".npy"), error) from error
        if segment.ndim != 2 or len(segment) != len(keys):
            raise _damaged(path, f"{len(keys)} keys for vectors of shape {segment.shape}")
        self._where.update((key, (segment, row)) for row, key in enumerate(keys))
        self._seen.add(name)


def _damaged(path: Path, why: object) -> DataError:
    return DataError(f"the cache file {path} is damaged ({why}); delete it, and what it held is computed again")


def _segments(folder: Path, suffix: str, seen: set[str]) -> list[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(n for n in names if n.endswith(suffix) and not n.startswith(".") and n not in seen)


class LastFew(Generic[T]):
    """What was made last, by key; the one that was asked for longest ago gives way."""

    def __init__(self, most: int) -> None:
        """Keeps so many."""
        self._most = most
        self._kept: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """What is kept by a key, made where it is not."""
        found = self._kept[key] if key in self._kept else make()
        self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found
