"""Sends one chat completion over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import EndpointError
from ..http import Failure, JsonClient, Probe
from ..types import Status

if TYPE_CHECKING:
    import httpx

    from .openai import OpenAIChatSettings

__all__ = ["ChatSender", "Reply"]


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

    def __init__(self, settings: OpenAIChatSettings, api_key: Callable[[], str | None]) -> None:
        """Opens no connection yet.

        Args:
            settings: The endpoint.
            api_key: Gives the key, or None where none is sent.
        """
        self._settings = settings
        self._client = JsonClient(settings, "/chat/completions", api_key)

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
        return self._client.probe(self._lists_the_model)

    def _lists_the_model(self, response: httpx.Response, url: str) -> Probe:
        names = _model_names(response)
        if names and self._settings.model not in names:
            shown = self._client.clean(", ".join(sorted(names)[:8]))
            return Probe(False, f"{url} answers, but lists no model '{self._settings.model}' (it lists {shown})")
        return Probe(True, f"{url} answers" + (f" and lists '{self._settings.model}'" if names else ""))

    def _read(self, response: httpx.Response) -> Reply | Failure:
        try:
            data = response.json()
            choice = data["choices"][0]
            message = choice["message"]
            usage = data.get("usage") or {}
            read, wrote = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("the answer is not the JSON of a chat completion")
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str):
            refusal = message.get("refusal") if isinstance(message, dict) else None
            detail = f"the model refused: {self._client.clean(str(refusal))}" if refusal else "the answer holds no text"
            return Reply(status="generation_error", detail=detail, prompt_tokens=read, completion_tokens=wrote)
        detail = "cut at max_tokens" if choice.get("finish_reason") == "length" else ""
        return Reply(text=text, detail=detail, prompt_tokens=read, completion_tokens=wrote)


def _model_names(response: httpx.Response) -> set[str]:
    try:
        return {str(entry["id"]) for entry in response.json()["data"]}
    except (ValueError, LookupError, TypeError):
        return set()
