"""Embedders: texts to unit vectors.

    sentence_transformer  any model of the sentence-transformers library: a folder or a hub name; on torch, ONNX Runtime
                          or OpenVINO
    static                token vectors distilled from such a model and averaged: hundreds of times faster, less exact
    openai                a model behind any server with OpenAI's interface

`CachedEmbedder` wraps any of them, so that a text is encoded once whatever asks for it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.cache import digest
from ..core.components import Resources, Settings, component_section
from ..core.devices import fingerprint
from ..core.errors import ConfigError, DataError
from ._backends import CALIBRATION_TEXTS, Backend, Dtype, check_backend, use_backend
from ._embedder import Role, SentenceTransformerEmbedder, unit_vectors
from .cached import CachedEmbedder
from .endpoint import EndpointEmbedder, EndpointSettings
from .models import load_model, model_folder, pooling_note, position_limit
from .static import StaticSettings, distill

__all__ = [
    "EMBEDDERS",
    "CachedEmbedder",
    "EmbedSection",
    "EndpointEmbedder",
    "EndpointSettings",
    "Role",
    "SentenceTransformerEmbedder",
    "SentenceTransformerSettings",
    "StaticSettings",
    "distill",
    "model_folder",
    "unit_vectors",
]


class SentenceTransformerSettings(Settings):
    """A model of the sentence-transformers library."""

    cost: ClassVar[str] = (
        "about 15 chunks of 200 tokens a second and core (22 M parameters, fp32; bf16 about twice that)"
    )
    kind: Literal["sentence_transformer"] = "sentence_transformer"
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A folder with a saved model (a finetuned one, say), or a hub name, downloaded once."""
    query_prefix: str | None = None
    """Put before each query, for instance `query: ` for E5; null takes the model's own prompt. Costs its tokens."""
    document_prefix: str | None = None
    """Put before each chunk, for instance `passage: `; null takes the model's own prompt. Costs its tokens."""
    max_length: int | None = Field(default=None, ge=8)
    """Tokens of a text that are read, the rest is cut; null takes the model's own limit. Time grows with it."""
    batch_size: int = Field(default=32, ge=1)
    """Texts a forward pass: memory and speed only, never the result."""
    backend: Backend = "torch"
    """What runs the network: `torch`, or on CPUs `onnx` (ONNX Runtime) or `openvino`, which need their extra. The
    network is exported once, in seconds, and checked against torch. The embedding rung trains on torch whatever is set
    here."""
    dtype: Dtype = "fp32"
    """Precision of the network; vectors are fp32 always. `bf16` (torch, openvino) computes in half the bits: faster on
    GPUs and on CPUs with AVX512-BF16 or AMX, slower on CPUs without. `int8` (onnx, openvino) computes with 8-bit
    weights: it changes rankings, so compare it first. `benchmarks/encode.py` prints what each is worth on your
    machine."""
    calibration: str | None = None
    """For `int8` on openvino, which needs it: a file of texts like yours, one a line, whose first 300 set the scales of
    the activations. Costs their encoding, once; other texts are another model to the cache."""
    truncate_dim: int | None = Field(default=None, ge=1)
    """Keep the first so many dimensions: smaller index; harmless only for models trained for it (Matryoshka)."""
    normalize: bool = True
    """Scales vectors to length 1, so that scores are cosines. `false` keeps their lengths, for models trained with the
    dot product; costs nothing."""

    @model_validator(mode="after")
    def _backend_has_dtype(self) -> SentenceTransformerSettings:
        check_backend(self.backend, self.dtype, self.calibration)
        return self

    def on_torch(self) -> SentenceTransformerSettings:
        """The same model on torch, as it has to be trained: an exported network cannot be."""
        if self.backend == "torch":
            return self
        dtype = "bf16" if self.dtype == "bf16" else "fp32"
        return self.model_copy(update={"backend": "torch", "dtype": dtype, "calibration": None})

    def build(self, resources: Resources) -> SentenceTransformerEmbedder:
        """Loads the model.

        Raises:
            MissingExtra: The backend's runtime is not installed.
            ConfigError: The backend runs on CPUs only, and the device is none.
            DataError: No such model, no calibration texts, it cannot take `max_length` tokens or give `truncate_dim`
                dimensions, or its network cannot be exported.
        """
        folder = model_folder(self.model, resources)
        model = load_model(folder, resources.device)
        if self.normalize is False and _normalizes(model):
            raise ConfigError(
                f"embedder: normalize is false, but the model '{self.model}' normalises its vectors itself; "
                "leave normalize out"
            )
        if self.max_length is not None:
            limit = position_limit(model)
            if limit is not None and self.max_length > limit:
                raise DataError(
                    f"embedder: max_length is {self.max_length}, but the model '{self.model}' "
                    f"takes {limit} tokens at most"
                )
            model.max_seq_length = self.max_length
        full = model.get_embedding_dimension()
        if self.truncate_dim is not None and self.truncate_dim > full:
            raise DataError(
                f"embedder: truncate_dim is {self.truncate_dim}, but the model '{self.model}' gives {full} dimensions"
            )
        texts = self._calibration_texts(resources)
        use_backend(model, fingerprint(folder), self.backend, self.dtype, resources, str(folder), texts)
        prefixes = {"query": self.query_prefix, "document": self.document_prefix}
        # A runtime computes in its own precision.
        dtype = "bf16" if self.dtype == "bf16" and self.backend == "torch" else "fp32"
        return SentenceTransformerEmbedder(
            model,
            str(folder),
            prefixes,
            self.batch_size,
            dtype,
            self.truncate_dim,
            self.normalize,
            pooling_note(folder),
        )

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings that matter and the fingerprint of the weights, wherever they lie."""
        settings = self.model_dump(mode="json", exclude={"model", "batch_size", "calibration"})
        if self.calibration is not None:
            settings["calibration"] = digest(self._calibration_texts(resources))
        # Knobs that came later: as long as they change nothing, vectors kept from before stay valid.
        for name, plain in (("backend", "torch"), ("normalize", True)):
            if settings[name] == plain:
                del settings[name]
        return {**settings, "version": self.version, "weights": fingerprint(model_folder(self.model, resources))}

    def _calibration_texts(self, resources: Resources) -> list[str]:
        """The first texts of the file; none where none are needed.

        Raises:
            DataError: It cannot be read, or holds no text.
        """
        if self.calibration is None:
            return []
        path = resources.path(self.calibration)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"embedder: the calibration texts {path} cannot be read: {error}") from None
        texts = [line.strip() for line in lines if line.strip()][:CALIBRATION_TEXTS]
        if not texts:
            raise DataError(
                f"embedder: the calibration file {path} holds no text; put texts like yours there, one a line"
            )
        return texts


def _normalizes(model: Any) -> bool:
    from sentence_transformers.base.modules import Normalize

    return any(isinstance(module, Normalize) for module in model)


EMBEDDERS = (SentenceTransformerSettings, StaticSettings, EndpointSettings)
"""Settings of the built-in embedders."""

EmbedSection = component_section("embedder", *EMBEDDERS)
"""Type of a config field that takes an embedder."""
