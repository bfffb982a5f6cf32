"""Memory: whether it ran out, and giving it back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["out_of_memory", "release_memory"]


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
