"""Memory of a training: what ran out, what was used, and the batch that fits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..core.distributed import world_size
from .pairs import Pair

__all__ = ["auto_batch_size", "out_of_memory", "peak_memory_mb", "reset_peak"]

_CPU_BATCH = 32
_LARGEST = 256


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


def auto_batch_size(run: Any, pairs: Sequence[Pair]) -> int:
    """Pairs a step that fit: 32 on a CPU; on a GPU the largest power of two up to 256 whose longest pairs fit.

    Several processes share these out, so the number is rounded down to a multiple of theirs.

    Args:
        run: The training: `model`, `settings`, `precision`, `resources`.
        pairs: What it trains on.
    """
    device = run.resources.device
    crowd = world_size()
    if not device.startswith("cuda"):
        return max(_CPU_BATCH // crowd, 1) * crowd
    import torch

    longest = sorted(pairs, key=lambda pair: -len(pair.positive))
    size = _LARGEST
    while size > 2:
        batch = [longest[n % len(longest)] for n in range(size)]
        texts = [text for pair in batch for text in (pair.positive, *pair.negatives)]
        try:
            features = {k: v.to(device) for k, v in run.model.preprocess(texts).items() if hasattr(v, "to")}
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=run.precision == "bf16"):
                run.model(features)["sentence_embedding"].sum().backward()
            # Room for the optimizer's two moments and the queries.
            free, total = torch.cuda.mem_get_info()
            if free > 0.1 * total:
                break
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        finally:
            run.model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        size //= 2
    size = max(size // crowd, 1) * crowd
    run.reporter.line(f"train embedder: batch_size auto is {size} here")
    return size
