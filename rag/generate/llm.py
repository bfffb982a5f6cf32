"""A reader with a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.chat import ChatModel, ChatRequest, ChatSection
from ...core.components import Resources, Settings
from ...core.types import Answer, Chunk, Question
from ..prompt import Demonstration, PromptSettings, build_prompt

__all__ = ["LLMGenerator", "LLMGeneratorSettings"]


class LLMGeneratorSettings(Settings):
    """Answers with a language model."""

    cost: ClassVar[str] = "one completion a question"

    kind: Literal["llm"] = "llm"
    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """Which model: `openai` for an endpoint, `local` for a model on this machine."""
    prompt: PromptSettings = PromptSettings()
    """What it is told."""
    max_tokens: int = Field(default=64, ge=1)
    """Most tokens of an answer. More lets it say more and costs more where it rambles."""
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
    """

    def __init__(
        self, chat: ChatModel, settings: LLMGeneratorSettings, demonstrations: Sequence[Demonstration] = ()
    ) -> None:
        """Takes a ready model.

        Args:
            chat: The model; `settings.llm` is not looked at.
            settings: Prompt and limits.
            demonstrations: Worked examples; the prompt shows as many as its settings say.
        """
        self.chat = chat
        self._settings = settings
        self._demonstrations = tuple(demonstrations)

    def with_demonstrations(self, demonstrations: Sequence[Demonstration]) -> LLMGenerator:
        """The same reader, same model, with worked examples."""
        return LLMGenerator(self.chat, self._settings, demonstrations)

    def generate(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]:
        """Answers each question from its passages, best first; failures of single ones are a status.

        Raises:
            EndpointError: The endpoint cannot be reached.
            BudgetError: The budget is used up.
        """
        settings = self._settings
        prompts = [
            build_prompt(question.text, chunks, settings.prompt, self._demonstrations, self.chat.count_tokens)
            for question, chunks in zip(questions, contexts, strict=True)
        ]
        requests = [
            ChatRequest(
                prompt.messages,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                seed=settings.seed,
                stop=settings.stop,
            )
            for prompt in prompts
        ]
        return [
            Answer(
                question_id=question.id,
                text=completion.text.strip() if completion.status == "ok" else "",
                contexts=prompt.contexts,
                status=completion.status,
                detail=completion.detail,
                seconds=completion.seconds,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
            )
            for question, prompt, completion in zip(questions, prompts, self.chat.complete(requests), strict=True)
        ]
