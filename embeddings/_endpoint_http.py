"""Sends one batch of texts to an embeddings endpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import EndpointError
from ..core.http import REFUSED, Failure, JsonClient, ModelEndpoint, Probe

if TYPE_CHECKING:
    import httpx

__all__ = ["EmbeddingReply", "EmbeddingSender"]

_REFUSED = {
    **REFUSED,
    400: "the server refuses the request; check model, dimensions and max_characters",
    413: "the batch is too large for the server; lower batch_size or max_characters",
    422: "the server refuses the request; check model, dimensions and max_characters",
}


@dataclass(frozen=True, slots=True)
class EmbeddingReply:
    """Vectors of a batch, float32, shape (texts, dimension), and the tokens that the server counted."""

    vectors: np.ndarray
    tokens: int


class EmbeddingSender:
    """One embeddings endpoint; several threads may use it."""

    def __init__(self, settings: ModelEndpoint, api_key: Callable[[], str | None]) -> None:
        """Opens no connection yet.

        Args:
            settings: The endpoint.
            api_key: Gives the key, or None where none is sent.
        """
        self._model = settings.model
        self._client = JsonClient(settings, "/embeddings", api_key, _REFUSED, "embedder: ")

    def send(self, body: dict[str, Any], texts: Sequence[str], stop: threading.Event) -> EmbeddingReply:
        """Sends one batch until it is answered, the retries are used up, or `stop` is set.

        Raises:
            EndpointError: No answer, one that will not change, or one that does not fit the texts.
        """
        outcome = self._client.post(
            {**body, "input": list(texts)}, lambda response: self._read(response, len(texts)), stop
        )
        if isinstance(outcome, EmbeddingReply):
            return outcome
        why = f"no connection: {outcome.detail}" if outcome.unreachable else outcome.detail
        if outcome.timed_out:  # a busy server would never get through, however often it is asked
            why += "; for a slow server raise timeout, or lower batch_size and concurrency"
        raise EndpointError(
            f"embedder: {self._client.url}: {why} ({outcome.tries} tries). What is encoded is kept; start the server "
            "or correct the settings, and run the same command again"
        )

    def probe(self) -> Probe:
        """Whether the server answers: one short GET of its model list, without retries."""
        return self._client.probe(self._model)

    def _read(self, response: httpx.Response, count: int) -> EmbeddingReply | Failure:
        try:
            data = response.json()
            rows = data["data"]
            usage = data.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or usage.get("total_tokens") or 0)
            places = [int(row.get("index", place)) for place, row in enumerate(rows)]
            vectors = [np.asarray(row["embedding"], dtype=np.float32) for row in rows]
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("the answer is not the JSON of embeddings")
        if sorted(places) != list(range(count)):
            raise EndpointError(
                f"embedder: {self._client.url} gave {len(rows)} vectors for {count} texts; the server does not take "
                "batches as OpenAI's API does, or cuts them: lower batch_size"
            )
        lengths = {vector.shape for vector in vectors}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1 or not vectors[0].size:
            raise EndpointError(
                f"embedder: {self._client.url} gave vectors of unlike or no dimensions: {sorted(lengths)}"
            )
        ordered = np.empty((count, vectors[0].size), dtype=np.float32)
        for place, vector in zip(places, vectors, strict=True):
            ordered[place] = vector
        if not np.isfinite(ordered).all():
            raise EndpointError(
                f"embedder: {self._client.url} gave vectors that hold null or NaN in place of numbers; is its model "
                "one that embeds, and its pooling set (llama.cpp: --embeddings, --pooling)?"
            )
        return EmbeddingReply(ordered, tokens)
