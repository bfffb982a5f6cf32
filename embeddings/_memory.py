"""Memory of a training: whether it ran out, and how much was used."""

from __future__ import annotations

import sys

__all__ = ["out_of_memory", "peak_memory_mb", "reset_peak"]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: on a GPU, or in PyTorch's allocator on the CPU."""
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text or "can't allocate memory" in text


def reset_peak(device: str) -> None:
    """Starts counting the peak anew, where the device can."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb(device: str) -> float | None:
    """Most memory used, in MB: of the GPU since `reset_peak`, or of this process on a CPU; None where unknown."""
    if device.startswith("cuda"):
        import torch

        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
