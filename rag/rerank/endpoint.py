"""Rerankers behind an HTTP endpoint: Cohere's, Jina's, or a text-embeddings-inference server (TEI)."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ...core.cache import JsonCache, digest
from ...core.components import Resources, Settings
from ...core.errors import ConfigError
from ...core.types import Hit
from .order import reordered, shown
from .result import Failure, Reranked, whole

if TYPE_CHECKING:
    from ...core.chat._http import Reply

__all__ = ["EndpointReranker", "EndpointRerankerSettings"]


class EndpointRerankerSettings(Settings):
    """A reranker behind an endpoint; replies are kept for good, so that equal questions and passages are paid once."""

    cost: ClassVar[str] = "one request a question, at the endpoint's price; repeated ones come from the cache"

    kind: Literal["endpoint"] = "endpoint"
    style: Literal["cohere", "jina", "tei"] = "jina"
    """Whose interface it speaks: `cohere` (API version 2), `jina` (vLLM and others speak it too), or `tei`."""
    base_url: str
    """Address without `/rerank`: `https://api.cohere.com/v2`, `https://api.jina.ai/v1`, `http://localhost:8080`."""
    model: str = ""
    """Model name as the server knows it; a TEI server has one model, and needs none."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. None sends no key, as local servers need none."""
    depth: int = Field(default=20, ge=1, le=1000)
    """Hits that are scored anew. More can bring up evidence from further down; the price may grow with it."""
    with_heading: bool = True
    """Shows the model the document's title and headings above the passage."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds to wait for one reply; after that the request is sent again, and at last has the status `timeout`."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Requests in flight at once. More is faster until the server answers 429."""
    retries: int = Field(default=4, ge=0)
    """Further tries after 408, 409, 429, 5xx, a timeout, a lost connection or a reply that is not JSON."""
    backoff: float = Field(default=1.0, ge=0)
    """Seconds before the first retry; doubled each time. A `Retry-After` wins."""
    max_wait: float = Field(default=60.0, ge=0)
    """Longest wait between two tries, in seconds."""

    @model_validator(mode="after")
    def _usable(self) -> EndpointRerankerSettings:
        # checked on the whole model, so that a message never repeats a URL with a password in it
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must start with http:// or https:// and name a host")
        if parts.username or parts.password:
            raise ValueError("base_url holds a user name or password; use api_key_env")
        if self.style != "tei" and not self.model:
            raise ValueError(f"style '{self.style}' needs a model")
        return self

    @property
    def reads_scores(self) -> bool:
        """The scores of retrieval are not read."""
        return False

    def build(self, resources: Resources) -> EndpointReranker:
        """Makes the client; nothing is sent yet.

        Raises:
            ConfigError: The key's environment variable is not set.
        """
        return EndpointReranker(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """Endpoint, model and what is sent; not the key or how hard it tries."""
        kept = {"kind", "style", "base_url", "model", "depth", "with_heading"}
        return {**self.model_dump(mode="json", include=kept), "version": self.version}


class EndpointReranker:
    """A client of one reranking endpoint.

    Attributes:
        depth: Hits that it wants to see.
    """

    def __init__(self, settings: EndpointRerankerSettings, resources: Resources) -> None:
        """Makes the client; see `EndpointRerankerSettings.build`."""
        self.depth = settings.depth
        self._settings = settings
        self._identity = {key: settings.identity(resources)[key] for key in ("style", "base_url", "model", "version")}
        self._cache = JsonCache(resources.cache_dir / "calls")
        name = settings.api_key_env
        if name is not None and not resources.env.get(name, "").strip():
            raise ConfigError(
                f"rerank.api_key_env: the environment variable {name} is not set; set it to the endpoint's key"
            )
        self._resources = resources

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Scores the first `depth` hits of each question anew; deeper ones are left out.

        Raises:
            StageError: It failed on a question; `attempt` goes on instead.
        """
        return whole(self.attempt(questions, hits))

    def attempt(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> Reranked:
        """As `rerank`; a question that fails has no hits, and its reason.

        Raises:
            EndpointError: No connection, the key is refused, or there is no such address.
        """
        tops = [list(row[: self.depth]) for row in hits]
        texts = [[shown(hit.chunk, self._settings.with_heading) for hit in row] for row in tops]
        keys = [digest([self._identity, question, some]) for question, some in zip(questions, texts, strict=True)]
        known = self._cache.get_many(keys)
        todo = {
            key: (question, some)
            for key, question, some in zip(keys, questions, texts, strict=True)
            if some and key not in known
        }
        replies = self._send(todo)
        failures: dict[int, Failure] = {}
        done: list[list[Hit]] = []
        for place, (key, row) in enumerate(zip(keys, tops, strict=True)):
            outcome = known.get(key) or replies.get(key) or {"scores": []}  # nothing is asked where there are no hits
            if isinstance(outcome, Failure):
                failures[place] = outcome
            done.append([] if isinstance(outcome, Failure) else reordered(row, outcome["scores"]))
        spent = [one for one in replies.values() if not isinstance(one, Failure)]
        return Reranked(
            done, failures, sum(one["seconds"] for one in spent), prompt_tokens=sum(one["tokens"] for one in spent)
        )

    def _key(self) -> str | None:
        """Reads the key when it is needed, so that no object of ours holds it."""
        name = self._settings.api_key_env
        return self._resources.env[name].strip() if name is not None else None

    def _send(self, todo: dict[str, tuple[str, list[str]]]) -> dict[str, Any]:
        """Scores, or the failure, by key; what was answered is kept also where another request raises."""
        if not todo:
            return {}
        sender = _sender(self._settings, self._key)
        stop = threading.Event()
        done: dict[str, Any] = {}

        def ask(item: tuple[str, tuple[str, list[str]]]) -> None:
            key, (question, texts) = item
            reply = sender.send(self._body(question, texts), stop)
            done[key] = self._read(reply, len(texts))

        pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="rerank")
        try:
            for future in [pool.submit(ask, item) for item in todo.items()]:
                future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._cache.put_many({key: one for key, one in done.items() if not isinstance(one, Failure)})
        return done

    def _body(self, question: str, texts: list[str]) -> dict[str, Any]:
        if self._settings.style == "tei":
            return {"query": question, "texts": texts, "truncate": True}
        body: dict[str, Any] = {"query": question, "documents": texts, "top_n": len(texts)}
        if self._settings.style == "jina":
            body["return_documents"] = False
        return {"model": self._settings.model, **body}

    def _read(self, reply: Reply, count: int) -> dict[str, Any] | Failure:
        if reply.status != "ok":
            return Failure(reply.status, f"reranking endpoint: {reply.detail}")
        name = "score" if self._settings.style == "tei" else "relevance_score"
        try:
            data = json.loads(reply.text)
            results = data if self._settings.style == "tei" else data["results"]
            scores = {int(one["index"]): float(one[name]) for one in results}
            usage = data.get("usage") or {} if isinstance(data, dict) else {}
            tokens = int(usage.get("total_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("parse_error", f"reranking endpoint: the reply is not of style '{self._settings.style}'")
        if sorted(scores) != list(range(count)) or not all(math.isfinite(score) for score in scores.values()):
            return Failure("parse_error", f"reranking endpoint: the reply scores {len(scores)} of {count} passages")
        ordered = [scores[place] for place in range(count)]
        return {"scores": ordered, "tokens": tokens, "seconds": round(reply.seconds, 4)}


def _sender(settings: EndpointRerankerSettings, key: Any) -> Any:
    """The sender of chat completions, with its retries and its care for the key, to another address."""
    from ...core.chat._http import HttpSender, Reply, _Failure

    class RerankSender(HttpSender):
        def __init__(self) -> None:
            like: Any = settings  # it has what the sender reads of a chat endpoint's settings
            super().__init__(like, key)
            self._url = settings.base_url.rstrip("/") + "/rerank"

        def _read(self, response: Any) -> Reply | _Failure:
            try:
                response.json()
            except ValueError:
                return _Failure("generation_error", "the reply is not JSON")
            return Reply(text=response.text)

    return RerankSender()
