"""Finding, loading and quietening sentence-transformers models; the only file that knows the library's odd corners."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..core.components import Resources
from ..core.devices import locate_model
from ..core.errors import DataError
from ..core.quiet import quiet_libraries

__all__ = ["load_cross_encoder", "load_model", "model_folder", "pooling_note", "position_limit"]

_OTHER_FORMATS = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.ot", "*.msgpack", "*.tflite", "*.gguf"]


def model_folder(name: str, resources: Resources) -> Path:
    """Folder with a model's files: one of this machine, the installed all-MiniLM-L6-v2, or a hub's (downloaded once).

    Args:
        name: As in the config: a path, or a hub name (without an owner, `sentence-transformers` is meant).
        resources: Their `base_dir` is where relative paths start from.

    Raises:
        DataError: There is none; the message says what was tried.
    """
    place = locate_model(name, resources.base_dir)
    if Path(place).is_dir():
        return Path(place)
    hub_name = place if "/" in place else f"sentence-transformers/{place}"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        with quiet_libraries():
            return Path(snapshot_download(hub_name, ignore_patterns=_OTHER_FORMATS, etag_timeout=10))
    except (OSError, ValueError, HFValidationError, RuntimeError) as error:
        offline = "HF_HUB_OFFLINE is set, and the hub's local cache lacks it"
        reason = offline if constants.HF_HUB_OFFLINE else _short(error)
    except Exception as error:  # the hub client's own network errors share no base class across its releases
        reason = _short(error)
    raise DataError(
        f"model '{name}' cannot be had. Tried: the folder {resources.path(name)} (not there); "
        f"'{hub_name}' on the model hub ({reason}). Name a folder with a saved model, or correct the name"
    )


def _short(error: BaseException) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:200]}" if first else type(error).__name__


def load_model(folder: Path, device: str = "cpu") -> Any:
    """Loads a SentenceTransformer in fp32 from a folder, without its progress bars.

    Raises:
        DataError: The folder holds no model that loads, or one that gives no text vectors.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with quiet_libraries():
        import torch
        from sentence_transformers import SentenceTransformer

        has_model = any((Path(folder) / file).is_file() for file in ("modules.json", "config.json"))
        try:
            if not has_model:
                raise OSError("neither modules.json nor config.json is there")
            model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, model_kwargs={"dtype": torch.float32}
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise DataError(
                f"{folder}: no sentence-transformers model can be loaded from there ({_short(error)})"
            ) from error
    _check_pooled(model, folder)
    return model


def _check_pooled(model: Any, folder: Path) -> None:
    """Refuses a model that ends with a vector a token."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

    if any(isinstance(module, Pooling | StaticEmbedding) for module in model):
        return
    # Other modules pool too (of images and texts, a user's own): what comes out tells.
    with torch.inference_mode():
        moved = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in model.preprocess(["a"]).items()}
        if "sentence_embedding" not in model(moved):
            raise DataError(
                f"{folder}: the model has no pooling, so it gives a vector a token and none a text; save it with a "
                "Pooling module of sentence-transformers"
            )


def pooling_note(folder: Path) -> str:
    """A word about a folder that holds a transformer alone, to which the library adds mean pooling; else empty."""
    if (Path(folder) / "modules.json").is_file():
        return ""
    return f"{folder} is a transformer without a pooling of its own; mean pooling is taken"


def position_limit(model: Any) -> int | None:
    """Most tokens that a SentenceTransformer's positions allow, special tokens included; None for no limit."""
    transformer = model.transformers_model
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    if table is not None and hasattr(table, "num_embeddings"):
        # RoBERTa and MPNet count positions from the padding index on.
        return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    limit = getattr(getattr(transformer, "config", None), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def load_cross_encoder(name: str, resources: Resources) -> Any:
    """Loads a `CrossEncoder` of one score from a folder or a hub name, in fp32.

    Raises:
        DataError: There is no such model, or it does not give one score a pair.
    """
    folder = model_folder(name, resources)
    with quiet_libraries():
        import torch
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(
                str(folder), device=resources.device, local_files_only=True, model_kwargs={"dtype": torch.float32}
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise DataError(f"{folder}: no cross-encoder can be loaded from there ({_short(error)})") from error
    if model.num_labels != 1:
        raise DataError(f"{folder}: the cross-encoder gives {model.num_labels} scores a pair; one is needed")
    return model
