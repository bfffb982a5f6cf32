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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from ..core.components import Model
from ..core.errors import DataError, StageError
from ..core.files import write_atomic
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
    _check_differ(pairs)
    memo = _Memo(encode)

    def score(adapter: QueryAdapter) -> float:
        value = float(dev_evaluator(adapted(memo, adapter)))
        if not math.isfinite(value):
            raise StageError(f"query adapter: the dev evaluation gave {value}; it must give a finite number")
        return value

    vectors = _Vectors.of(pairs, memo)
    unchanged = QueryAdapter(np.zeros((vectors.dimension, vectors.dimension), dtype=np.float32))
    base = best = _Candidate(unchanged, score(unchanged))
    tried = []
    for rate in settings.learning_rates:
        for candidate in _candidates(rate, vectors, settings, score, base.score):
            tried.append((rate, candidate.epoch, candidate.score))
            best = max(best, candidate, key=lambda one: one.score)  # of equals the earlier one
    result = AdapterResult(
        base_score=base.score,
        best_score=best.score,
        learning_rate=best.rate,
        best_epoch=best.epoch,
        tried=tuple(tried),
        pairs=len(pairs),
        parameters=vectors.dimension * (vectors.dimension if settings.rank is None else 2 * settings.rank),
        seconds=round(time.monotonic() - started, 2),
    )
    best.adapter.save(Path(out_dir))
    write_atomic(Path(out_dir) / RESULT, result.model_dump_json(indent=1).encode())
    reporter.line(f"query adapter: dev {base.score:.4f} -> {best.score:.4f} in {result.seconds:.1f} s")
    return result


def _check_differ(pairs: Sequence[Pair]) -> None:
    texts = {"questions": {p.query for p in pairs}, "passages": {p.positive for p in pairs}}
    alike = [name for name, there in texts.items() if len(there) < 2]
    if len(pairs) < 2 or alike:
        what = f"all {' and '.join(alike)} are the same text" if len(pairs) > 1 else f"{len(pairs)} training pairs"
        raise DataError(f"query adapter: {what}; two different pairs are needed at the least")


class _Memo:
    """Remembers the vectors of lists of texts: dev is scored with the same ones again and again."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def __call__(self, texts: Sequence[str], role: Role) -> np.ndarray:
        key = (role, hash(tuple(texts)))
        if key not in self._kept:
            self._kept[key] = np.asarray(self._encode(texts, role), dtype=np.float32)
        return self._kept[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Vectors:
    """What is trained on: a row a pair, and a number for each passage text, equal for equal ones."""

    queries: np.ndarray
    passages: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[Pair], encode: Encode) -> _Vectors:
        texts = [pair.positive for pair in pairs]
        codes = np.unique(texts, return_inverse=True)[1]
        return cls(encode([pair.query for pair in pairs], "query"), encode(texts, "document"), codes)

    @property
    def dimension(self) -> int:
        return int(self.queries.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """An adapter with its dev score; the embedder as it is has no learning rate."""

    adapter: QueryAdapter
    score: float
    rate: float | None = None
    epoch: int = 0


def _candidates(
    rate: float,
    vectors: _Vectors,
    settings: QueryAdapterSettings,
    score: Callable[[QueryAdapter], float],
    floor: float,
) -> Iterator[_Candidate]:
    """The adapter after each epoch, until patience with those no better than the floor or the best so far ends."""
    stale = 0
    for epoch, adapter in enumerate(_epochs(vectors, rate, settings), 1):
        value = score(adapter)
        yield _Candidate(adapter, value, rate, epoch)
        stale, floor = (0, value) if value > floor else (stale + 1, floor)
        if settings.patience is not None and stale >= settings.patience:
            return


def _epochs(vectors: _Vectors, rate: float, settings: QueryAdapterSettings) -> Iterator[QueryAdapter]:
    """The adapter after each epoch."""
    import torch

    generator = torch.Generator().manual_seed(settings.seed)
    factors = [torch.zeros(vectors.dimension, vectors.dimension)]
    if settings.rank is not None:
        narrow = torch.randn(vectors.dimension, settings.rank, generator=generator) / math.sqrt(vectors.dimension)
        factors = [narrow, torch.zeros(settings.rank, vectors.dimension)]
    for factor in factors:
        factor.requires_grad_(True)
    optimizer = torch.optim.AdamW(factors, lr=rate, weight_decay=settings.weight_decay)
    q, p, same = (torch.from_numpy(rows) for rows in (vectors.queries, vectors.passages, vectors.codes))
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(q), generator=generator).split(settings.batch_size):
            loss = _info_nce(q[batch], p[batch], same[batch], _product(factors), settings.scale)
            if not torch.isfinite(loss):
                raise StageError(f"query adapter: the loss is {loss.item()} at learning rate {rate:g}; lower it")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            yield QueryAdapter(_product(factors).detach().numpy().copy())


def _product(factors: Sequence[Any]) -> Any:
    return factors[0] if len(factors) == 1 else factors[0] @ factors[1]


def _info_nce(queries: Any, passages: Any, same: Any, delta: Any, scale: float) -> Any:
    """Each adapted query against the passages of the batch."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    scores = scale * normalize(queries + queries @ delta) @ passages.T
    # The same passage twice in a batch is no negative.
    twin = same[:, None] == same[None, :]
    twin.fill_diagonal_(False)
    return cross_entropy(scores.masked_fill(twin, -torch.inf), torch.arange(len(queries)))
