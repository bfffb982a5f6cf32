"""What is asked of a chat model and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from ..http import Probe
from ..types import Status

__all__ = ["ChatModel", "ChatRequest", "Completion", "Message", "Probe", "Role", "estimate_tokens"]

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One completion to make.

    Attributes:
        messages: The conversation so far, in order.
        max_tokens: Most tokens to write.
        temperature: 0 is greedy; above 0 samples from softmax(logits / temperature).
        seed: Seed of the sampling; None leaves it to the model (a local one takes 0).
        stop: Texts at which writing stops; they are not part of the result.
        json_schema: JSON Schema that the text must fit; None for free text.
        repeat: Which of several independent draws of the same request this is; part of the cache key.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    repeat: int = 0

    def identity(self) -> dict[str, Any]:
        """All that determines the completion on a given model, as JSON values."""
        return {
            "messages": [[message.role, message.content] for message in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": list(self.stop),
            "json_schema": None if self.json_schema is None else dict(self.json_schema),
            "repeat": self.repeat,
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: The completion; empty where the status is not `ok`.
        status: `ok`, `timeout` or `generation_error`.
        detail: What went wrong, or a remark such as "cut at max_tokens".
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        seconds: Wall-clock time (locally a batch's time divided by its size); of the first call where cached.
        cached: True where it came from the cache, so it cost nothing now.
    """

    text: str
    status: Status = "ok"
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False


@runtime_checkable
class ChatModel(Protocol):
    """Completes conversations: one completion a request, in order, failures of single requests as a status."""

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]: ...

    def count_tokens(self, text: str) -> int: ...

    def probe(self) -> Probe: ...


def estimate_tokens(text: str) -> int:
    """A rough count of tokens without a tokenizer: four characters of English text a token, rounded up."""
    return -(-len(text) // 4)
