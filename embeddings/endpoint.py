"""Embeddings of any server with OpenAI's interface: OpenAI itself, vLLM, TEI, llama.cpp, Ollama and others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue, model_validator

from ..core.chat import ChatBudget
from ..core.components import Resources, Settings
from ..core.errors import BudgetError, ConfigError, EndpointError
from ..core.http import Probe, api_key_from, check_base_url
from ._embedder import Role, unit_vectors
from ._endpoint_http import EmbeddingReply, EmbeddingSender

__all__ = ["EndpointEmbedder", "EndpointSettings"]


class EndpointSettings(Settings):
    """A model behind an OpenAI-compatible endpoint (`/embeddings`)."""

    cost: ClassVar[str] = "one call a batch, at the endpoint's price; each unique text once, then from the cache"
    kind: Literal["openai"] = "openai"
    base_url: str
    """Address up to the version, for instance `http://localhost:8000/v1`; `/embeddings` is added."""
    model: str
    """Model name as the server knows it. Vectors are kept under this name: a server that puts another model behind it
    must get another name here."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. None sends no key, as local servers need none."""
    query_prefix: str = ""
    """Put before each query, for instance `query: ` for E5. Costs its tokens."""
    document_prefix: str = ""
    """Put before each chunk, for instance `passage: `. Costs its tokens."""
    dimensions: int | None = Field(default=None, ge=1)
    """Asked of the server, which cuts vectors itself (OpenAI's text-embedding-3); another length is an error."""
    truncate_dim: int | None = Field(default=None, ge=1)
    """Keep the first so many dimensions: smaller index; harmless only for models trained for it (Matryoshka)."""
    max_characters: int | None = Field(default=None, ge=1)
    """Characters of a text that are sent, the rest is cut. null sends all of it; some servers cut it, others refuse."""
    batch_size: int = Field(default=64, ge=1, le=2048)
    """Texts a call. More is fewer calls; servers have a limit."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Calls in flight at once. More is faster until the server answers 429."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for one call."""
    retries: int = Field(default=4, ge=0)
    """Further tries after 408, 409, 429, 5xx, a timeout, a lost connection or an answer that is not JSON."""
    backoff: float = Field(default=1.0, ge=0)
    """Seconds before the first retry; doubled each time, plus up to a quarter at random. A `Retry-After` wins."""
    max_wait: float = Field(default=60.0, ge=0)
    """Longest wait between two tries, in seconds. A server that asks for a longer one is taken as failed."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of the request that this server understands, for instance `input_type`."""
    price_prompt: float = Field(default=0.0, ge=0)
    """Price of a million tokens; only for the budget."""
    budget: ChatBudget = ChatBudget()
    """Hard stop on tokens or money of one run. What was encoded until then is kept."""

    @model_validator(mode="after")
    def _usable(self) -> EndpointSettings:
        # checked on the whole model, so that a message never repeats a URL with a password in it
        check_base_url(self.base_url)
        if self.budget.money is not None and not self.price_prompt:
            raise ValueError("budget.money needs price_prompt")
        if self.dimensions and self.truncate_dim and self.truncate_dim > self.dimensions:
            raise ValueError(f"truncate_dim ({self.truncate_dim}) is above dimensions ({self.dimensions})")
        clash = set(self.extra_body) & {"model", "input", "dimensions", "encoding_format"}
        if clash:
            raise ValueError(f"extra_body must not set {', '.join(sorted(clash))}")
        return self

    def build(self, resources: Resources) -> EndpointEmbedder:
        """Makes the client; nothing is sent yet.

        Raises:
            ConfigError: The environment variable of the key is not set.
        """
        return EndpointEmbedder(self, api_key_from(self.api_key_env, resources, "embed.api_key_env"))

    def identity(self, resources: Resources) -> dict[str, Any]:
        """Endpoint, model and what is sent; not the key, the prices or how hard it tries."""
        kept = {"kind", "base_url", "model", "query_prefix", "document_prefix", "dimensions", "truncate_dim"}
        settings = self.model_dump(mode="json", include={*kept, "max_characters", "extra_body"})
        return {**settings, "version": self.version}


class EndpointEmbedder:
    """Encodes texts on a server; meets `core.types.Embedder`.

    Attributes:
        source: The model and where it is served.
    """

    def __init__(self, settings: EndpointSettings, api_key: Callable[[], str | None]) -> None:
        """Makes a client.

        Args:
            settings: The endpoint.
            api_key: Gives the key, or None where none is sent.
        """
        self.source = f"{settings.model} at {settings.base_url}"
        self._settings = settings
        self._sender = EmbeddingSender(settings, api_key)
        self._served: int | None = settings.dimensions
        self._tokens = 0
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Length of a vector; asks the server once where it is not known yet."""
        if self._served is None:
            self.encode(["dimension"], "query")
        return min(self._served or 0, self._settings.truncate_dim or self._served or 0)

    @property
    def tokens(self) -> int:
        """Tokens that this client has sent, as the server counts them."""
        return self._tokens

    def probe(self) -> Probe:
        """Whether the server answers, without encoding anything."""
        return self._sender.probe()

    def prefix(self, role: Role) -> str:
        """What is put before each text of a role."""
        return self._settings.query_prefix if role == "query" else self._settings.document_prefix

    def variant(self, role: Role) -> str:
        """All in which the roles differ: roles of equal variant give a text the same vector."""
        return self.prefix(role)

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """Vectors of texts.

        Args:
            texts: Any number.
            role: Which prefix they get.

        Returns:
            Unit vectors, float32, shape (len(texts), dimension).

        Raises:
            EndpointError: The server does not answer, refuses, or gives what does not fit.
            BudgetError: The budget is used up.
        """
        if not len(texts):
            return np.zeros((0, self.dimension), dtype=np.float32)
        settings, prefix = self._settings, self.prefix(role)
        # Servers refuse an empty text; a space says as little.
        sent = [(prefix + text)[: settings.max_characters] or " " for text in texts]
        batches = [sent[at : at + settings.batch_size] for at in range(0, len(sent), settings.batch_size)]
        vectors = np.concatenate(self._send_all(batches))
        return unit_vectors(vectors[:, : settings.truncate_dim], self.source)

    def _send_all(self, batches: list[list[str]]) -> list[np.ndarray]:
        body = {"model": self._settings.model, **self._settings.extra_body}
        if self._settings.dimensions is not None:
            body["dimensions"] = self._settings.dimensions
        stop = threading.Event()

        def send(batch: list[str]) -> np.ndarray:
            self._check_budget()
            return self._accepted(self._sender.send(body, batch, stop))

        pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="embed")
        try:
            running = [pool.submit(send, batch) for batch in batches]
            wait(running, return_when=FIRST_EXCEPTION)
            failed = next((f for f in running if f.done() and f.exception() is not None), None)
            if failed is not None:
                failed.result()
            return [future.result() for future in running]
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _accepted(self, reply: EmbeddingReply) -> np.ndarray:
        with self._lock:
            self._tokens += reply.tokens
            served, got = self._served, reply.vectors.shape[1]
            if served is None:
                self._served = served = got
        if got != served:
            asked = "asked for" if self._settings.dimensions else "given before"
            raise EndpointError(f"embedder: {self.source} gave {got} dimensions; {served} were {asked}")
        if self._settings.truncate_dim is not None and self._settings.truncate_dim > got:
            raise ConfigError(f"embedder: truncate_dim is {self._settings.truncate_dim}, but {self.source} gives {got}")
        return reply.vectors

    def _check_budget(self) -> None:
        budget, price = self._settings.budget, self._settings.price_prompt
        if budget.tokens is not None and self._tokens >= budget.tokens:
            raise BudgetError(
                f"embedder: budget.tokens is used up: {self._tokens:,} of {budget.tokens:,} tokens. What is encoded is "
                "kept; raise the budget and run again to go on"
            )
        spent = self._tokens * price / 1e6
        if budget.money is not None and spent >= budget.money:
            raise BudgetError(
                f"embedder: budget.money is used up: {spent:.4f} of {budget.money:.4f}. What is encoded is kept; raise "
                "the budget and run again to go on"
            )
