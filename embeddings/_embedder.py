"""An embedder on a sentence-transformers model, and the making of unit vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from ..core.errors import StageError
from ..core.memory import out_of_memory
from ._tokens import TextTokens, Windows, check_token_vectors

__all__ = ["Role", "SentenceTransformerEmbedder", "unit_vectors"]

Role = Literal["query", "document"]


class SentenceTransformerEmbedder:
    """Encodes texts with a loaded `SentenceTransformer`; meets `core.types.Embedder`.

    Attributes:
        dimension: Length of a vector.
        source: Folder that the model came from.
        model: The `SentenceTransformer` itself.
        normalize: Whether vectors have length 1.
        note: What a user should know of the model; may be empty.
    """

    def __init__(
        self,
        model: Any,
        source: str = "",
        prefixes: Mapping[str, str | None] | None = None,
        batch_size: int = 32,
        dtype: Literal["fp32", "bf16"] = "fp32",
        truncate_dim: int | None = None,
        normalize: bool = True,
        note: str = "",
    ) -> None:
        """Makes an embedder.

        Args:
            model: A `SentenceTransformer`, on the device where it is to run.
            source: Folder that it came from.
            prefixes: By role what stands before a text; a missing one or None means the model's own prompt.
            batch_size: Texts a forward pass.
            dtype: `bf16` runs matrix products in bfloat16 (autocast); weights and results stay float32.
            truncate_dim: Keep the first so many dimensions of a vector.
            normalize: Scale vectors to length 1.
            note: What a user should know of the model.
        """
        self.model = model
        self.source = source
        self.note = note
        self.normalize = normalize
        self._given = dict(prefixes or {})
        self._batch_size = batch_size
        self._bf16 = dtype == "bf16"
        self._truncate_dim = truncate_dim
        full = int(model.get_embedding_dimension())
        self.dimension: int = min(full, truncate_dim) if truncate_dim else full

    def prefix(self, role: Role) -> str:
        """What is put before each text of a role: as set, else the model's own prompt, else nothing."""
        given = self._given.get(role)
        if given is not None:
            return given
        names = ("query",) if role == "query" else ("document", "passage", "corpus")
        prompts = self.model.prompts
        # sentence-transformers fills in empty prompts, which say nothing about the model.
        found = next((prompts[name] for name in names if prompts.get(name)), None)
        return found or prompts.get(self.model.default_prompt_name or "", "")

    def variant(self, role: Role) -> str:
        """All in which the roles differ: roles of equal variant give a text the same vector."""
        return f"{role}\0{self.prefix(role)}" if _routes_by_role(self.model) else self.prefix(role)

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """Vectors of texts.

        Args:
            texts: Any number; longer ones than the model takes are cut by it.
            role: Which prefix they get.

        Returns:
            Unit vectors (unless `normalize` is false), float32, shape (len(texts), dimension); zeros for a text
            without a token that a static model knows.

        Raises:
            StageError: A vector is not finite, or the device's memory is too small.
        """
        if not len(texts):
            return np.zeros((0, self.dimension), dtype=np.float32)
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        with self._running():
            vectors = encode(
                list(texts),
                prompt=self.prefix(role),
                batch_size=self._batch_size,
                show_progress_bar=False,
                truncate_dim=self._truncate_dim,
            )
        return unit_vectors(vectors, self.source or "the embedder", self.normalize)

    def token_vectors(self, texts: Sequence[str], overlap: int) -> Iterator[TextTokens]:
        """Vectors of all tokens of texts of any length, for late chunking (see `rag.late.TokenEmbedder`).

        A text beyond the model's window goes through it in windows; a token takes its vector from the window in which
        it stands further from the cut.

        Args:
            texts: Documents; the documents' prefix stands before each window.
            overlap: Tokens that a window shares with the one before.

        Yields:
            For each text its tokens' vectors, float32, shape (tokens, dimension), as they go into the mean pooling, and
            their character offsets, int64, shape (tokens, 2). Special tokens are left out.

        Raises:
            DataError: The model does not pool by the mean, or has no fast tokenizer.
            ConfigError: The overlap does not fit the model's window.
            StageError: The device's memory is too small.
        """
        source = self.source or "the embedder"
        check_token_vectors(self.model, source)
        windows = Windows(self.model, source, self.prefix("document"), overlap, self._batch_size)
        found = windows.run(texts)
        while True:
            with self._running():
                text = next(found, None)
            if text is None:
                return
            yield text[0][:, : self.dimension], text[1]

    @contextmanager
    def _running(self) -> Iterator[None]:
        """The precision asked for, and a clear word where memory runs out."""
        import torch

        try:
            with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self._bf16):
                yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise StageError(
                f"{self.source}: out of memory on {self.model.device} while encoding; lower the embedder's batch_size "
                f"(now {self._batch_size}) or its max_length"
            ) from error


def _routes_by_role(model: Any) -> bool:
    from sentence_transformers.base.modules import Router

    return any(isinstance(module, Router) for module in model)


def unit_vectors(vectors: Any, whose: str, normalize: bool = True) -> np.ndarray:
    """Vectors scaled to length 1 in float32; a row of zeros stays one.

    Args:
        vectors: Shape (rows, dimension).
        whose: For the message.
        normalize: False checks them and keeps their lengths.

    Raises:
        StageError: A value is NaN or infinite.
    """
    out = np.array(vectors, dtype=np.float32)
    lengths = np.linalg.norm(out, axis=1, keepdims=True)
    bad = int((~np.isfinite(lengths)).sum())
    if bad:
        raise StageError(
            f"{whose}: {bad} of {len(out)} vectors hold NaN or infinite values; the model's weights are damaged "
            "(a training that diverged?), or dtype bf16 does not suit it"
        )
    if normalize:
        np.divide(out, lengths, out=out, where=lengths > 0)
    return out
