"""Query adapters: a matrix that moves query vectors towards the passages that answer them.

The embedder itself is not touched, so it may be a black box (an API, a static model), and the index stays as it is. A
query vector q becomes (q + q D) / |q + q D|; D starts at 0, so that training starts from the embedder as it is. It is
trained with InfoNCE on vectors that are encoded once. Sources: the linear adapters of llama-index, and Chroma's report
"Embedding adapters" (2023); the residual form as in Houlsby et al. (2019).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from ..core.cache import write_atomic
from ..core.components import Model
from ..core.errors import DataError, StageError
from ..core.progress import Reporter
from ..core.types import Embedder
from ._embedder import Role, unit_vectors
from .pairs import Pair

__all__ = [
    "AdaptedEmbedder",
    "AdapterResult",
    "QueryAdapter",
    "QueryAdapterSettings",
    "adapted",
    "adapter_fingerprint",
    "load_query_adapter",
    "train_query_adapter",
]

Encode = Callable[[Sequence[str], Role], np.ndarray]
WEIGHTS = "query_adapter.safetensors"
RESULT = "adapter.json"


class QueryAdapterSettings(Model):
    """How a query adapter is trained: seconds on a CPU, however large the embedder."""

    rank: int | None = Field(default=None, ge=1)
    """null: a full matrix of dimension x dimension; a number: the product of two narrow ones, with fewer weights to
    fit, which suits large dimensions and few pairs."""
    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    """Each is tried, and the best on dev kept: the right one depends on the embedder. Too high loses what it knows."""
    epochs: int = Field(default=30, ge=1)
    """Most passes over the pairs, each a fraction of a second; dev is scored after each."""
    patience: int | None = Field(default=5, ge=1)
    """Stop after so many epochs without a new best dev score; null: never."""
    batch_size: int = Field(default=64, ge=2)
    """Pairs a step, hence negatives a query: the positives of the others."""
    scale: float = Field(default=20.0, gt=0)
    """1/temperature of the loss: larger looks more at the hardest negatives."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Pulls the matrix to the embedder as it is: more forgets less and learns less."""
    seed: int = 0
    """Order of the pairs, and the start of a low-rank matrix."""

    @field_validator("learning_rates")
    @classmethod
    def _rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < rate < 1 for rate in value):
            raise ValueError("need one learning rate or more, each between 0 and 1")
        return tuple(sorted(set(value)))


@dataclass(frozen=True, eq=False)
class QueryAdapter:
    """A trained adapter.

    Attributes:
        delta: D, float32, shape (dimension, dimension).
    """

    delta: np.ndarray

    @property
    def dimension(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.delta.shape[0])

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Adapted query vectors, of unit length.

        Args:
            vectors: Shape (queries, dimension).

        Raises:
            DataError: They are of another dimension.
        """
        given = np.asarray(vectors, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != self.dimension:
            raise DataError(
                f"query adapter: it was trained for vectors of {self.dimension} dimensions, these have "
                f"{given.shape[-1]}; it belongs to another embedder, so train it anew or set query_adapter to null"
            )
        return unit_vectors(given + given @ self.delta, "the query adapter")

    def save(self, folder: Path) -> None:
        """Writes the adapter's file into a folder."""
        from safetensors.numpy import save

        write_atomic(folder / WEIGHTS, save({"delta": np.ascontiguousarray(self.delta, dtype=np.float32)}))


def load_query_adapter(folder: Path) -> QueryAdapter:
    """Reads what `train_query_adapter` saved.

    Raises:
        DataError: There is no adapter, or its file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise DataError(f"{folder}: there is no query adapter ({WEIGHTS}); train one, or set query_adapter to null")
    try:
        delta = load_file(path)["delta"]
    except (SafetensorError, KeyError, OSError) as error:
        raise DataError(f"{path}: not a query adapter ({error}); train it anew") from None
    if delta.ndim != 2 or delta.shape[0] != delta.shape[1] or not np.isfinite(delta).all():
        raise DataError(f"{path}: not a query adapter (its matrix has the shape {delta.shape}); train it anew")
    return QueryAdapter(delta)


def adapter_fingerprint(folder: Path) -> str:
    """sha256 of the adapter's weights, wherever they lie.

    Raises:
        DataError: There is no adapter.
    """
    return hashlib.sha256(load_query_adapter(folder).delta.tobytes()).hexdigest()


@dataclass(eq=False)
class AdaptedEmbedder:
    """An embedder whose query vectors go through an adapter; meets `core.types.Embedder`."""

    embedder: Embedder
    adapter: QueryAdapter

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.embedder.dimension

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """Unit vectors; those of documents are the embedder's own."""
        return adapted(self.embedder.encode, self.adapter)(texts, role)


def adapted(encode: Encode, adapter: QueryAdapter) -> Encode:
    """An `encode` whose query vectors go through the adapter."""

    def both(texts: Sequence[str], role: Role) -> np.ndarray:
        vectors = encode(texts, role)
        return adapter.apply(vectors) if role == "query" and len(texts) else vectors

    return both


class AdapterResult(Model):
    """What the training of an adapter gave."""

    base_score: float
    """Dev score of the embedder as it is."""
    best_score: float
    """Dev score of the adapter: chosen on dev, so a little too good to be true. Equal to the base's where none is
    better; the adapter then changes nothing."""
    learning_rate: float | None
    """The one that was best; null where the base is."""
    best_epoch: int
    """Its best epoch; 0 where the base is best."""
    tried: tuple[tuple[float, int, float], ...]
    """Learning rate, epoch and dev score of all that were compared."""
    pairs: int
    """Pairs trained on."""
    parameters: int
    """Weights of the adapter."""
    seconds: float
    """Wall-clock time, encoding included."""

    @property
    def improved(self) -> bool:
        """Whether it beats the embedder as it is."""
        return self.learning_rate is not None


def train_query_adapter(
    pairs: Sequence[Pair],
    encode: Encode,
    dev_evaluator: Callable[[Encode], float],
    settings: QueryAdapterSettings,
    out_dir: Path,
    reporter: Reporter | None = None,
) -> AdapterResult:
    """Trains an adapter on the vectors of an embedder, whatever it is.

    Args:
        pairs: Training pairs; their hard negatives are not looked at.
        encode: The embedder's; asked once for each text.
        dev_evaluator: Scores an `encode` on dev, higher being better.
        settings: How to train.
        out_dir: Gets the adapter and `adapter.json`.
        reporter: Where progress goes.

    Raises:
        DataError: There are fewer than two pairs, or all are alike.
        StageError: The loss or a dev score is not a finite number.
    """
    started = time.monotonic()
    reporter = reporter or Reporter(quiet=True)
    texts = {"questions": {p.query for p in pairs}, "passages": {p.positive for p in pairs}}
    alike = [name for name, there in texts.items() if len(there) < 2]
    if len(pairs) < 2 or alike:
        what = f"all {' and '.join(alike)} are the same text" if len(pairs) > 1 else f"{len(pairs)} training pairs"
        raise DataError(f"query adapter: {what}; two different pairs are needed at the least")
    memo = _Memo(encode)
    queries = memo([p.query for p in pairs], "query")
    passages = memo([p.positive for p in pairs], "document")
    codes = np.unique([p.positive for p in pairs], return_inverse=True)[1]

    def score(adapter: QueryAdapter) -> float:
        value = float(dev_evaluator(adapted(memo, adapter)))
        if not math.isfinite(value):
            raise StageError(f"query adapter: the dev evaluation gave {value}; it must give a finite number")
        return value

    best = QueryAdapter(np.zeros((queries.shape[1],) * 2, dtype=np.float32))
    base_score = best_score = score(best)
    chosen: tuple[float, int] | None = None
    tried: list[tuple[float, int, float]] = []
    for rate in settings.learning_rates:
        stale, top = 0, base_score
        for epoch, adapter in enumerate(_epochs(queries, passages, codes, rate, settings), 1):
            value = score(adapter)
            tried.append((rate, epoch, value))
            stale, top = (0, value) if value > top else (stale + 1, top)
            if value > best_score:
                best, best_score, chosen = adapter, value, (rate, epoch)
            if settings.patience is not None and stale >= settings.patience:
                break
    dimension = queries.shape[1]
    result = AdapterResult(
        base_score=base_score,
        best_score=best_score,
        learning_rate=chosen and chosen[0],
        best_epoch=chosen[1] if chosen else 0,
        tried=tuple(tried),
        pairs=len(pairs),
        parameters=dimension * dimension if settings.rank is None else 2 * dimension * settings.rank,
        seconds=round(time.monotonic() - started, 2),
    )
    best.save(Path(out_dir))
    write_atomic(Path(out_dir) / RESULT, result.model_dump_json(indent=1).encode())
    reporter.line(f"query adapter: dev {base_score:.4f} -> {best_score:.4f} in {result.seconds:.1f} s")
    return result


class _Memo:
    """Remembers the vectors of the last few lists of texts: dev is scored with the same ones again and again."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def __call__(self, texts: Sequence[str], role: Role) -> np.ndarray:
        key = (role, hash(tuple(texts)))
        if key not in self._kept:
            self._kept[key] = np.asarray(self._encode(texts, role), dtype=np.float32)
        return self._kept[key]


def _epochs(queries: np.ndarray, passages: np.ndarray, codes: np.ndarray, rate: float, settings: Any) -> Any:
    """The adapter after each epoch."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    generator = torch.Generator().manual_seed(settings.seed)
    dimension = queries.shape[1]
    factors = [torch.zeros(dimension, dimension)]
    if settings.rank is not None:
        narrow = torch.randn(dimension, settings.rank, generator=generator) / math.sqrt(dimension)
        factors = [narrow, torch.zeros(settings.rank, dimension)]
    for factor in factors:
        factor.requires_grad_(True)
    optimizer = torch.optim.AdamW(factors, lr=rate, weight_decay=settings.weight_decay)
    q, p, same = torch.from_numpy(queries), torch.from_numpy(passages), torch.from_numpy(codes)
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(q), generator=generator).split(settings.batch_size):
            delta = factors[0] if len(factors) == 1 else factors[0] @ factors[1]
            scores = settings.scale * normalize(q[batch] + q[batch] @ delta) @ p[batch].T
            # The same passage twice in a batch is no negative.
            twin = same[batch][:, None] == same[batch][None, :]
            twin.fill_diagonal_(False)
            loss = cross_entropy(scores.masked_fill(twin, -torch.inf), torch.arange(len(batch)))
            if not torch.isfinite(loss):
                raise StageError(f"query adapter: the loss is {loss.item()} at learning rate {rate:g}; lower it")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            delta = factors[0] if len(factors) == 1 else factors[0] @ factors[1]
        yield QueryAdapter(delta.detach().numpy().copy())
