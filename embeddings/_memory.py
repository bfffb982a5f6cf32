"""Memory of a training: how much was used."""

from __future__ import annotations

import sys

__all__ = ["peak_memory_mb", "reset_peak"]


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
