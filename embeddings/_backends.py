"""Runs a sentence transformer's network by ONNX Runtime or OpenVINO in place of torch.

The network is exported once for its weights and kept below the cache folder; tokenising, pooling and normalising stay
the library's, in fp32. An export is compared with the original before it is used.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.cache import digest
from ..core.components import Resources
from ..core.errors import ConfigError, DataError, StageError, require
from ..core.files import whole_folder
from ..core.quiet import quiet_libraries

__all__ = ["CALIBRATION_TEXTS", "Backend", "Dtype", "check_backend", "use_backend"]

Backend = Literal["torch", "onnx", "openvino"]
Dtype = Literal["fp32", "bf16", "int8"]

_DTYPES: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
_VERSION = 1  # raised when an export is made otherwise
CALIBRATION_TEXTS = 300
"""Texts that OpenVINO's int8 is calibrated on, at the most."""
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Cosine of a token's vector with torch's, at the least: an export that lost the mask or fixed a length is far below.
_AGREEMENT = {"fp32": 0.999, "bf16": 0.98, "int8": 0.8}


def check_backend(backend: str, dtype: str, calibration: str | None = None) -> None:
    """Refuses a backend, a dtype and calibration texts that do not go together.

    Raises:
        ValueError: They do not.
    """
    if dtype not in _DTYPES[backend]:
        raise ValueError(f"backend '{backend}' has no dtype '{dtype}'; it has {' and '.join(_DTYPES[backend])}")
    static = (backend, dtype) == ("openvino", "int8")
    if static and calibration is None:
        raise ValueError("backend 'openvino' with dtype 'int8' needs 'calibration': a file of texts, one a line")
    if calibration is not None and not static:
        raise ValueError("'calibration' is for backend 'openvino' with dtype 'int8' alone; leave it out")


def use_backend(
    model: Any,
    weights: str,
    backend: Backend,
    dtype: Dtype,
    resources: Resources,
    source: str,
    calibration: Sequence[str] = (),
) -> None:
    """Puts a runtime in place of a model's torch network; the model cannot be trained after it.

    Args:
        model: A `SentenceTransformer` on the CPU.
        weights: Fingerprint of its folder: names the export.
        backend: `onnx` or `openvino`; `torch` changes nothing.
        dtype: Precision of the runtime.
        resources: Device and cache folder.
        source: What the model is called in messages.
        calibration: Texts whose activations set the scales of OpenVINO's int8; empty otherwise.

    Raises:
        MissingExtra: The runtime is not installed.
        ConfigError: The device is no CPU.
        DataError: The model's network cannot be exported.
        StageError: The export gives other vectors than the network.
    """
    if backend == "torch":
        return
    # torch's exporter imports onnx.
    for package in {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino",)}[backend]:
        require(package, backend, f"the embedder's backend '{backend}'")
    if calibration:
        require("nncf", "openvino-int8", "int8 on the embedder's backend 'openvino'")
    if resources.device != "cpu":
        raise ConfigError(
            f"embedder: backend '{backend}' runs on the CPU, but the device is {resources.device}; set the embedder's "
            "backend to torch (dtype bf16), or runtime.device to cpu"
        )
    network = _network(model, source)
    determined = [weights, backend, dtype == "int8", _VERSION, *([list(calibration)] if calibration else [])]
    folder = resources.cache_dir / f"{backend}-{digest(determined)[:20]}"
    if not folder.is_dir():
        with whole_folder(folder, "keep") as out:
            _export(network, model, backend, dtype, out, source, calibration)
    run: Any = _OnnxRun(folder) if backend == "onnx" else _OpenVinoRun(folder, dtype)
    runtime = _runtime_module(run, model[0].model.config)
    _compare(network, runtime, model, dtype, source)
    model[0].model = runtime
    # Worked out at loading from the torch network's signature.
    model[0].model_forward_params = None


def _network(model: Any, source: str) -> Any:
    from sentence_transformers.base.modules import Transformer

    first = model[0]
    text = getattr(first, "modality_config", {}).get("text", {}) if isinstance(first, Transformer) else {}
    if text.get("method") != "forward" or text.get("method_output_name") != "last_hidden_state":
        raise DataError(f"{source}: only the network of a text transformer can be exported; set backend to torch")
    return first.model.eval()


def _input_names(model: Any) -> list[str]:
    return [name for name in _INPUTS if name in model.tokenizer.model_input_names]


def _example(model: Any, texts: list[str]) -> dict[str, Any]:
    limit = min(model.max_seq_length or 128, 128)
    found = model.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    return {name: found[name] for name in _input_names(model)}


def _export(
    network: Any, model: Any, backend: str, dtype: str, out: Path, source: str, calibration: Sequence[str]
) -> None:
    import torch

    names = _input_names(model)

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: Any) -> Any:
            return self.network(**dict(zip(names, inputs, strict=True)), return_dict=True).last_hidden_state

    # Unlike lengths, so that the mask is not taken for a constant.
    example = _example(model, ["how long is this text", "short"])
    inputs = tuple(example[name] for name in names)
    try:
        with quiet_libraries(), warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            if backend == "onnx":
                _export_onnx(Hidden().eval(), inputs, names, dtype, out)
            else:
                samples = [_example(model, [text]) for text in calibration]
                _export_openvino(Hidden().eval(), inputs, names, out, samples)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{source}: its network cannot be exported for backend '{backend}' ({reason}); use torch"
        ) from error


def _export_onnx(hidden: Any, inputs: tuple[Any, ...], names: list[str], dtype: str, out: Path) -> None:
    import torch

    whole = out / ("fp32.onnx" if dtype == "int8" else "model.onnx")
    axes = {name: {0: "batch", 1: "tokens"} for name in [*names, "token_embeddings"]}
    # The exporter by tracing: seconds instead of half a minute, and no further package.
    torch.onnx.export(
        hidden,
        inputs,
        str(whole),
        input_names=names,
        output_names=["token_embeddings"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    if dtype == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        held = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it advises on the root logger, and so makes one that prints everybody's
        try:
            quantize_dynamic(str(whole), str(out / "model.onnx"), weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logging.disable(held)
        whole.unlink()


def _export_openvino(
    hidden: Any, inputs: tuple[Any, ...], names: list[str], out: Path, samples: list[dict[str, Any]]
) -> None:
    import openvino

    shapes: Any = [([-1, -1], openvino.Type.i64) for _ in names]
    converted = openvino.convert_model(hidden, example_input=inputs, input=shapes)
    for place, name in enumerate(names):
        converted.inputs[place].get_tensor().set_names({name})
    if samples:
        converted = _quantised(converted, samples)
    openvino.save_model(converted, str(out / "model.xml"), compress_to_fp16=False)


def _quantised(network: Any, samples: list[dict[str, Any]]) -> Any:
    """Static int8 by NNCF: weights, and activations with scales that the samples gave."""
    os.environ.setdefault("NNCF_CI", "1")  # read at its first import: it reports to its makers otherwise
    import nncf

    level = logging.getLogger("nncf").level
    nncf.set_log_level(logging.ERROR)
    try:
        arrays = [{name: tensor.numpy() for name, tensor in one.items()} for one in samples]
        dataset = nncf.Dataset(arrays)
        with redirect_stdout(io.StringIO()):  # its progress bars
            return nncf.quantize(network, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))
    finally:
        nncf.set_log_level(level or logging.INFO)


class _OnnxRun:
    def __init__(self, folder: Path) -> None:
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        path = str(folder / "model.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = {one.name for one in self._session.get_inputs()}

    def __call__(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._session.run(None, inputs)[0])


class _OpenVinoRun:
    def __init__(self, folder: Path, dtype: str) -> None:
        import openvino
        import torch

        hints = {
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch: batches come one after another
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._model: Any = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", hints)
        self.names = {name for one in self._model.inputs for name in one.get_names()}

    def __call__(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._model(inputs)[0])


def _runtime_module(run: Any, config: Any) -> Any:
    """A torch module that sentence-transformers takes for the network."""
    import torch

    class Runtime(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = config

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, **_: Any) -> dict[str, Any]:
            given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            inputs = {name: given[name].numpy() for name in run.names}
            return {"last_hidden_state": torch.from_numpy(run(inputs)).float()}

    return Runtime().eval()


def _compare(network: Any, runtime: Any, model: Any, dtype: str, source: str) -> None:
    """Both on texts of unlike lengths, one of them much longer than the example of the export."""
    import torch

    worst = 1.0
    long = "where is it and how long does it take, in days " * 3
    for texts in (["a", long], ["one text alone, without any padding"]):
        inputs = _example(model, texts)
        with torch.inference_mode():
            wanted = network(**inputs, return_dict=True).last_hidden_state.float()
            found = runtime(**inputs)["last_hidden_state"]
        cosine = torch.nn.functional.cosine_similarity(wanted, found, dim=-1)[inputs["attention_mask"].bool()]
        worst = min(worst, float(cosine.nan_to_num(-1.0).min()))
    if worst < _AGREEMENT[dtype]:
        raise StageError(
            f"{source}: the exported network gives other vectors than torch (cosine {worst:.3f} of a token's vector, "
            f"{_AGREEMENT[dtype]} at the least with dtype {dtype}); set the embedder's backend to torch"
        )
