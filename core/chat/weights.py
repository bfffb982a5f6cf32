"""Finds a model's folder, checks that it holds a model, and gives it a fingerprint that is remembered on disk."""

from __future__ import annotations

from pathlib import Path

from ..cache import JsonCache, digest
from ..components import Resources
from ..devices import fingerprint, locate_model
from ..errors import DataError

__all__ = ["resolve_adapter", "resolve_model", "weights_fingerprint"]

_WEIGHTS = ("*.safetensors", "*.bin")
_FETCHED = (*_WEIGHTS, "*.json", "*.txt", "*.model", "*.jinja", "*/config.json")


def resolve_model(name: str, resources: Resources, key: str = "model", revision: str | None = None) -> Path:
    """The folder of a model.

    Args:
        name: A folder, or the name of a model on the Hugging Face hub, fetched into its cache if need be.
        resources: Where relative paths start.
        key: Config key for messages.
        revision: Branch, tag or commit on the hub; not used for a folder.

    Raises:
        DataError: Neither a folder with a model nor a model of the hub.
    """
    try:
        place = locate_model(name, resources.base_dir)
    except DataError as error:
        raise DataError(f"{key}: {error}; it needs config.json and weights (*.safetensors or *.bin)") from None
    if not Path(place).is_dir():
        return _from_hub(place, key, revision)
    folder = Path(place)
    if not (folder / "config.json").is_file():
        raise DataError(f"{key}: '{name}' is no model: looked for config.json in {folder}")
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        raise DataError(f"{key}: '{name}' has no weights: looked for *.safetensors and *.bin in {folder}")
    return folder


def _from_hub(name: str, key: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FETCHED)))
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise DataError(
            f"{key}: '{name}' is neither a folder with a model nor one that could be fetched from the hub: {reason}"
        ) from None


def resolve_adapter(name: str, resources: Resources, key: str = "adapter") -> Path:
    """The folder of a LoRA adapter.

    Raises:
        DataError: Its two files are not there.
    """
    folder = resources.path(name)
    if not (folder / "adapter_config.json").is_file() or not any(folder.glob("adapter_model.*")):
        raise DataError(
            f"{key}: '{name}' is no adapter: looked for adapter_config.json and adapter_model.safetensors in {folder}"
        )
    return folder


def weights_fingerprint(folder: Path, resources: Resources) -> str:
    """The fingerprint of a model's weights, configs, tokenizer and chat template.

    It is remembered by the files' paths, sizes and times of change, so that a large model is read once, not once a run.

    Args:
        folder: The model's folder.
        resources: Where it is remembered (`cache_dir/fingerprints`).
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [path.stat() for path in files]
    key = digest([[str(p.resolve()), s.st_size, s.st_mtime_ns] for p, s in zip(files, stats, strict=True)])
    cache = JsonCache(resources.cache_dir / "fingerprints")
    known = cache.get_many([key])
    if key not in known:
        templates = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".jinja"]
        known = {key: digest([fingerprint(folder), templates])}
        cache.put_many(known)
    return known[key]
