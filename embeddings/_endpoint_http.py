"""Sends one batch of texts to an embeddings endpoint, with retries; keeps the key out of everything that is shown.

The rules are those of the chat client (core/chat/_http.py): the same answers are tried again, the same ones are final.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.chat import Probe
from ..core.errors import EndpointError

if TYPE_CHECKING:
    import httpx

    from .endpoint import EndpointSettings

__all__ = ["EmbeddingReply", "EmbeddingSender"]

_AGAIN = {408, 409, 425, 429}
_FATAL = {
    400: "the server refuses the request; check model, dimensions and max_characters",
    401: "the key is missing or refused; check api_key_env",
    403: "the key may not use this model; check api_key_env and model",
    404: "no such address or model; check base_url and model",
    413: "the batch is too large for the server; lower batch_size or max_characters",
    422: "the server refuses the request; check model, dimensions and max_characters",
}


@dataclass(frozen=True, slots=True)
class EmbeddingReply:
    """Vectors of a batch, float32, shape (texts, dimension), and the tokens that the server counted."""

    vectors: np.ndarray
    tokens: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that may be repeated; `wait` is what the server asked for, in seconds."""

    detail: str
    wait: float | None = None


class EmbeddingSender:
    """One connection pool to one endpoint; several threads may use it."""

    def __init__(self, settings: EndpointSettings, api_key: Callable[[], str | None]) -> None:
        """Opens no connection yet.

        Args:
            settings: The endpoint.
            api_key: Gives the key, or None where none is sent.
        """
        self._settings = settings
        self._api_key = api_key
        self._url = settings.base_url.rstrip("/") + "/embeddings"
        self._random = random.Random()  # only for the jitter, apart from any seed of a user
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def send(self, body: dict[str, Any], texts: Sequence[str], stop: threading.Event) -> EmbeddingReply:
        """Sends one batch until it is answered, the retries are used up, or `stop` is set.

        Raises:
            EndpointError: No answer, one that will not change, or one that does not fit the texts.
        """
        failure = _Failure("stopped before it was sent")
        tries = 0
        for attempt in range(self._settings.retries + 1):
            if stop.is_set():
                break
            tries += 1
            outcome = self._try({**body, "input": list(texts)}, len(texts))
            if isinstance(outcome, EmbeddingReply):
                return outcome
            failure = outcome
            if failure.wait is not None and failure.wait > self._settings.max_wait:
                failure = _Failure(f"{failure.detail}; it asks to wait {failure.wait:.0f} s, above max_wait")
                break
            if attempt < self._settings.retries:
                stop.wait(self._pause(attempt, failure.wait))
        raise EndpointError(
            f"embedder: {self._url}: {failure.detail} ({tries} tries). What is encoded is kept; start the server or "
            "correct the settings, and run the same command again"
        )

    def probe(self) -> Probe:
        """Whether the server answers: one short GET of its model list, without retries."""
        import httpx

        url = self._settings.base_url.rstrip("/") + "/models"
        timeout = min(self._settings.timeout, 5.0)
        try:
            response = self._http().get(url, headers=self._headers(), timeout=timeout)
        except httpx.TimeoutException:
            return Probe(False, f"{url} did not answer within {timeout:g} s")
        except httpx.HTTPError as error:
            return Probe(False, f"no connection to {url}: {self._clean(str(error) or type(error).__name__)}")
        code = response.status_code
        if code in (401, 403):
            return Probe(False, f"{url} answered {code}: {_FATAL[code]}")
        return Probe(code < 500, f"{url} {'answers' if code < 500 else f'answered {code}'}")

    def _try(self, body: dict[str, Any], count: int) -> EmbeddingReply | _Failure:
        import httpx

        try:
            response = self._http().post(self._url, json=body, headers=self._headers())
        except httpx.TimeoutException:
            return _Failure(f"no answer within {self._settings.timeout:g} s")
        except httpx.HTTPError as error:
            return _Failure(f"no connection: {self._clean(str(error) or type(error).__name__)}")
        code = response.status_code
        if code == 200:
            return self._read(response, count)
        said = self._said(response)
        if code in _FATAL:
            raise EndpointError(f"embedder: {self._url} answered {code}{said}: {_FATAL[code]}")
        if code in _AGAIN or code >= 500:
            return _Failure(f"the server answered {code}{said}", _retry_after(response))
        raise EndpointError(f"embedder: {self._url} answered {code}{said}; check base_url")

    def _read(self, response: httpx.Response, count: int) -> EmbeddingReply | _Failure:
        try:
            data = response.json()
            rows = data["data"]
            usage = data.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or usage.get("total_tokens") or 0)
            places = [int(row.get("index", place)) for place, row in enumerate(rows)]
            vectors = [np.asarray(row["embedding"], dtype=np.float32) for row in rows]
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Failure("the answer is not the JSON of embeddings")
        if sorted(places) != list(range(count)):
            raise EndpointError(
                f"embedder: {self._url} gave {len(rows)} vectors for {count} texts; the server does not take batches "
                "as OpenAI's API does, or cuts them: lower batch_size"
            )
        lengths = {vector.shape for vector in vectors}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1 or not vectors[0].size:
            raise EndpointError(f"embedder: {self._url} gave vectors of unlike or no dimensions: {sorted(lengths)}")
        ordered = np.empty((count, vectors[0].size), dtype=np.float32)
        for place, vector in zip(places, vectors, strict=True):
            ordered[place] = vector
        return EmbeddingReply(ordered, tokens)

    def _pause(self, attempt: int, asked: float | None) -> float:
        if asked is not None:
            return asked
        pause = self._settings.backoff * 2**attempt * (1 + self._random.random() / 4)
        return min(pause, self._settings.max_wait)

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_connections=self._settings.concurrency)
                self._client = httpx.Client(timeout=self._settings.timeout, limits=limits)
            return self._client

    def _headers(self) -> dict[str, str]:
        key = self._api_key()
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def _said(self, response: httpx.Response) -> str:
        try:
            error = response.json()["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError):
            text = response.text
        text = " ".join(self._clean(text).split())
        return f" ('{text[:300]}')" if text else ""

    def _clean(self, text: str) -> str:
        key = self._api_key()
        return text.replace(key, "***") if key else text


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a `Retry-After` header, which may be a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
