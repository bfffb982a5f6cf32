"""One JSON endpoint over HTTP: retries with backoff, and a key that is kept out of everything that is shown."""

from __future__ import annotations

import email.utils
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from .components import Resources
from .errors import ConfigError, EndpointError

if TYPE_CHECKING:
    import httpx

__all__ = ["Failure", "JsonClient", "ModelEndpoint", "Patience", "Probe", "api_key_from", "check_base_url"]

T = TypeVar("T")
_AGAIN = {408, 409, 425, 429}
REFUSED: Mapping[int, str] = {
    401: "the key is missing or refused; check api_key_env",
    403: "the key may not use this model; check api_key_env and model",
    404: "no such address or model; check base_url and model",
    501: "this server does not do that; start it for it, or correct base_url",
}
"""Answers that will not change, and what to do about them."""
_CONNECT = 10.0  # seconds; a server that is there takes a connection at once, however long it then thinks
_TOO_LONG = (
    (
        ("physical batch size", "too large to process"),
        "send shorter texts (chunk.size, an embedder's max_characters), or start llama.cpp's server with a larger "
        "--ubatch-size",
    ),
    (
        ("context size", "context length", "context window"),
        "send less, or start the server with a longer context (llama.cpp: -c, which the slots of --parallel share)",
    ),
)
"""Words by which servers refuse what is too long, some of them with code 500; the same text is too long again."""


class Patience(Protocol):
    """What a client reads of an endpoint's settings."""

    @property
    def base_url(self) -> str: ...
    @property
    def timeout(self) -> float: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def backoff(self) -> float: ...
    @property
    def max_wait(self) -> float: ...


class ModelEndpoint(Patience, Protocol):
    """Likewise, of an endpoint that serves a model by name."""

    @property
    def model(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a model can be used, and why not."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no usable answer.

    Attributes:
        detail: What went wrong, without the key.
        wait: Seconds after which the server wants to be asked again.
        timed_out: No answer in time.
        unreachable: No connection.
        final: The same request would fail again, so it is not repeated.
        tries: How often it was sent.
    """

    detail: str
    wait: float | None = None
    timed_out: bool = False
    unreachable: bool = False
    final: bool = False
    tries: int = 0


def check_base_url(base_url: str) -> None:
    """Checks an endpoint's address; no message repeats it, for it may hold a password.

    Raises:
        ValueError: It is no HTTP address, or holds a user name or password.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must start with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise ValueError("base_url holds a user name or password; use api_key_env")


def api_key_from(name: str | None, resources: Resources, key: str) -> Callable[[], str | None]:
    """Reads a key when it is needed, so that no object of ours holds it.

    Args:
        name: The environment variable; None where no key is sent.
        resources: With the environment.
        key: The config key that names the variable, for messages.

    Raises:
        ConfigError: The variable is not set, or its value cannot be a key.
    """
    if name is None:
        return lambda: None
    value = resources.env.get(name, "").strip()
    if not value:
        raise ConfigError(f"{key}: the environment variable {name} is not set; set it to the endpoint's key")
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"{key}: the value of {name} holds characters that no key has")
    return lambda: resources.env[name].strip()


class JsonClient:
    """One connection pool to one address; several threads may use it.

    Attributes:
        url: The address.
    """

    def __init__(
        self,
        settings: Patience,
        path: str,
        api_key: Callable[[], str | None],
        refused: Mapping[int, str] = REFUSED,
        who: str = "",
    ) -> None:
        """Opens no connection yet.

        Args:
            settings: The endpoint, and how patient to be with it.
            path: Below `base_url`, for instance `/embeddings`.
            api_key: Gives the key, or None where none is sent.
            refused: Status codes that will not change, and what to do.
            who: Stands before the address in errors, for instance `embedder: `.
        """
        self.url = settings.base_url.rstrip("/") + path
        self._settings = settings
        self._api_key = api_key
        self._refused = refused
        self._who = who
        self._random = random.Random()  # only for the jitter, apart from any seed of a user
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def post(
        self, body: Mapping[str, Any], read: Callable[[httpx.Response], T | Failure], stop: threading.Event
    ) -> T | Failure:
        """Sends one request until it is answered, the retries are used up, or `stop` is set.

        Args:
            body: The request.
            read: Makes the result of an answer with code 200; a failure that is not final is asked for again.
            stop: Ends the waiting.

        Raises:
            EndpointError: An answer that will not change (`refused`).
        """
        failure = Failure("stopped before it was sent")
        for attempt in range(self._settings.retries + 1):
            if stop.is_set():
                break
            outcome = self._try(body, read)
            if not isinstance(outcome, Failure):
                return outcome
            failure = replace(outcome, tries=attempt + 1)
            if failure.final:
                break
            if failure.wait is not None and failure.wait > self._settings.max_wait:
                asked = f"{failure.detail}; it asks to wait {failure.wait:.0f} s, above max_wait"
                return replace(failure, detail=asked)
            if attempt < self._settings.retries:
                stop.wait(self._pause(attempt, failure.wait))
        return failure

    def probe(self, model: str = "") -> Probe:
        """One short GET of the model list, without retries.

        Args:
            model: The name that must be in the list, where the server has one; empty where any will do.
        """
        import httpx

        url = self._settings.base_url.rstrip("/") + "/models"
        timeout = min(self._settings.timeout, 5.0)
        try:
            response = self._http().get(url, headers=self._headers(), timeout=timeout)
        except httpx.TimeoutException:
            return Probe(False, f"{url} did not answer within {timeout:g} s")
        except httpx.HTTPError as error:
            return Probe(False, f"no connection to {url}: {self._unreached(error)}")
        code = response.status_code
        if code in (401, 403):
            return Probe(False, f"{url} answered {code}: {REFUSED[code]}")
        if code >= 500:
            return Probe(False, f"{url} answered {code}{self._said(response)}")
        if code != 200:
            return Probe(
                True,
                f"{url} answers {code}: it lists no models, so whether base_url and model are right "
                "shows at the first call",
            )
        names = _model_names(response)
        if names and model and not names & {model, f"{model}:latest"}:
            shown = self.clean(", ".join(sorted(names)[:8]))
            return Probe(False, f"{url} answers, but lists no model '{model}' (it lists {shown})")
        return Probe(True, f"{url} answers" + (f" and lists '{model}'" if names and model else ""))

    def clean(self, text: str) -> str:
        """A text without the key."""
        key = self._api_key()
        return text.replace(key, "***") if key else text

    def _try(self, body: Mapping[str, Any], read: Callable[[httpx.Response], T | Failure]) -> T | Failure:
        import httpx

        try:
            response = self._http().post(self.url, json=dict(body), headers=self._headers())
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Failure(self._unreached(error), unreachable=True)
        except httpx.TimeoutException:
            return Failure(f"no answer within {self._settings.timeout:g} s", timed_out=True)
        except httpx.HTTPError as error:
            return Failure(f"the connection failed: {self.clean(str(error) or type(error).__name__)}")
        code = response.status_code
        if code == 200:
            return read(response)
        said = self._said(response)
        if code in self._refused:
            raise EndpointError(f"{self._who}{self.url} answered {code}{said}: {self._refused[code]}")
        advice = next((what for words, what in _TOO_LONG if any(word in said.lower() for word in words)), "")
        detail = f"the server answered {code}{said}" + (f"; {advice}" if advice else "")
        again = not advice and (code in _AGAIN or code >= 500)
        return Failure(detail, _retry_after(response) if again else None, final=not again)

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
                timeout = self._settings.timeout
                patience = httpx.Timeout(timeout, connect=min(timeout, _CONNECT))
                self._client = httpx.Client(timeout=patience, limits=limits)
                weakref.finalize(self, self._client.close)  # servers keep connections open
            return self._client

    def _headers(self) -> dict[str, str]:
        key = self._api_key()
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def _unreached(self, error: Exception) -> str:
        """Why there is no connection, in words."""
        text = self.clean(str(error) or "timed out")
        secure = self.url.startswith("https:") and any(word in text.lower() for word in ("ssl", "handshake"))
        return f"{text}; a server without a certificate is reached by http://" if secure else text

    def _said(self, response: httpx.Response) -> str:
        try:
            error = response.json()["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError):
            text = response.text
        text = " ".join(self.clean(text).split())
        return f" ('{text[:300]}')" if text else ""


def _model_names(response: httpx.Response) -> set[str]:
    """Names and aliases that a model list holds; none where it is of another form."""
    try:
        entries = response.json()["data"]
        aliases = {str(alias) for entry in entries for alias in entry.get("aliases") or ()}  # llama.cpp
        return aliases | {str(entry["id"]) for entry in entries}
    except (ValueError, LookupError, TypeError, AttributeError):
        return set()


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a `Retry-After` header, which may be a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass  # then it is a date
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
