"""Runtimes in place of torch. Those that are not installed are skipped; the clear errors are not."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, MissingExtra, StageError
from ragladder.embeddings.encode import SentenceTransformerSettings

TEXTS = [
    "hold the button",
    "where is my parcel",
    "the battery of the robot is amber and the code is 4",
    "reset",
    "",
]


def st_settings(folder: Path, **values: object) -> SentenceTransformerSettings:
    return SentenceTransformerSettings.model_validate({"model": str(folder), **values})


def calibration(folder: Path) -> Path:
    path = folder / "calibration.txt"
    path.write_text("\n".join(text for text in TEXTS if text), encoding="utf-8")
    return path


def runtime(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")


@pytest.mark.parametrize(
    ("backend", "dtype", "near"),
    [
        pytest.param("onnx", "fp32", 1e-5, marks=[runtime("onnxruntime"), runtime("onnx")]),
        pytest.param("onnx", "int8", 0.05, marks=[runtime("onnxruntime"), runtime("onnx")]),
        pytest.param("openvino", "fp32", 1e-5, marks=runtime("openvino")),
        pytest.param("openvino", "bf16", 0.01, marks=runtime("openvino")),
        pytest.param("openvino", "int8", 0.05, marks=[runtime("openvino"), runtime("nncf")]),
    ],
)
@pytest.mark.filterwarnings("ignore")  # exporters warn of what they are replaced by
def test_a_runtime_gives_torchs_vectors_and_exports_once(
    tiny_model: Path, tmp_path: Path, backend: str, dtype: str, near: float
) -> None:
    resources = Resources(cache_dir=tmp_path / "cache")
    wanted = st_settings(tiny_model).build(resources).encode(TEXTS, "document")
    given = {"calibration": str(calibration(tmp_path))} if (backend, dtype) == ("openvino", "int8") else {}
    settings = st_settings(tiny_model, backend=backend, dtype=dtype, batch_size=2, **given)
    embedder = settings.build(resources)
    found = embedder.encode(TEXTS, "document")
    assert found.dtype == np.float32 and found.shape == wanted.shape
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert 1 - (found * wanted).sum(axis=1).min() < near
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.name.startswith(f"{backend}-")
    stamps = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    np.testing.assert_array_equal(settings.build(resources).encode(TEXTS, "document"), found)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == stamps
    tokens = next(iter(embedder.token_vectors([TEXTS[2]], 4)))[0]
    assert tokens.shape[1] == 32, "late chunking runs on it too"


@pytest.mark.parametrize(("backend", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(MissingExtra, match=rf"{backend}.*pip install 'ragladder\[{extra}\]'"):
        st_settings(tiny_model, backend=extra).build(Resources(cache_dir=tmp_path))


def test_a_dtype_that_a_backend_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="backend 'torch' has no dtype 'int8'; it has fp32 and bf16"):
        SentenceTransformerSettings(dtype="int8")
    with pytest.raises(ValidationError, match="backend 'onnx' has no dtype 'bf16'"):
        SentenceTransformerSettings(backend="onnx", dtype="bf16")


def test_calibration_texts_belong_to_int8_on_openvino_alone(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs 'calibration': a file of texts"):
        SentenceTransformerSettings(backend="openvino", dtype="int8")
    with pytest.raises(ValidationError, match="'calibration' is for backend 'openvino' with dtype 'int8' alone"):
        SentenceTransformerSettings(calibration="texts.txt")
    resources = Resources(cache_dir=tmp_path, base_dir=tmp_path)
    settings = st_settings(tiny_model, backend="openvino", dtype="int8", calibration="texts.txt")
    with pytest.raises(DataError, match=r"calibration texts .*texts\.txt cannot be read"):
        settings.identity(resources)
    (tmp_path / "texts.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="holds no text; put texts like yours there"):
        settings.build(resources)
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    first = settings.identity(resources)
    (tmp_path / "moved.txt").write_text("one\n\ntwo")
    moved = settings.model_copy(update={"calibration": "moved.txt"})
    assert moved.identity(resources) == first, "the texts count, not where they lie"
    (tmp_path / "texts.txt").write_text("one\nthree\n")
    assert settings.identity(resources) != first
    assert "calibration" not in st_settings(tiny_model).identity(resources), "vectors kept from before stay valid"
    assert settings.on_torch() == st_settings(tiny_model)


def test_training_goes_back_to_torch() -> None:
    there = SentenceTransformerSettings(backend="openvino", dtype="bf16", query_prefix="q: ")
    assert there.on_torch() == SentenceTransformerSettings(dtype="bf16", query_prefix="q: ")
    assert SentenceTransformerSettings(backend="onnx", dtype="int8").on_torch() == SentenceTransformerSettings()


def test_a_wrong_export_is_found_before_it_is_used(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from ragladder.embeddings import _backends
    from ragladder.embeddings.models import load_model

    model = load_model(tiny_model)

    class Shifted(torch.nn.Module):
        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            hidden = model[0].model(**inputs, return_dict=True).last_hidden_state
            return {"last_hidden_state": hidden.roll(1, dims=1)}

    with pytest.raises(StageError, match="gives other vectors than torch"):
        _backends._compare(model[0].model, Shifted(), model, "fp32", "it")


@runtime("onnxruntime")
@runtime("onnx")
def test_a_runtime_is_for_cpus(tiny_model: Path, tmp_path: Path) -> None:
    from ragladder.embeddings._backends import use_backend
    from ragladder.embeddings.models import load_model

    with pytest.raises(ConfigError, match="runs on the CPU, but the device is cuda"):
        resources = Resources(device="cuda", cache_dir=tmp_path)
        use_backend(load_model(tiny_model), "w", "onnx", "fp32", resources, "it")


@pytest.mark.gpu
def test_bf16_on_a_gpu_gives_the_cpus_neighbours(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    texts = [f"the {n} parcel is in locker {n % 7} of depot {n % 5}" for n in range(20_000)]
    cpu = st_settings(tiny_model).build(Resources()).encode(texts[:200], "document")
    embedder = st_settings(tiny_model, dtype="bf16", batch_size=1024).build(Resources(device="cuda"))
    gpu = embedder.encode(texts[:200], "document")
    assert (cpu * gpu).sum(axis=1).min() > 0.99
    torch.cuda.synchronize()
    started = time.perf_counter()
    embedder.encode(texts, "document")
    with capsys.disabled():
        print(f"\n{len(texts) / (time.perf_counter() - started):,.0f} texts/s at bf16, a model of two layers")
