"""Memory: whether it ran out, giving it back to the system, and keeping no more than the last few of what was made."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LastFew", "out_of_memory", "release_memory"]

T = TypeVar("T")


class LastFew(Generic[T]):
    """What was made last, by key; the one that was asked for longest ago gives way."""

    def __init__(self, most: int) -> None:
        """Keeps so many."""
        self._most = most
        self._kept: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """What is kept by a key, made where it is not."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return self._kept[key]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: on a GPU, or in PyTorch's allocator on the CPU, which has no class."""
    import torch

    text = str(error)
    named = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return named or "not enough memory" in text or "can't allocate memory" in text


def release_memory() -> None:
    """Frees what nothing refers to any more, and asks the C library to return it.

    glibc keeps freed memory for itself: without this, two trainings in one process hold the sum of their peaks.
    """
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another C library, musl for instance: it has no such call
