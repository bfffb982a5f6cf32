"""Asks a chat model for JSON: each finished call is kept at once, counted, and paid from one budget."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from ...core.cache import JsonCache, digest
from ...core.chat import ChatModel, ChatRequest, Completion, Message
from ...core.components import Model
from ...core.errors import BudgetError
from .._judge_llm import strict_schema
from .settings import SynthBudget

__all__ = ["Asker", "CallCounts", "Prompt", "Reply", "read_json"]

R = TypeVar("R", bound=BaseModel)
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


class CallCounts(Model):
    """What was asked of the LLM."""

    calls: int = 0
    """Calls, those of an interrupted command before included."""
    reused: int = 0
    """Of these, answered earlier and not asked again now."""
    failed: int = 0
    """Calls without an answer: a timeout, or an error of the server or the model."""
    unreadable: int = 0
    """Answers that were not the JSON asked for."""
    prompt_tokens: int = 0
    """Tokens read."""
    completion_tokens: int = 0
    """Tokens written."""
    money: float | None = None
    """By the prices of the LLM's section; None where it has none."""


@dataclass(frozen=True, slots=True)
class Prompt(Generic[R]):
    """One thing to ask: what is told, and the form of the reply."""

    system: str
    user: str
    reply: type[R]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None

    def request(self, enforce: bool = True) -> ChatRequest:
        """As the chat model takes it; the form of the reply goes with it where it is to be enforced."""
        return ChatRequest(
            messages=(Message("system", self.system), Message("user", self.user)),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            json_schema=strict_schema(self.reply) if enforce else None,
        )


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """What came back: a value, or why there is none (`failed`, `unreadable`, `unfinished`: the budget)."""

    value: R | None
    status: str = "ok"
    detail: str = ""


class Asker:
    """A chat model with a memory, a budget and counts.

    Attributes:
        stopped: Why nothing more is asked: the budget, in words; empty while it lasts.
    """

    def __init__(
        self,
        model: ChatModel,
        identity: Mapping[str, Any],
        memory: JsonCache,
        budget: SynthBudget | None = None,
        prices: tuple[float, float] = (0.0, 0.0),
        at_once: int = 8,
        enforce_json: bool = True,
    ) -> None:
        """Makes an asker.

        Args:
            model: Who is asked.
            identity: All that determines its answers; part of the memory's keys.
            memory: Finished calls; a call that is in it is not made again.
            budget: Most calls, tokens and money; none by default.
            prices: Of a million prompt tokens and of a million completion tokens.
            at_once: Calls handed to the model together: as many can be lost by a kill.
            enforce_json: Whether the form of each reply is sent as a JSON schema.
        """
        self.stopped = ""
        self._model = model
        self._identity = dict(identity)
        self._memory = memory
        self._budget = budget or SynthBudget()
        self._prices = prices
        self._at_once = max(1, at_once)
        self._enforce = enforce_json
        self._counts = {"calls": 0, "reused": 0, "failed": 0, "unreadable": 0, "prompt": 0, "completion": 0}

    @property
    def counts(self) -> CallCounts:
        """What was asked so far."""
        found = self._counts
        return CallCounts(
            calls=found["calls"],
            reused=found["reused"],
            failed=found["failed"],
            unreadable=found["unreadable"],
            prompt_tokens=found["prompt"],
            completion_tokens=found["completion"],
            money=round(self._money(), 6) if any(self._prices) else None,
        )

    def ask(self, prompts: Sequence[Prompt[R]]) -> list[Reply[R]]:
        """Asks; one reply a prompt, in order. After the budget is used up the rest is `unfinished`.

        Raises:
            EndpointError: The model cannot be reached; finished calls are kept.
        """
        replies: list[Reply[R]] = []
        while len(replies) < len(prompts):
            room = self._room()
            chunk = prompts[len(replies) : len(replies) + min(self._at_once, room)]
            if not chunk:
                break
            try:
                completions = self._complete([prompt.request(self._enforce) for prompt in chunk])
            except BudgetError as error:  # the model's own budget
                self.stopped = str(error)
                break
            replies += [self._read(prompt, done) for prompt, done in zip(chunk, completions, strict=True)]
        rest = len(prompts) - len(replies)
        return replies + [Reply(None, "unfinished", self.stopped) for _ in range(rest)]

    def _room(self) -> int:
        """Calls that the budget still allows; 0 sets `stopped`."""
        if self.stopped:
            return 0
        budget, found = self._budget, self._counts
        tokens = found["prompt"] + found["completion"]
        for name, limit, used in (
            ("calls", budget.calls, found["calls"]),
            ("tokens", budget.tokens, tokens),
            ("money", budget.money, self._money()),
        ):
            if limit is not None and used >= limit:
                self.stopped = f"synth.budget.{name} is used up: {used:,.6g} of {limit:,.6g}"
                return 0
        return self._at_once if budget.calls is None else budget.calls - found["calls"]

    def _complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        keys = [digest([self._identity, request.identity()]) for request in requests]
        known = self._memory.get_many(keys)
        # equal requests of one chunk are asked once
        todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        made = dict(zip(todo, self._model.complete(list(todo.values())), strict=True)) if todo else {}
        kept = {
            key: {"text": done.text, "detail": done.detail, "tokens": [done.prompt_tokens, done.completion_tokens]}
            for key, done in made.items()
            if done.status == "ok"
        }
        self._memory.put_many(kept)
        self._counts["reused"] += sum(key in known for key in keys)
        return [made[key] if key in made else _remembered(known[key]) for key in keys]

    def _read(self, prompt: Prompt[R], done: Completion) -> Reply[R]:
        self._counts["calls"] += 1
        self._counts["prompt"] += done.prompt_tokens
        self._counts["completion"] += done.completion_tokens
        if done.status != "ok":
            self._counts["failed"] += 1
            return Reply(None, "failed", f"{done.status}: {done.detail}")
        value = read_json(done.text, prompt.reply)
        if value is None:
            self._counts["unreadable"] += 1
            remark = f" ({done.detail})" if done.detail else ""
            return Reply(None, "unreadable", " ".join(done.text.split())[:80] + remark)
        return Reply(value)

    def _money(self) -> float:
        return (self._counts["prompt"] * self._prices[0] + self._counts["completion"] * self._prices[1]) / 1e6


def _remembered(value: Mapping[str, Any]) -> Completion:
    read, wrote = value["tokens"]
    return Completion(value["text"], "ok", value["detail"], prompt_tokens=read, completion_tokens=wrote, cached=True)


def read_json(text: str, model: type[R]) -> R | None:
    """The last JSON object in a text that fits a model: fences, words round it and thoughts before it do not matter.

    Args:
        text: What an LLM wrote.
        model: What is looked for; keys that it does not know are passed over.
    """
    text = _THOUGHT.sub(" ", text)
    decoder = json.JSONDecoder(strict=False)  # line breaks within texts are taken as they are
    found: R | None = None
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
            found = model.model_validate(value)
        except (ValueError, RecursionError):  # not JSON, or not of the model
            end = place + 1
        place = text.find("{", end)
    return found
