"""Rerankers behind an HTTP endpoint: Cohere's, Jina's, or a text-embeddings-inference server (TEI)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ...core.cache import JsonCache, digest
from ...core.components import Resources, Settings
from ...core.errors import EndpointError
from ...core.http import Failure as NoAnswer
from ...core.http import JsonClient, Probe, api_key_from, check_base_url
from ...core.types import Hit, Status
from .order import reordered, shown
from .result import Failure, Reranked, whole

if TYPE_CHECKING:
    import httpx

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
        check_base_url(self.base_url)
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
        self._client = JsonClient(
            settings, "/rerank", api_key_from(settings.api_key_env, resources, "rerank.api_key_env")
        )

    def probe(self) -> Probe:
        """Whether the server answers: one short GET of its model list, without retries."""
        return self._client.probe(self._settings.model)

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

    def _send(self, todo: dict[str, tuple[str, list[str]]]) -> dict[str, Any]:
        """Scores, or the failure, by key; what was answered is kept also where another request raises."""
        if not todo:
            return {}
        stop = threading.Event()
        done: dict[str, Any] = {}

        def ask(item: tuple[str, tuple[str, list[str]]]) -> None:
            key, (question, texts) = item
            done[key] = self._ask(self._body(question, texts), len(texts), stop)

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

    def _ask(self, body: dict[str, Any], count: int, stop: threading.Event) -> dict[str, Any] | Failure:
        """Scores in the order of the passages; or the failure."""
        started = time.perf_counter()
        outcome = self._client.post(body, _parsed, stop)
        if not isinstance(outcome, NoAnswer):
            return self._scores(outcome["data"], count, time.perf_counter() - started)
        if outcome.unreachable:
            raise EndpointError(
                f"no connection to {self._client.url}: {outcome.detail}. Start the server or correct base_url; "
                f"{outcome.tries} tries were made."
            )
        status: Status = "timeout" if outcome.timed_out else "generation_error"
        return Failure(status, f"reranking endpoint: {outcome.detail}")

    def _scores(self, data: Any, count: int, seconds: float) -> dict[str, Any] | Failure:
        name = "score" if self._settings.style == "tei" else "relevance_score"
        try:
            results = data if self._settings.style == "tei" else data["results"]
            scores = {int(one["index"]): float(one[name]) for one in results}
            usage = data.get("usage") or {} if isinstance(data, dict) else {}
            tokens = int(usage.get("total_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("parse_error", f"reranking endpoint: the reply is not of style '{self._settings.style}'")
        if sorted(scores) != list(range(count)) or not all(math.isfinite(score) for score in scores.values()):
            return Failure("parse_error", f"reranking endpoint: the reply scores {len(scores)} of {count} passages")
        return {"scores": [scores[place] for place in range(count)], "tokens": tokens, "seconds": round(seconds, 4)}


def _parsed(response: httpx.Response) -> dict[str, Any] | NoAnswer:
    try:
        return {"data": response.json()}
    except ValueError:
        return NoAnswer("the reply is not JSON")
