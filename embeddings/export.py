"""Writes a model as a folder that ONNX Runtime or OpenVINO run, beside the weights of torch."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..core.components import Model, Resources
from ..core.devices import fingerprint
from ..core.errors import ConfigError, DataError
from ..core.files import whole_folder
from ._backends import use_backend
from .models import load_model, model_folder

__all__ = ["ExportedModel", "export_model"]


class ExportedModel(Model):
    """A model's folder with its network exported."""

    folder: str
    """A SentenceTransformer folder with the network in a folder of its own, `onnx` or `openvino`."""
    files: tuple[str, ...]
    """Files of the network, in that folder."""
    inputs: tuple[str, ...]
    """What the network takes, each int64 of shape (texts, tokens). It gives a vector a token; pooling and normalising
    are the other modules of the folder."""


def export_model(
    name: str,
    backend: Literal["onnx", "openvino"],
    dtype: Literal["fp32", "int8"],
    out: Path,
    resources: Resources,
) -> ExportedModel:
    """Copies a model and exports its network; the export is compared with torch before it is kept.

    Args:
        name: A folder or a hub name.
        backend: `onnx` or `openvino`.
        dtype: Of the weights; `int8`, which quantises them, is ONNX Runtime's alone.
        out: A new folder.
        resources: Where relative names start from. The export runs on the CPU whatever their device is.

    Raises:
        MissingExtra: The runtime is not installed.
        ConfigError: Backend and dtype do not go together.
        DataError: There is no such model, its network cannot be exported, or `out` is there already.
        StageError: The export gives other vectors than the network.
    """
    if (backend, dtype) == ("openvino", "int8"):
        raise ConfigError(
            "export: int8 is for backend onnx; OpenVINO's needs texts of yours, so it is made where it is used "
            "(embed: {backend: openvino, dtype: int8, calibration: FILE})"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"export: {out} is there already and not empty; name a new folder")
    folder = model_folder(name, resources)
    model = load_model(folder)
    inputs = tuple(n for n in ("input_ids", "attention_mask", "token_type_ids") if n in _taken(model))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        # A cache of its own: the one folder in it afterwards is the export.
        here = replace(resources, device="cpu", cache_dir=Path(scratch))
        use_backend(model, fingerprint(folder), backend, dtype, here, name)
        (made,) = (path for path in Path(scratch).iterdir() if path.is_dir())

        with whole_folder(out) as target:
            shutil.copytree(folder, target, dirs_exist_ok=True)
            shutil.copytree(made, target / backend, dirs_exist_ok=True)
    files = tuple(sorted(path.name for path in (out / backend).iterdir()))
    return ExportedModel(folder=str(out), files=files, inputs=inputs)


def _taken(model: Any) -> list[str]:
    return list(getattr(model.tokenizer, "model_input_names", ()))
