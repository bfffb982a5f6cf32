"""Static embeddings: a vector a token, distilled from a sentence transformer, averaged over a text.

The recipe of model2vec (Tulkens and van Dongen, "Model2Vec: fast state-of-the-art static embeddings", 2024): each token
of the vocabulary goes through the model alone, PCA takes what all have in common out, and smooth inverse frequency
(Arora et al. 2017) by Zipf's law weights frequent tokens down. Encoding then costs about what tokenising does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..core.cache import digest
from ..core.components import Resources, Settings
from ..core.devices import fingerprint
from ..core.errors import DataError
from ..core.files import whole_folder
from ..core.quiet import quiet_libraries
from ._embedder import SentenceTransformerEmbedder
from .models import load_model, model_folder

__all__ = ["StaticSettings", "distill"]

_UNUSED = re.compile(r"\[unused\d+\]")
_BATCH = 1024


class StaticSettings(Settings):
    """Token vectors distilled from a sentence transformer, once, on this machine, and averaged over a text."""

    cost: ClassVar[str] = "distilled once in under a minute; then thousands of chunks a second"
    kind: Literal["static"] = "static"
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """The sentence transformer to distil: a folder or a hub name. Its vocabulary is passed through it once."""
    dimension: int = Field(default=256, ge=1)
    """Dimensions kept by PCA: fewer give a smaller index; at most those of the model."""
    sif_coefficient: float | None = Field(default=1e-4, gt=0)
    """a in the weight a/(a + p) of a token of probability p: smaller weights frequent words down more; null: none."""

    def build(self, resources: Resources) -> SentenceTransformerEmbedder:
        """Loads the static model, distilling it first where the cache lacks it.

        Raises:
            DataError: The model is not there, or does not suit.
        """
        folder = self._folder(resources)
        if not folder.is_dir():
            teacher = load_model(model_folder(self.model, resources), resources.device)
            distill(teacher, folder, self.dimension, self.sif_coefficient)
        # On the CPU whatever the device is: moving the tokens to a GPU takes longer than the averaging.
        return SentenceTransformerEmbedder(load_model(folder), str(folder), {"query": "", "document": ""}, 1024)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings and the fingerprint of the distilled model's teacher."""
        weights = fingerprint(model_folder(self.model, resources))
        return {**self.model_dump(mode="json", exclude={"model"}), "version": self.version, "weights": weights}

    def _folder(self, resources: Resources) -> Path:
        return resources.cache_dir / f"static-{digest(self.identity(resources))[:20]}"


def distill(teacher: Any, folder: Path, dimension: int = 256, sif_coefficient: float | None = 1e-4) -> None:
    """Distils a static model and saves it as a folder that `SentenceTransformer` loads.

    Args:
        teacher: A `SentenceTransformer` with a fast tokenizer.
        folder: Where to; there whole or not at all, and kept if another process was first.
        dimension: Dimensions kept by PCA.
        sif_coefficient: a of the weight a/(a + p); None for no weighting.

    Raises:
        DataError: The teacher has no fast tokenizer or fewer dimensions.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    fast = getattr(getattr(teacher, "tokenizer", None), "backend_tokenizer", None)
    if fast is None:
        raise DataError("embedder: a static model can be distilled only from a model with a fast tokenizer")
    if dimension > teacher.get_embedding_dimension():
        raise DataError(
            f"embedder: dimension is {dimension}, but the model gives {teacher.get_embedding_dimension()} dimensions"
        )
    tokenizer = Tokenizer.from_str(fast.to_str())
    # Saved tokenizers often cut and pad at the teacher's length; a mean has no such limit.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = _tokens_to_keep(teacher.tokenizer, tokenizer)
    vectors = _project(_token_vectors(teacher, tokenizer, ids), dimension)
    if sif_coefficient is not None:
        vectors *= _sif_weights(len(ids), sif_coefficient)[:, None]
    table = np.zeros((tokenizer.get_vocab_size(), dimension), dtype=np.float32)
    table[ids] = vectors

    with whole_folder(folder, "keep") as out, quiet_libraries():
        modules = [StaticEmbedding(tokenizer, embedding_weights=torch.from_numpy(table)), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(out), create_model_card=False)


def _tokens_to_keep(slow: Any, tokenizer: Any) -> np.ndarray:
    """Ids in order, without special tokens (but for the unknown one) and without unused places."""
    dropped = set(slow.all_special_ids) - {slow.unk_token_id}
    vocabulary = tokenizer.get_vocab()
    return np.array(sorted(i for token, i in vocabulary.items() if i not in dropped and not _UNUSED.fullmatch(token)))


def _token_vectors(teacher: Any, tokenizer: Any, ids: np.ndarray) -> np.ndarray:
    """What the teacher's pooling makes of each token alone between its special tokens, before any normalisation."""
    import torch
    from sentence_transformers.base.modules import Normalize

    example = tokenizer.encode("a")
    inside = [place for place, special in enumerate(example.special_tokens_mask) if not special]
    before, after = example.ids[: inside[0]], example.ids[inside[-1] + 1 :]
    rows = np.tile(np.array([*before, 0, *after]), (len(ids), 1))
    rows[:, len(before)] = ids
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            tokens = torch.from_numpy(rows[start : start + _BATCH]).to(teacher.device)
            features: dict[str, Any] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            for module in teacher.eval():
                if not isinstance(module, Normalize):
                    features = module(features)
            parts.append(features["sentence_embedding"].float().cpu().numpy())
    return np.concatenate(parts)


def _project(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """Principal components of the centred rows, shape (rows, dimension)."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    # The covariance is far smaller than the rows, and its eigenvectors are their right singular vectors.
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :dimension]
    # An eigenvector's sign is arbitrary: fix it, so that equal teachers give equal students.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return (centred @ axes).astype(np.float32)


def _sif_weights(count: int, coefficient: float) -> np.ndarray:
    """a/(a + p) of each token, p by Zipf's law from its rank in the vocabulary, mostly one of frequency."""
    inverse = 1.0 / np.arange(2, count + 2)
    return (coefficient / (coefficient + inverse / inverse.sum())).astype(np.float32)
