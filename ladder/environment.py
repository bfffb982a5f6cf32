"""What a run ran on: versions, device, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .workbench import Workbench

__all__ = ["environment"]

_PACKAGES = [
    "ragladder",
    "torch",
    "transformers",
    "sentence-transformers",
    "peft",
    "trl",
    "llama-index-core",
    "qdrant-client",
    "faiss-cpu",
    "faiss-gpu",
    "ragas",
    "bm25s",
    "numpy",
    "scipy",
]


def environment(bench: Workbench) -> dict[str, Any]:
    """Versions, device and revision; no variable of the environment."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    import torch

    device = bench.resources.device
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device)
        if device.startswith("cuda")
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "packages": packages,
        "git_revision": _git_revision(bench.resources.base_dir),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _git_revision(folder: Path) -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
