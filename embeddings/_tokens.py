"""Token vectors of long texts: a text beyond a model's window goes through it in overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ConfigError, DataError
from .models import position_limit

__all__ = ["TextTokens", "Windows", "check_token_vectors"]

TextTokens = tuple[np.ndarray, np.ndarray]
"""Vectors of a text's tokens, float32, shape (tokens, dimension), and their character offsets, shape (tokens, 2)."""

_AHEAD = 16  # texts whose windows are batched together, so that short texts do not go through the model one by one


def check_token_vectors(model: Any, source: str) -> None:
    """Checks that the mean of a model's token vectors is what it makes of a text.

    Args:
        model: A `SentenceTransformer`.
        source: What it is called in the message.

    Raises:
        DataError: It pools otherwise, changes the pooled vector, or has no fast tokenizer.
    """
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = list(model)
    pooling = next((module for module in modules if isinstance(module, Pooling)), None)
    if not isinstance(modules[0], Transformer) or pooling is None:
        raise DataError(f"{source}: it has no transformer and pooling, so it gives no token vectors (context: late)")
    if pooling.pooling_mode not in ("mean", ("mean",)):
        raise DataError(
            f"{source}: it pools by '{pooling.pooling_mode}'; context late needs a model that pools by the mean"
        )
    if any(not isinstance(module, (Transformer, Pooling, Normalize)) for module in modules):
        raise DataError(f"{source}: it changes vectors after pooling, which context late cannot repeat a chunk")
    if not getattr(model.tokenizer, "is_fast", False):
        raise DataError(f"{source}: it has no fast tokenizer, which context late needs for the tokens' offsets")


@dataclass(frozen=True)
class _Text:
    """A tokenised text: ids without the prefix, offsets, and the starts of its windows."""

    ids: list[int]
    offsets: np.ndarray
    starts: list[int]


class Windows:
    """Runs texts of any length through a model's transformer."""

    def __init__(self, model: Any, source: str, prefix: str, overlap: int, batch_size: int) -> None:
        """Works out the windows.

        Args:
            model: A `SentenceTransformer` that `check_token_vectors` accepts.
            source: What it is called in messages.
            prefix: Stands before the text in each window; its tokens give no vectors.
            overlap: Tokens that a window shares with the one before.
            batch_size: Windows a forward pass.

        Raises:
            ConfigError: The window is too small for the prefix and the overlap, or has no limit.
        """
        self._model, self._prefix, self._batch_size = model, prefix, batch_size
        self._tokenizer = model.tokenizer
        example = self._tokenizer("a", return_special_tokens_mask=True)
        inside = [place for place, special in enumerate(example["special_tokens_mask"]) if not special]
        ids = list(example["input_ids"])
        opening, self._after = ids[: inside[0]], ids[inside[-1] + 1 :]
        self._before = [*opening, *self._plain(prefix)["input_ids"]] if prefix else opening
        limit = model.max_seq_length or position_limit(model)
        if limit is None:
            raise ConfigError(f"{source}: the model names no limit of tokens; set embed.max_length for context late")
        self._size = limit - len(self._before) - len(self._after)
        if self._size <= overlap:
            raise ConfigError(
                f"context.overlap is {overlap} tokens, but a window of the model holds {max(self._size, 0)} "
                f"beside the prefix ({source}); lower context.overlap or raise embed.max_length"
            )
        self._step = self._size - overlap

    def run(self, texts: Sequence[str]) -> Iterator[TextTokens]:
        """Token vectors and offsets of each text, in order."""
        for at in range(0, len(texts), _AHEAD):
            group = [self._text(text) for text in texts[at : at + _AHEAD]]
            jobs = [(place, start) for place, text in enumerate(group) for start in text.starts]
            pieces = [group[place].ids[start : start + self._size] for place, start in jobs]
            found = dict(zip(jobs, self._forward(pieces), strict=True))
            for place, text in enumerate(group):
                vectors = _joined([found[place, start] for start in text.starts], text.starts, self._dimension)
                yield vectors, text.offsets

    @property
    def _dimension(self) -> int:
        return int(self._model.get_embedding_dimension())

    def _plain(self, text: str) -> Any:
        return self._tokenizer(
            text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
        )

    def _text(self, text: str) -> _Text:
        found = self._plain(text)
        count = len(found["input_ids"])
        starts = [*range(0, max(count - self._size, 0), self._step), max(count - self._size, 0)] if count else []
        offsets = np.asarray(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        return _Text(list(found["input_ids"]), offsets, list(dict.fromkeys(starts)))

    def _forward(self, pieces: list[list[int]]) -> list[np.ndarray]:
        import torch

        out: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(pieces)
        order = sorted(range(len(pieces)), key=lambda place: -len(pieces[place]))
        skipped = len(self._before)
        for at in range(0, len(order), self._batch_size):
            places = order[at : at + self._batch_size]
            rows = [[*self._before, *pieces[place], *self._after] for place in places]
            features = self._features(rows)
            with torch.inference_mode():
                vectors = self._model[0].eval()(features)["token_embeddings"].float().cpu().numpy()
            for row, place in enumerate(places):
                out[place] = vectors[row, skipped : skipped + len(pieces[place])]
        return out

    def _features(self, rows: list[list[int]]) -> dict[str, Any]:
        import torch

        width = max(len(row) for row in rows)
        ids = np.full((len(rows), width), self._tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        device = self._model.device
        features = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
        if "token_type_ids" in self._tokenizer.model_input_names:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        return features


def _joined(parts: list[np.ndarray], starts: list[int], dimension: int) -> np.ndarray:
    """One vector a token: where windows overlap, the earlier one's up to the middle, the later one's from there on."""
    if not parts:
        return np.zeros((0, dimension), dtype=np.float32)
    pieces = []
    begin = starts[0]
    for place, (part, start) in enumerate(zip(parts, starts, strict=True)):
        end = start + len(part)
        if place + 1 < len(starts):
            end = (starts[place + 1] + end) // 2
        pieces.append(part[begin - start : end - start])
        begin = end
    return np.concatenate(pieces)
