"""Sends one chat completion over HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import EndpointError
from ..http import Failure, JsonClient, ModelEndpoint, Probe
from ..types import Status

if TYPE_CHECKING:
    import httpx

__all__ = ["ChatSender", "Reply"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """What one call gave in the end."""

    text: str = ""
    status: Status = "ok"
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class ChatSender:
    """One chat endpoint; several threads may use it."""

    def __init__(self, settings: ModelEndpoint, api_key: Callable[[], str | None]) -> None:
        """Opens no connection yet.

        Args:
            settings: The endpoint.
            api_key: Gives the key, or None where none is sent.
        """
        self._settings = settings
        self._client = JsonClient(settings, "/chat/completions", api_key)
        self._doubted = False

    def send(self, body: dict[str, Any], stop: threading.Event) -> Reply:
        """Sends one request until it is answered, the retries are used up, or `stop` is set.

        Raises:
            EndpointError: No connection, or an answer that will not change (401, 403, 404).
        """
        started = time.perf_counter()
        outcome = self._client.post(body, self._read, stop)
        seconds = time.perf_counter() - started
        if isinstance(outcome, Reply):
            return replace(outcome, seconds=seconds)
        if outcome.unreachable:
            raise EndpointError(
                f"no connection to {self._client.url}: {outcome.detail}. Start the server or correct base_url; "
                f"{outcome.tries} tries were made."
            )
        status: Status = "timeout" if outcome.timed_out else "generation_error"
        return Reply(status=status, detail=outcome.detail, seconds=seconds)

    def probe(self) -> Probe:
        """One short GET of the model list, without retries."""
        return self._client.probe(self._settings.model)

    def _read(self, response: httpx.Response) -> Reply | Failure:
        try:
            data = response.json()
            choice = data["choices"][0]
            message = choice["message"]
            usage = data.get("usage") or {}
            read, wrote = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("the answer is not the JSON of a chat completion")
        self._check_model(data.get("model"))
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str):
            refusal = message.get("refusal") if isinstance(message, dict) else None
            detail = f"the model refused: {self._client.clean(str(refusal))}" if refusal else "the answer holds no text"
            return Reply(status="generation_error", detail=detail, prompt_tokens=read, completion_tokens=wrote)
        detail = "cut at max_tokens" if choice.get("finish_reason") == "length" else ""
        return Reply(text=text, detail=detail, prompt_tokens=read, completion_tokens=wrote)

    def _check_model(self, served: Any) -> None:
        """Says once that another model answers: servers of one model (llama.cpp) take any name in the request."""
        asked = self._settings.model
        if self._doubted or not isinstance(served, str) or not served:
            return
        # a hub name or a path stands before some names, a date or a tag after others
        if not any(short.lower() in long.lower() for short, long in ((asked, served), (served, asked))):
            self._doubted = True
            served = self._client.clean(served[:200])
            _log.warning(
                "%s was asked for '%s', and answers as '%s'; what it says is kept under '%s': check model",
                self._client.url,
                asked,
                served,
                asked,
            )
