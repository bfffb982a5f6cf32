"""A model's folder with its network for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, MissingExtra
from ragladder.embeddings.export import ExportedModel, export_model

TEXTS = ["how long is the door code", "press the amber button and wait until the lamp turns"]


def pooled(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean pooling and normalising, as the tiny model's other modules do."""
    summed = (tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return summed / np.linalg.norm(summed, axis=1, keepdims=True)


def check(found: ExportedModel, run: Any) -> None:
    """The exported network gives the vectors of the model that stands beside it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(found.folder, device="cpu")
    given = model.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
    inputs = {name: given[name].astype(np.int64) for name in found.inputs}
    expected = model.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(pooled(run(inputs), inputs["attention_mask"]), expected, atol=1e-4)


def test_onnx_runtime_gives_the_models_vectors(tiny_model: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    found = export_model(str(tiny_model), "onnx", "fp32", tmp_path / "out", Resources())
    assert found.files == ("model.onnx",)
    session = runtime.InferenceSession(str(tmp_path / "out" / "onnx" / "model.onnx"))
    check(found, lambda inputs: session.run(None, inputs)[0])
    with pytest.raises(DataError, match="not empty"):
        export_model(str(tiny_model), "onnx", "fp32", tmp_path / "out", Resources())


def test_openvino_gives_the_models_vectors(tiny_model: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    found = export_model(str(tiny_model), "openvino", "fp32", tmp_path / "out", Resources())
    (file,) = (name for name in found.files if name.endswith(".xml"))
    compiled = openvino.Core().compile_model(str(tmp_path / "out" / "openvino" / file), "CPU")
    check(found, lambda inputs: compiled(inputs)[0])


def test_a_missing_runtime_is_named_and_nothing_is_left(tiny_model: Path, tmp_path: Path) -> None:
    if find_spec("onnxruntime") is not None:
        pytest.skip("onnxruntime is installed")
    with pytest.raises(MissingExtra, match=r"pip install 'ragladder\[onnx\]'"):
        export_model(str(tiny_model), "onnx", "fp32", tmp_path / "out", Resources())
    assert not list(tmp_path.iterdir())


def test_a_backend_without_the_precision_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8 is for backend onnx"):
        export_model(str(tiny_model), "openvino", "int8", tmp_path / "out", Resources())
