"""The one seam between ragas' judged metrics and our chat models.

All prompts of all samples pass through `Gateway`: it sends what the samples wait for as one batch, so the chat model
decides on concurrency, retries, cache and budget. `Dialogue` belongs to one metric of one question: it asks, reads the
reply as JSON, checks it, asks once more where it is broken, and keeps what was replied.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..core.chat.types import ChatModel, ChatRequest, Completion, Message
from ..core.errors import EndpointError
from ..core.types import Status

__all__ = ["Dialogue", "Gateway", "JudgeFailure", "Sampling", "as_ragas_llm", "read_reply", "strict_schema"]

Reply = TypeVar("Reply", bound=BaseModel)
_DRAWS = 1000  # numbers kept apart for equal prompts within one repeat
_AGAIN = "That reply cannot be used: {problem}. Reply again with the corrected JSON object only."


class JudgeFailure(Exception):
    """The judge gave nothing that can be scored."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status: Status = status
        self.detail = detail


class ReplyError(Exception):
    """A reply that does not fit what was asked; the text says why, to the judge."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the judge writes; see `JudgeSettings` for the fields."""

    max_tokens: int
    temperature: float
    seed: int | None


class Gateway:
    """Gathers the requests of all samples and has them completed batch by batch.

    A judge that was never there is an error. One that is lost after it answered is not: what it did not answer fails
    with a status each, and the rest counts.

    Attributes:
        fatal: The error that ended it: no server, a spent budget. It is raised for every request after it.
        lost: The error by which a judge that had answered was lost.
    """

    def __init__(self, model: ChatModel, answered: bool = False) -> None:
        self._model = model
        self._answered = answered
        self._waiting: list[tuple[ChatRequest, Any]] = []
        self.fatal: Exception | None = None
        self.lost: EndpointError | None = None

    async def ask(self, request: ChatRequest) -> Completion:
        """Waits for one completion."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        if not self._waiting:
            # runs after every sample that is ready now has asked, so that they share a batch
            loop.call_soon(self._send)
        self._waiting.append((request, future))
        return await future

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        completions: Sequence[Completion] = ()
        if self.fatal is None:
            try:
                completions = self._completed([request for request, _ in waiting])
            except Exception as error:  # told to every sample, then raised by the caller
                self.fatal = error
        for place, (_, future) in enumerate(waiting):
            if self.fatal is not None:
                future.set_exception(self.fatal)
            else:
                future.set_result(completions[place])

    def _completed(self, requests: Sequence[ChatRequest]) -> Sequence[Completion]:
        if self.lost is None:
            try:
                # blocks the loop on purpose: every sample waits for this batch, and Ctrl-C reaches the chat model
                completions = self._model.complete(requests)
                self._answered = True
                return completions
            except EndpointError as error:
                kept = getattr(self._model, "kept", None)
                if kept is None or not (self._answered or any(kept(requests))):
                    raise
                self.lost = error
        found: Sequence[Completion | None] = self._model.kept(requests)  # pyright: ignore[reportAttributeAccessIssue]
        gone = Completion(text="", status="generation_error", detail=f"it was lost: {self.lost}")
        return [one or gone for one in found]


class Dialogue:
    """All that one metric of one question asks the judge.

    Attributes:
        replies: What was replied, in order, checked.
    """

    def __init__(self, gateway: Gateway, sampling: Sampling, repeat: int, draws: bool) -> None:
        """Opens a dialogue.

        Args:
            gateway: Where requests go.
            sampling: How the judge writes.
            repeat: Which independent judgement this is.
            draws: True where equal prompts are meant to be answered independently, not once.
        """
        self._gateway = gateway
        self._sampling = sampling
        self._repeat = repeat
        self._draws = draws
        self._asked: Counter[str] = Counter()
        self.replies: list[BaseModel] = []

    async def ask(self, prompt: str, response_model: type[Reply]) -> Reply:
        """Asks, and once more where the reply is broken.

        Args:
            prompt: As ragas wrote it.
            response_model: What the reply must fit.

        Raises:
            JudgeFailure: No completion, or two broken replies.
        """
        draw = self._asked[prompt] if self._draws else 0
        self._asked[prompt] += 1
        messages: tuple[Message, ...] = (Message("user", prompt),)
        problem = ""
        for _ in range(2):
            completion = await self._gateway.ask(self._request(messages, response_model, draw))
            if completion.status != "ok":
                status: Status = "timeout" if completion.status == "timeout" else "judge_error"
                raise JudgeFailure(status, f"the judge did not answer: {completion.detail or completion.status}")
            try:
                reply = read_reply(completion.text, response_model, prompt)
            except ReplyError as error:
                problem = f"{error} ({completion.detail})" if completion.detail else str(error)
                again = Message("user", _AGAIN.format(problem=problem))
                messages = (messages[0], Message("assistant", completion.text or "(nothing)"), again)
                continue
            self.replies.append(reply)
            return reply
        raise JudgeFailure("parse_error", f"{response_model.__name__}, asked twice: {problem}")

    def _request(self, messages: tuple[Message, ...], response_model: type[BaseModel], draw: int) -> ChatRequest:
        return ChatRequest(
            messages=messages,
            max_tokens=self._sampling.max_tokens,
            temperature=self._sampling.temperature,
            seed=self._sampling.seed,
            json_schema=strict_schema(response_model),
            repeat=self._repeat * _DRAWS + draw,
        )


def as_ragas_llm(dialogue: Dialogue) -> Any:
    """A dialogue as ragas' `InstructorBaseRagasLLM`."""
    from ragas.llms.base import InstructorBaseRagasLLM

    from ._ragas import run_coroutine

    class JudgeLLM(InstructorBaseRagasLLM):
        """Hands prompts on."""

        is_async = True

        def generate(self, prompt: str, response_model: type[Any]) -> Any:
            return run_coroutine(dialogue.ask(prompt, response_model))

        async def agenerate(self, prompt: str, response_model: type[Any]) -> Any:
            return await dialogue.ask(prompt, response_model)

    return JudgeLLM()


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema as servers want it that enforce one: every key required, no others allowed."""
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        if part.get("type") == "object":
            part["additionalProperties"] = False
            part["required"] = list(part.get("properties", {}))
            for field in part.get("properties", {}).values():
                field.pop("default", None)
    return schema


def read_reply(text: str, response_model: type[Reply], prompt: str) -> Reply:
    """Reads a judge's reply and checks it against what was asked.

    Args:
        text: A JSON object, possibly in a code fence or with words round it.
        response_model: What it must fit.
        prompt: To which it replies, for the number of claims in it.

    Raises:
        ReplyError: Not JSON, not of the model, or not one verdict of 0 or 1 a claim.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ReplyError("there is no JSON object in it")
    try:
        reply = response_model.model_validate_json(text[start : end + 1])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    _check(reply, prompt)
    return reply


def _check(reply: BaseModel, prompt: str) -> None:
    """Finds what ragas would score all the same: missing verdicts raise or lower a share in silence."""
    content = {name: getattr(reply, name) for name in type(reply).model_fields}
    if {"TP", "FP", "FN"} <= set(content):
        asked = _asked_with(prompt)
        _check_count("TP and FP together", len(content["TP"]) + len(content["FP"]), "answer", asked)
        if len(content["FN"]) > len(asked.get("ground_truth", ())):
            raise ReplyError("FN has more entries than there are statements in ground_truth")
        return
    for name, value in content.items():
        if isinstance(value, list):
            _check_list(name, value, prompt)
        else:
            _check_verdict(name, value)
    if "question" in content and not content["question"].strip():
        raise ReplyError("question is empty")


def _check_list(name: str, entries: Sequence[Any], prompt: str) -> None:
    judged = bool(entries) and isinstance(entries[0], BaseModel)
    for entry in entries if judged else ():
        for field in type(entry).model_fields:
            _check_verdict(field, getattr(entry, field))
    asked = _asked_with(prompt)
    if "statements" in asked:  # verdicts on given claims
        _check_count(name, len(entries), "statements", asked)
    elif not entries:  # claims to be found in a text that is not empty
        raise ReplyError(f"{name} is empty; write at least one")


def _check_count(what: str, got: int, given: str, asked: Mapping[str, Any]) -> None:
    wanted = len(asked.get(given, ()))
    if got != wanted:
        raise ReplyError(f"{what} must have one entry for each of the {wanted} entries of {given}, got {got}")


def _check_verdict(name: str, value: Any) -> None:
    if name in ("verdict", "attributed", "noncommittal") and value not in (0, 1):
        raise ReplyError(f"{name} must be 0 or 1, got {value}")


def _asked_with(prompt: str) -> Mapping[str, Any]:
    """The JSON input that ragas sets at the end of each prompt."""
    body = prompt.rpartition("\ninput: ")[2].rpartition("\nOutput:")[0]
    try:
        found = json.loads(body)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise JudgeFailure(
            "judge_error", "the input in ragas' prompt cannot be read; is it a version that was not tested?"
        )
    return found
