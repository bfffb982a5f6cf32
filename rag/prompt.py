"""Prompts: a template, the passages that fit, worked examples, and the wording of "not answered".

Passages are shown as `[REF] Title > Heading` and, below, their text. The default template asks the question before and
after the passages, which tells a small model what to read for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from ..core.chat import Message, estimate_tokens
from ..core.components import Model
from ..core.errors import ConfigError
from ..core.types import Chunk

__all__ = [
    "TEMPLATES",
    "Demonstration",
    "Prompt",
    "PromptSettings",
    "build_messages",
    "build_prompt",
    "passage_heading",
    "render_passage",
]

TEMPLATES = {
    "question_twice": ("{demonstrations}Question: {question}\n\n{contexts}\n\nQuestion: {question}\nAnswer:"),
    "plain": (
        "Answer the question from the passages below only. If they do not answer it, write: {abstention}\n\n"
        "{demonstrations}{contexts}\n\nQuestion: {question}\nAnswer:"
    ),
    "cited": (
        "Answer the question from the passages below only. Write the shortest phrase that answers it, in the words of "
        "the passage, followed by the passage's reference in square brackets, for instance: 12 seconds [REF]. If the "
        "passages do not answer it, write: {abstention}\n\n"
        "{demonstrations}{contexts}\n\nQuestion: {question}\nAnswer:"
    ),
}
"""Built-in templates by name."""

_SLOTS = ("question", "contexts", "demonstrations", "abstention")
_SLOT = re.compile(r"\{(question|contexts|demonstrations|abstention)\}(\n*)")


class PromptSettings(Model):
    """How a question and its passages become a prompt."""

    template: str = "question_twice"
    """`question_twice`, `plain` or `cited`, or a text of your own with {question}, {contexts} and, if you like,
    {demonstrations} and {abstention}. It changes answers more than most retrieval knobs; it costs a new generation."""
    max_context_tokens: int = Field(default=3000, ge=1)
    """Most tokens of passages, by the model's tokenizer where it is known, else a quarter of the characters. A passage
    that does not fit is left out whole, and a later one that fits is taken."""
    order: Literal["best_first", "best_last"] = "best_first"
    """Where the best passage stands. Long-context models read the ends better than the middle; costs nothing."""
    abstention: str = Field(default="Not documented [none]", min_length=1)
    """What to write where the passages do not answer."""
    demonstrations: int = Field(default=0, ge=0)
    """Worked examples shown before the question; each makes every prompt longer."""

    @field_validator("template")
    @classmethod
    def _template_known(cls, value: str) -> str:
        if value in TEMPLATES:
            return value
        if "{" not in value:
            near = difflib.get_close_matches(value, TEMPLATES, 1)
            hint = f"did you mean '{near[0]}'?" if near else "built in: " + ", ".join(TEMPLATES)
            raise ValueError(f"unknown template ({hint}), or write your own with {{question}} and {{contexts}}")
        for slot in ("question", "contexts"):
            if f"{{{slot}}}" not in value:
                raise ValueError(f"the template lacks {{{slot}}}")
        for name in re.findall(r"\{(\w+)\}", value):
            near = difflib.get_close_matches(name, _SLOTS, 1)
            if name not in _SLOTS and near:
                raise ValueError(f"the template has {{{name}}} (did you mean {{{near[0]}}}?)")
        return value

    @property
    def text(self) -> str:
        """The template's text."""
        return TEMPLATES.get(self.template, self.template)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example: a question, the passages for it (often none, to keep it short), and its answer."""

    question: str
    answer: str
    contexts: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and the passages in it, in their order."""

    messages: tuple[Message, ...]
    contexts: tuple[Chunk, ...]


def build_prompt(
    question: str,
    contexts: Sequence[Chunk],
    settings: PromptSettings,
    demonstrations: Sequence[Demonstration] = (),
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> Prompt:
    """Makes the prompt of a question; without passages the template's place for them is left out (closed-book).

    Args:
        question: The question.
        contexts: Passages, best first.
        settings: Template, limits and order.
        demonstrations: Worked examples; the first `settings.demonstrations` are shown.
        count_tokens: Counts a text's tokens; by default an estimate.

    Raises:
        ConfigError: Fewer demonstrations than the settings ask for.
    """
    if len(demonstrations) < settings.demonstrations:
        raise ConfigError(
            f"prompt.demonstrations is {settings.demonstrations}, but {len(demonstrations)} were given; lower it"
        )
    kept = _fitting(contexts, settings.max_context_tokens, count_tokens)
    if settings.order == "best_last":
        kept = kept[::-1]
    examples = [_render_demonstration(one) for one in demonstrations[: settings.demonstrations]]
    values = {
        "question": question,
        "contexts": "\n\n".join(render_passage(chunk) for chunk in kept),
        "demonstrations": "\n\n".join(examples),
        "abstention": settings.abstention,
    }

    def fill(match: re.Match[str]) -> str:
        # one pass, so that braces in a question or a passage stay as they are
        value, gap = values[match[1]], match[2]
        if match[1] == "demonstrations" and value:
            gap = gap or "\n\n"
        return value + gap if value else ""

    return Prompt((Message("user", _SLOT.sub(fill, settings.text)),), tuple(kept))


def build_messages(
    question: str,
    contexts: Sequence[Chunk],
    settings: PromptSettings,
    demonstrations: Sequence[Demonstration] = (),
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> tuple[Message, ...]:
    """The messages of `build_prompt`, for callers that need not know which passages fitted."""
    return build_prompt(question, contexts, settings, demonstrations, count_tokens).messages


def passage_heading(chunk: Chunk) -> str:
    """`Title > Heading > Subheading`; a topmost heading that is the title stands once."""
    path = chunk.heading
    if path and chunk.title and path[0].strip() == chunk.title.strip():
        path = path[1:]
    return " > ".join(part for part in (chunk.title, *path) if part)


def render_passage(chunk: Chunk) -> str:
    """A passage as prompts show it: `[REF] Title > Heading`, a line break, the text."""
    head = f"[{chunk.ref or chunk.doc_id}] {passage_heading(chunk)}".rstrip()
    return f"{head}\n{chunk.text.strip()}"


def _fitting(contexts: Sequence[Chunk], most: int, count_tokens: Callable[[str], int]) -> list[Chunk]:
    kept: list[Chunk] = []
    used = 0
    for chunk in contexts:
        tokens = count_tokens(render_passage(chunk))
        if used + tokens <= most:
            kept.append(chunk)
            used += tokens
    return kept


def _render_demonstration(one: Demonstration) -> str:
    passages = "".join(render_passage(chunk) + "\n\n" for chunk in one.contexts)
    return f"{passages}Question: {one.question}\nAnswer: {one.answer}"
