"""Sends one chat completion over HTTP, with retries; keeps the key out of everything that is shown."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import EndpointError
from ..types import Status
from .types import Probe

if TYPE_CHECKING:
    import httpx

    from .openai import OpenAIChatSettings

__all__ = ["HttpSender", "Reply"]

_AGAIN = {408, 409, 425, 429}
_FATAL = {
    401: "the key is missing or refused; check api_key_env",
    403: "the key may not use this model; check api_key_env and model",
    404: "no such address or model; check base_url and model",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What one call gave in the end."""

    text: str = ""
    status: Status = "ok"
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that failed and may be repeated; `wait` is what the server asked for, in seconds."""

    status: Status
    detail: str
    wait: float | None = None
    unreachable: bool = False


class HttpSender:
    """One connection pool to one endpoint; several threads may use it."""

    def __init__(self, settings: OpenAIChatSettings, api_key: Callable[[], str | None]) -> None:
        """Opens no connection yet.

        Args:
            settings: The endpoint.
            api_key: Gives the key, or None where none is sent.
        """
        self._settings = settings
        self._api_key = api_key
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._random = random.Random()  # only for the jitter, apart from any seed of a user
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def send(self, body: dict[str, Any], stop: threading.Event) -> Reply:
        """Sends one request until it is answered, the retries are used up, or `stop` is set.

        Raises:
            EndpointError: No connection, or an answer that will not change (401, 403, 404).
        """
        started = time.perf_counter()
        failure = _Failure("generation_error", "stopped before it was sent")
        for attempt in range(self._settings.retries + 1):
            if stop.is_set():
                break
            outcome = self._try(body)
            if isinstance(outcome, Reply):
                return Reply(
                    text=outcome.text,
                    status=outcome.status,
                    detail=outcome.detail,
                    prompt_tokens=outcome.prompt_tokens,
                    completion_tokens=outcome.completion_tokens,
                    seconds=time.perf_counter() - started,
                )
            failure = outcome
            pause = self._pause(attempt, failure.wait)
            if pause is None:
                detail = f"{failure.detail}; it asks to wait {failure.wait:.0f} s, above max_wait"
                failure = _Failure(failure.status, detail)
                break
            if attempt < self._settings.retries:
                stop.wait(pause)
        if failure.unreachable:
            raise EndpointError(
                f"no connection to {self._url}: {failure.detail}. Start the server or correct base_url; "
                f"{self._settings.retries + 1} tries were made."
            )
        return Reply(status=failure.status, detail=failure.detail, seconds=time.perf_counter() - started)

    def probe(self) -> Probe:
        """One short GET of the model list, without retries."""
        import httpx

        url = self._settings.base_url.rstrip("/") + "/models"
        try:
            timeout = min(self._settings.timeout, 5.0)
            response = self._http().get(url, headers=self._headers(), timeout=timeout)
        except httpx.TimeoutException:
            return Probe(False, f"{url} did not answer within {timeout:g} s")
        except httpx.HTTPError as error:
            return Probe(False, f"no connection to {url}: {self._clean(str(error))}")
        if response.status_code in (401, 403):
            return Probe(False, f"{url} answered {response.status_code}: {_FATAL[response.status_code]}")
        if response.status_code >= 500:
            return Probe(False, f"{url} answered {response.status_code}")
        names = _model_names(response)
        if names and self._settings.model not in names:
            shown = self._clean(", ".join(sorted(names)[:8]))
            return Probe(False, f"{url} answers, but lists no model '{self._settings.model}' (it lists {shown})")
        return Probe(True, f"{url} answers" + (f" and lists '{self._settings.model}'" if names else ""))

    def _try(self, body: dict[str, Any]) -> Reply | _Failure:
        import httpx

        try:
            response = self._http().post(self._url, json=body, headers=self._headers())
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Failure("generation_error", self._clean(str(error) or "timed out"), unreachable=True)
        except httpx.TimeoutException:
            return _Failure("timeout", f"no answer within {self._settings.timeout:g} s")
        except httpx.HTTPError as error:
            reason = self._clean(str(error) or type(error).__name__)
            return _Failure("generation_error", f"the connection failed: {reason}")
        code = response.status_code
        if code == 200:
            return self._read(response)
        said = self._said(response)
        if code in _AGAIN or code >= 500:
            return _Failure("generation_error", f"the server answered {code}{said}", _retry_after(response))
        if code in _FATAL:
            self._refuse(code, said)
        return Reply(status="generation_error", detail=f"the server answered {code}{said}")

    def _refuse(self, code: int, said: str) -> NoReturn:
        raise EndpointError(f"{self._url} answered {code}{said}: {_FATAL[code]}")

    def _read(self, response: httpx.Response) -> Reply | _Failure:
        try:
            data = response.json()
            choice = data["choices"][0]
            message = choice["message"]
            usage = data.get("usage") or {}
            read, wrote = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Failure("generation_error", "the answer is not the JSON of a chat completion")
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str):
            refusal = message.get("refusal") if isinstance(message, dict) else None
            detail = f"the model refused: {self._clean(str(refusal))}" if refusal else "the answer holds no text"
            return Reply(status="generation_error", detail=detail, prompt_tokens=read, completion_tokens=wrote)
        detail = "cut at max_tokens" if choice.get("finish_reason") == "length" else ""
        return Reply(text=text, detail=detail, prompt_tokens=read, completion_tokens=wrote)

    def _pause(self, attempt: int, asked: float | None) -> float | None:
        """Seconds to wait; None where the server asks for more than `max_wait`."""
        if asked is not None:
            return asked if asked <= self._settings.max_wait else None
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


def _model_names(response: httpx.Response) -> set[str]:
    try:
        return {str(entry["id"]) for entry in response.json()["data"]}
    except (ValueError, LookupError, TypeError):
        return set()
