"""Gives memory that training used back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["release_memory"]


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
