"""Any server with OpenAI's chat completions interface: OpenAI itself, vLLM, llama.cpp, Ollama and others.

Completions are cached for good under `cache_dir/calls`; the key of the API lives in an environment variable and is
never stored, logged or shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from ..cache import JsonCache, digest
from ..components import Model, Resources, Settings
from ..errors import BudgetError
from ..http import Probe, api_key_from, check_base_url
from ._http import ChatSender, Reply
from .types import ChatRequest, Completion, estimate_tokens

__all__ = ["ChatBudget", "OpenAIChatSettings", "OpenAIChat"]

_FLUSH_EVERY = 16  # completions a cache segment: a kill loses at most so many paid calls


class ChatBudget(Model):
    """What the calls of one run may cost; cached completions are free."""

    tokens: int | None = Field(default=None, gt=0)
    """Most tokens, prompt and completion together. The calls in flight when it is reached are still paid."""
    money: float | None = Field(default=None, gt=0)
    """Most money, in the currency of the prices; needs both prices."""


class OpenAIChatSettings(Settings):
    """An OpenAI-compatible endpoint."""

    cost: ClassVar[str] = "one call a completion, at the endpoint's price; repeated calls come from the cache"

    kind: Literal["openai"] = "openai"
    base_url: str
    """Address up to the version, for instance `http://localhost:8000/v1`; `/chat/completions` is added."""
    model: str
    """Model name as the server knows it."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. None sends no key, as local servers need none."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for one completion; after that the call is tried again, and at last has the status `timeout`."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Calls in flight at once. More is faster until the server answers 429."""
    retries: int = Field(default=4, ge=0)
    """Further tries after 408, 409, 429, 5xx, a timeout, a lost connection or an answer that is not JSON."""
    backoff: float = Field(default=1.0, ge=0)
    """Seconds before the first retry; doubled each time, plus up to a quarter at random. A `Retry-After` wins."""
    max_wait: float = Field(default=60.0, ge=0)
    """Longest wait between two tries, in seconds. A server that asks for a longer one is taken as failed."""
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name under which the limit is sent; newer OpenAI models want `max_completion_tokens`."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of the request that this server understands."""
    price_prompt: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens; only for the account of costs and the budget."""
    price_completion: float = Field(default=0.0, ge=0)
    """Price of a million completion tokens."""
    budget: ChatBudget = ChatBudget()
    """Hard stop on tokens or money."""

    @model_validator(mode="after")
    def _usable(self) -> OpenAIChatSettings:
        # checked on the whole model, so that a message never repeats a URL with a password in it
        check_base_url(self.base_url)
        if self.budget.money is not None and not (self.price_prompt or self.price_completion):
            raise ValueError("budget.money needs price_prompt and price_completion")
        clash = set(self.extra_body) & {"model", "messages", "stream", "temperature", "seed", "stop", "n"}
        if clash:
            raise ValueError(f"extra_body must not set {', '.join(sorted(clash))}")
        return self

    def build(self, resources: Resources) -> OpenAIChat:
        """Makes the client; nothing is sent yet.

        Raises:
            ConfigError: The environment variable of the key is not set.
        """
        return OpenAIChat(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """Endpoint, model and what is sent; not the key, the prices or how hard it tries."""
        kept = {"kind", "base_url", "model", "max_tokens_key", "extra_body"}
        return {**self.model_dump(mode="json", include=kept), "version": self.version}


class OpenAIChat:
    """A client of one model on one endpoint; safe to use from several threads.

    Attributes:
        settings: What it was made from.
    """

    def __init__(self, settings: OpenAIChatSettings, resources: Resources) -> None:
        """Makes the client; see `OpenAIChatSettings.build`."""
        self.settings = settings
        self._identity = settings.identity(resources)
        self._cache = JsonCache(resources.cache_dir / "calls")
        self._sender = ChatSender(settings, api_key_from(settings.api_key_env, resources, "llm.api_key_env"))
        self._lock = threading.Lock()
        self._prompt_tokens = 0
        self._completion_tokens = 0

    @property
    def spent(self) -> tuple[int, int, float]:
        """Prompt tokens, completion tokens and money that this client has paid for; cached ones cost nothing."""
        with self._lock:
            read, wrote = self._prompt_tokens, self._completion_tokens
        return read, wrote, (read * self.settings.price_prompt + wrote * self.settings.price_completion) / 1e6

    def count_tokens(self, text: str) -> int:
        """An estimate; the server's tokenizer is not known here."""
        return estimate_tokens(text)

    def probe(self) -> Probe:
        """Asks the server for its models: whether it answers, takes the key and knows the model."""
        return self._sender.probe()

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        """Completes each request; equal ones are sent once and finished ones are kept in the cache.

        Raises:
            EndpointError: No connection, the key is refused, or the server knows no such address or model.
            BudgetError: The budget is used up; what is finished is in the cache.
        """
        keys = [digest([self._identity, request.identity()]) for request in requests]
        done = {key: _from_json(value) for key, value in self._cache.get_many(keys).items()}
        todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in done}
        done.update(self._send_all(todo))
        return [done[key] for key in keys]

    def kept(self, requests: Sequence[ChatRequest]) -> list[Completion | None]:
        """The completions that are in the cache already; None for the others. Nothing is sent."""
        keys = [digest([self._identity, request.identity()]) for request in requests]
        found = self._cache.get_many(keys)
        return [_from_json(found[key]) if key in found else None for key in keys]

    def _send_all(self, todo: dict[str, ChatRequest]) -> dict[str, Completion]:
        done: dict[str, Completion] = {}
        unsaved: dict[str, Any] = {}
        waiting = iter(todo.items())
        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="chat")
        running: dict[Future[Reply], str] = {}
        stop = threading.Event()
        try:
            while self._start(waiting, running, pool, stop):
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    key = running.pop(future)
                    done[key] = self._account(future.result())
                    if done[key].status == "ok":
                        unsaved[key] = _to_json(done[key])
                if len(unsaved) >= _FLUSH_EVERY:
                    self._cache.put_many(unsaved)
                    unsaved = {}
        finally:
            # also after Ctrl-C or an error: calls in flight are paid, so their answers are kept
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            unsaved.update(self._rescue(running))
            self._cache.put_many(unsaved)
        return done

    def _start(
        self,
        waiting: Iterator[tuple[str, ChatRequest]],
        running: dict[Future[Reply], str],
        pool: ThreadPoolExecutor,
        stop: threading.Event,
    ) -> bool:
        """Fills the pool; False when nothing is left to wait for."""
        while len(running) < self.settings.concurrency:
            following = next(waiting, None)
            if following is None:
                break
            self._check_budget()
            key, request = following
            running[pool.submit(self._sender.send, self._body(request), stop)] = key
        return bool(running)

    def _rescue(self, running: dict[Future[Reply], str]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for future, key in running.items():
            if not future.cancelled() and future.exception() is None:
                completion = self._account(future.result())
                if completion.status == "ok":
                    kept[key] = _to_json(completion)
        return kept

    def _check_budget(self) -> None:
        read, wrote, money = self.spent
        budget = self.settings.budget
        if budget.tokens is not None and read + wrote >= budget.tokens:
            raise BudgetError(
                f"llm.budget.tokens is used up: {read + wrote:,} of {budget.tokens:,} tokens. Finished calls are kept; "
                "raise the budget and run again to go on."
            )
        if budget.money is not None and money >= budget.money:
            raise BudgetError(
                f"llm.budget.money is used up: {money:.4f} of {budget.money:.4f}. Finished calls are kept; "
                "raise the budget and run again to go on."
            )

    def _account(self, reply: Reply) -> Completion:
        with self._lock:
            self._prompt_tokens += reply.prompt_tokens
            self._completion_tokens += reply.completion_tokens
        return Completion(
            text=reply.text,
            status=reply.status,
            detail=reply.detail,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            seconds=reply.seconds,
        )

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            self.settings.max_tokens_key: request.max_tokens,
            "temperature": request.temperature,
        }
        if request.seed is not None:
            body["seed"] = request.seed + request.repeat  # else a server with a fixed seed gives equal repeats
        if request.stop:
            body["stop"] = list(request.stop)
        if request.json_schema is not None:
            schema = dict(request.json_schema)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": _schema_name(schema), "schema": schema, "strict": True},
            }
        return {**body, **self.settings.extra_body}


def _schema_name(schema: dict[str, Any]) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in str(schema.get("title", "answer")))
    return name[:64] or "answer"


def _to_json(completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "detail": completion.detail,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "seconds": round(completion.seconds, 4),
    }


def _from_json(value: dict[str, Any]) -> Completion:
    return Completion(
        text=value["text"],
        detail=value["detail"],
        prompt_tokens=value["prompt_tokens"],
        completion_tokens=value["completion_tokens"],
        seconds=value["seconds"],
        cached=True,
    )
