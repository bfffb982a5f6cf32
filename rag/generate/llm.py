"""A reader with a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.chat import ChatModel, ChatRequest, ChatSection, Completion
from ...core.components import Resources, Settings
from ...core.types import Answer, Chunk, Question
from ..demonstrations import DemonstrationPool
from ..prompt import Demonstration, Prompt, PromptSettings, build_prompt, extraction_prompt
from ..structured import ANSWER_SCHEMA, parse_answer

__all__ = ["LLMGenerator", "LLMGeneratorSettings"]


class LLMGeneratorSettings(Settings):
    """Answers with a language model."""

    cost: ClassVar[str] = "one completion a question; two with prompt.chain"

    kind: Literal["llm"] = "llm"
    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """Which model: `openai` for an endpoint, `local` for a model on this machine."""
    prompt: PromptSettings = PromptSettings()
    """What it is told."""
    max_tokens: int = Field(default=64, ge=1)
    """Most tokens of an answer. More lets it say more and costs more where it rambles."""
    extract_max_tokens: int = Field(default=256, ge=1)
    """Most tokens that the first call of `prompt.chain: extract` copies; they are the second call's context."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 is greedy, so that answers are the same each time; above it answers vary."""
    seed: int | None = None
    """Seed of the sampling, for a temperature above 0."""
    stop: tuple[str, ...] = ()
    """Texts at which the answer ends."""

    def build(self, resources: Resources) -> LLMGenerator:
        """Makes the reader with its model.

        Raises:
            ConfigError: A key is missing.
            DataError: There is no such model.
        """
        return LLMGenerator(self.llm.build(resources), self)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The model's identity, the prompt with its text, and what is asked of the model."""
        kept = self.model_dump(mode="json", exclude={"llm", "prompt"})
        prompt = {**self.prompt.model_dump(mode="json"), "template": self.prompt.text}
        return {**kept, "llm": self.llm.identity(resources), "prompt": prompt, "version": self.version}


class LLMGenerator:
    """A chat model with a prompt.

    Attributes:
        chat: The model.
        demonstrations: Where its prompts' worked examples are picked from; None where they show none.
    """

    def __init__(
        self, chat: ChatModel, settings: LLMGeneratorSettings, demonstrations: DemonstrationPool | None = None
    ) -> None:
        """Takes a ready model.

        Args:
            chat: The model; `settings.llm` is not looked at.
            settings: Prompt and limits.
            demonstrations: Where worked examples are picked from; needed where the prompt shows some.
        """
        self.chat = chat
        self.demonstrations = demonstrations
        self._settings = settings

    def with_demonstrations(self, demonstrations: Sequence[Demonstration]) -> LLMGenerator:
        """The same reader, same model, with worked examples to pick from.

        Raises:
            ConfigError: There are fewer than the prompt shows.
        """
        pool = DemonstrationPool(demonstrations, self._settings.prompt)
        return LLMGenerator(self.chat, self._settings, pool)

    def prompts(
        self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]], extracts: Sequence[str] | None = None
    ) -> list[Prompt]:
        """The prompts that ask for the answers, as `generate` sends them.

        Args:
            questions: Texts of the questions.
            contexts: Passages of each, best first.
            extracts: What the first call of a chain copied for each; None shows the passages.

        Raises:
            ConfigError: The prompt shows worked examples, and this reader has none to pick from.
        """
        shown: Sequence[Sequence[Demonstration]] = [()] * len(questions)
        if self.demonstrations is not None:
            shown = self.demonstrations.choose(questions)
        copied: Sequence[str | None] = extracts if extracts is not None else [None] * len(questions)
        prompt, count = self._settings.prompt, self.chat.count_tokens
        return [
            build_prompt(question, chunks, prompt, examples, count, extract)
            for question, chunks, examples, extract in zip(questions, contexts, shown, copied, strict=True)
        ]

    def generate(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]:
        """Answers each question from its passages, best first; failures of single ones are a status.

        Raises:
            ConfigError: The prompt shows worked examples, and this reader has none to pick from.
            EndpointError: The endpoint cannot be reached.
            BudgetError: The budget is used up.
        """
        if self._settings.prompt.chain == "extract":
            return self._chained(questions, contexts)
        prompts = self.prompts([question.text for question in questions], contexts)
        done = self.chat.complete([self._request(prompt) for prompt in prompts])
        return [
            self._answer(question, prompt.contexts, completion)
            for question, prompt, completion in zip(questions, prompts, done, strict=True)
        ]

    def _chained(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]:
        """First what helps is copied, then it is answered from; where nothing helps the second call is saved."""
        prompt, count = self._settings.prompt, self.chat.count_tokens
        first = [
            extraction_prompt(question.text, chunks, prompt, count)
            for question, chunks in zip(questions, contexts, strict=True)
        ]
        copied = self.chat.complete([self._request(one, extracting=True) for one in first])
        going = [place for place, done in enumerate(copied) if done.status == "ok" and _helps(done.text)]
        second = self.prompts(
            [questions[place].text for place in going],
            [contexts[place] for place in going],
            [copied[place].text.strip() for place in going],
        )
        answered = dict(zip(going, self.chat.complete([self._request(one) for one in second]), strict=True))
        answers: list[Answer] = []
        for place, (question, shown, done) in enumerate(zip(questions, first, copied, strict=True)):
            if place in answered:
                answers.append(self._answer(question, shown.contexts, _summed(done, answered[place])))
            elif done.status == "ok":
                # Nothing helps: said as the prompt would say it, without a reply to parse.
                answers.append(_as_answer(question, shown.contexts, replace(done, text=prompt.abstention)))
            else:
                failed = replace(done, detail=f"extracting: {done.detail}" if done.detail else "extracting")
                answers.append(_as_answer(question, shown.contexts, failed))
        return answers

    def _request(self, prompt: Prompt, extracting: bool = False) -> ChatRequest:
        settings = self._settings
        structured = settings.prompt.output == "json" and not extracting
        return ChatRequest(
            prompt.messages,
            max_tokens=settings.extract_max_tokens if extracting else settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            stop=() if extracting else settings.stop,
            json_schema=ANSWER_SCHEMA if structured else None,
        )

    def _answer(self, question: Question, contexts: tuple[Chunk, ...], completion: Completion) -> Answer:
        """A completion as an answer: JSON parsed, reasoning taken off."""
        prompt = self._settings.prompt
        if completion.status == "ok" and prompt.output == "json":
            try:
                text = parse_answer(completion.text).text(prompt.abstention)
            except ValueError as error:
                detail = f"{error}; {completion.detail}" if completion.detail else str(error)
                completion = replace(completion, status="parse_error", detail=detail)
            else:
                completion = replace(completion, text=text)
        elif prompt.template == "reasoned":
            completion = replace(completion, text=completion.text.rpartition("Answer:")[2])
        return _as_answer(question, contexts, completion)


def _helps(extract: str) -> bool:
    """False where the first call found nothing."""
    return bool(extract.strip()) and extract.strip(" .\n").upper() != "NONE"


def _summed(first: Completion, second: Completion) -> Completion:
    """The second completion with the cost of both."""
    return replace(
        second,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        seconds=first.seconds + second.seconds,
    )


def _as_answer(question: Question, contexts: tuple[Chunk, ...], completion: Completion) -> Answer:
    return Answer(
        question_id=question.id,
        text=completion.text.strip() if completion.status == "ok" else "",
        contexts=contexts,
        status=completion.status,
        detail=completion.detail,
        seconds=completion.seconds,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )
