"""LoRA adapters on disk: which base one belongs to, and putting it on that base."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from ..cache import JsonCache, digest
from ..components import Resources
from ..devices import fingerprint
from ..errors import DataError
from ..files import write_atomic

__all__ = ["check_base", "merged", "note_base"]

BASE_FILE = "base.json"  # beside the adapter's weights: which base they were trained on
# What an adapter depends on; a chat template or a card may be added to a base later.
_WEIGHTS = ("*.safetensors", "*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")  # the first that is there is the one that is read


def note_base(adapter: Path, base: Path) -> None:
    """Writes beside an adapter which base it belongs to, for `check_base`."""
    # no name: equal trainings are to give equal files, wherever the base lay
    note = {"weights": _weights(Path(base), None)}
    write_atomic(Path(adapter) / BASE_FILE, json.dumps(note, indent=1).encode())


def check_base(base: Path, adapter: Path, key: str = "adapter", resources: Resources | None = None) -> str:
    """Refuses an adapter that was trained on another base than the given one, as its note tells.

    Args:
        base: Folder of the base model.
        adapter: Folder of the adapter.
        key: Config key for messages.
        resources: Where the base's hash is remembered; without it a large base is read once a process.

    Returns:
        A doubt in words where the adapter holds no note (other tools write none); else nothing.

    Raises:
        DataError: The adapter is of another base, or its note cannot be read.
    """
    path = Path(adapter) / BASE_FILE
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _doubt(Path(base), Path(adapter))
    except ValueError:
        noted = None
    if not isinstance(noted, dict) or not noted.keys() & {"weights", "fingerprint"}:
        raise DataError(f"{key}: {path} is no note of a base: remove it, or train again")
    # adapters of earlier versions noted all files of the base
    now = _weights(Path(base), resources) if "weights" in noted else fingerprint(Path(base))
    if now != noted.get("weights", noted.get("fingerprint")):
        raise DataError(
            f"{key}: {adapter} was trained on another base than {base} (other weights or tokenizer): name the base "
            "that it belongs to, or train an adapter for this one"
        )
    return ""


def merged(model: Any, adapter: Path, key: str = "adapter") -> Any:
    """The model with an adapter added to its weights.

    Args:
        model: A causal language model; it is changed.
        adapter: Folder of the adapter.
        key: Config key for messages.

    Raises:
        DataError: The adapter's layers are not those of the model, or hold what is no number.
    """
    from peft import PeftModel

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            both: Any = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
        except Exception as error:  # peft raises errors of many kinds for files that do not fit
            raise _unfit(key, adapter, str(error)) from None
    lacking = next((str(one.message) for one in said if "missing adapter keys" in str(one.message)), "")
    if lacking:  # peft would go on with new weights in their place
        raise _unfit(key, adapter, lacking)
    try:
        return both.merge_and_unload(safe_merge=True)
    except ValueError as error:  # weights that are no numbers
        raise DataError(f"{key}: {adapter} cannot be merged: {error}") from None


def _unfit(key: str, adapter: Path, reason: str) -> DataError:
    first = reason.strip().split("\n")
    shown = " ".join(line.strip() for line in first[:2])
    shown = shown if len(shown) <= 300 else shown[:300] + " …"
    return DataError(f"{key}: {adapter} does not fit the model; it was trained on another base: {shown}")


def _weights(base: Path, resources: Resources | None) -> str:
    """sha256 over the base's weights and tokenizer; remembered by the files' paths, sizes and times of change."""
    files = sorted(path for pattern in _WEIGHTS for path in base.glob(pattern))
    if not files:
        raise DataError(f"base model: there are no weights in {base}")
    files += [path for name in _TOKENIZERS if (path := base / name).is_file()][:1]
    stats = [path.stat() for path in files]
    key = digest(["base", *([str(p.resolve()), s.st_size, s.st_mtime_ns] for p, s in zip(files, stats, strict=True))])
    cache = None if resources is None else JsonCache(resources.cache_dir / "fingerprints")
    known = {} if cache is None else cache.get_many([key])
    if key not in known:
        total = hashlib.sha256()
        for path in files:
            total.update(path.name.encode() + b"\0")
            with open(path, "rb") as handle:
                total.update(hashlib.file_digest(handle, "sha256").digest())
        known = {key: total.hexdigest()}
        if cache is not None:
            cache.put_many(known)
    return known[key]


def _doubt(base: Path, adapter: Path) -> str:
    """By names alone, which prove nothing: a base may be moved or renamed."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        named = str(config.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""
    own = base.parent.parent.name.rpartition("--")[2] if base.parent.name == "snapshots" else base.name
    last = named.rstrip("/").rpartition("/")[2]
    if not last or last.lower() == own.lower():
        return ""
    return f"the adapter {adapter.name} names '{named}' as its base: make sure that it is the model in {base}"
