"""Prompts: a template, the passages that fit, worked examples, the answer's form, and the wording of "not answered".

Passages are shown as `[REF] Title > Heading` and, below, their text. The default template asks the question before and
after the passages, which tells a small model what to read for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from ..core.chat import Message, estimate_tokens
from ..core.components import Model
from ..core.errors import ConfigError, did_you_mean
from ..core.types import Chunk
from .structured import as_json

__all__ = [
    "TEMPLATES",
    "Demonstration",
    "Prompt",
    "PromptSettings",
    "build_messages",
    "build_prompt",
    "extraction_prompt",
    "ordered",
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
    "reasoned": (
        "Answer the question from the passages below only. First write in one sentence which passage answers it and "
        "why, then on a line of its own `Answer:` and the shortest phrase that answers it, with the passage's "
        "reference in square brackets. If the passages do not answer it, write: Answer: {abstention}\n\n"
        "{demonstrations}{contexts}\n\nQuestion: {question}"
    ),
}
"""Built-in templates by name."""

_JSON = (
    'Reply with one JSON object and nothing else: {"answered": true, "answer": "...", "citations": ["REF"]}. The '
    "citations are the references, in square brackets above the passages, of those that the answer is taken from. If "
    'the passages do not answer the question, reply: {"answered": false, "answer": "", "citations": []}\n\n'
)
_EXTRACT = (
    "Copy, word for word, the sentences of the passages below that help to answer the question, each followed by the "
    "reference of its passage in square brackets. If none helps, write: NONE\n\n"
    "{contexts}\n\nQuestion: {question}\nSentences:"
)

_SLOTS = ("question", "contexts", "demonstrations", "abstention")
_SLOT = re.compile(r"\{(question|contexts|demonstrations|abstention)\}(\n*)")


class PromptSettings(Model):
    """How a question and its passages become a prompt."""

    template: str = "question_twice"
    """`question_twice`, `plain`, `cited` or `reasoned`, or a text of your own with {question}, {contexts} and, if you
    like, {demonstrations} and {abstention}. It changes answers more than most retrieval knobs; it costs a new
    generation. What a model writes before the last `Answer:` of `reasoned` is taken off."""
    max_context_tokens: int = Field(default=3000, ge=1)
    """Most tokens of passages, by the model's tokenizer where it is known, else a quarter of the characters. A passage
    that does not fit is left out whole, and a later one that fits is taken."""
    order: Literal["best_first", "best_last", "ends", "document"] = "best_first"
    """How the passages stand. `best_last`: the best nearest to the question; `ends`: the best at both ends, the weakest
    in the middle, which long contexts are read worst at (Liu et al. 2024, "Lost in the middle"); `document`: those of
    one document together, in its order. Costs nothing but a new generation."""
    abstention: str = Field(default="Not documented [none]", min_length=1)
    """What to write where the passages do not answer."""
    demonstrations: int = Field(default=0, ge=0)
    """Worked examples from the train questions, shown before the question; each makes every prompt longer."""
    demonstration_choice: Literal["fixed", "similar"] = "fixed"
    """`fixed`: the same for every question, drawn with `demonstration_seed`. `similar`: for each question those of the
    train questions that share most words with it (BM25), the most similar last; costs milliseconds, but prompts no
    longer start alike, which servers with a prefix cache answer faster."""
    demonstration_seed: int = 0
    """Which are drawn where the choice is `fixed`."""
    demonstration_evidence: bool = False
    """Shows each example's evidence as its passage, so that it also shows how an answer follows from one; longer."""
    output: Literal["text", "json"] = "text"
    """`json`: the model is asked for `{"answered", "answer", "citations"}` by JSON Schema, which endpoints that know
    `response_format` enforce; the answer then reads `answer [REF]`. A reply that does not fit has the status
    `parse_error`. Costs some 70 tokens a prompt and 25 an answer."""
    chain: Literal["none", "extract"] = "none"
    """`extract`: a first call copies the sentences that help, a second one answers from those alone. Helps small models
    that lose the thread of long contexts; two calls a question, both counted."""

    @field_validator("template")
    @classmethod
    def _template_known(cls, value: str) -> str:
        if value in TEMPLATES:
            return value
        if "{" not in value:
            hint = did_you_mean(value, TEMPLATES, "built in: " + ", ".join(TEMPLATES))
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
    """A worked example: a question, the passages for it (often none, to keep it short), and its answer.

    An empty answer is one of a question that the documents do not answer.
    """

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
    extract: str | None = None,
) -> Prompt:
    """Makes the prompt of a question; without passages the template's place for them is left out (closed-book).

    Args:
        question: The question.
        contexts: Passages, best first.
        settings: Template, limits and order.
        demonstrations: Worked examples; the first `settings.demonstrations` are shown.
        count_tokens: Counts a text's tokens; by default an estimate.
        extract: Stands in the passages' place (the second call of a chain).

    Raises:
        ConfigError: Fewer demonstrations than the settings ask for.
    """
    if len(demonstrations) < settings.demonstrations:
        raise ConfigError(
            f"prompt.demonstrations is {settings.demonstrations}, but {len(demonstrations)} were given; lower it"
        )
    kept = _arranged(contexts, settings, count_tokens)
    examples = [_render_demonstration(one, settings) for one in demonstrations[: settings.demonstrations]]
    values = {
        "question": question,
        "contexts": "\n\n".join(render_passage(chunk) for chunk in kept) if extract is None else extract,
        "demonstrations": "\n\n".join(examples),
        "abstention": settings.abstention,
    }
    text = (_JSON if settings.output == "json" else "") + _filled(settings.text, values)
    return Prompt((Message("user", text),), tuple(kept))


def extraction_prompt(
    question: str,
    contexts: Sequence[Chunk],
    settings: PromptSettings,
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> Prompt:
    """The first call of a chain: asks for the sentences that help; the arguments are those of `build_prompt`."""
    kept = _arranged(contexts, settings, count_tokens)
    values = {"question": question, "contexts": "\n\n".join(render_passage(chunk) for chunk in kept)}
    return Prompt((Message("user", _filled(_EXTRACT, values)),), tuple(kept))


def _filled(template: str, values: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        # one pass, so that braces in a question or a passage stay as they are
        value, gap = values[match[1]], match[2]
        if match[1] == "demonstrations" and value:
            gap = gap or "\n\n"
        return value + gap if value else ""

    return _SLOT.sub(fill, template)


def build_messages(
    question: str,
    contexts: Sequence[Chunk],
    settings: PromptSettings,
    demonstrations: Sequence[Demonstration] = (),
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> tuple[Message, ...]:
    """The messages of `build_prompt`, for callers that need not know which passages fitted; its arguments."""
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


def ordered(contexts: Sequence[Chunk], order: str) -> list[Chunk]:
    """Passages, given best first, in one of the orders of `PromptSettings.order`."""
    chunks = list(contexts)
    if order == "best_last":
        return chunks[::-1]
    if order == "ends":
        return chunks[::2] + chunks[1::2][::-1]
    if order == "document":
        rank = {doc_id: place for place, doc_id in enumerate(dict.fromkeys(chunk.doc_id for chunk in chunks))}
        return sorted(chunks, key=lambda chunk: (rank[chunk.doc_id], chunk.start))
    return chunks


def _arranged(contexts: Sequence[Chunk], settings: PromptSettings, count_tokens: Callable[[str], int]) -> list[Chunk]:
    """The passages that fit, the best ones first to be taken, in the order of the settings."""
    kept: list[Chunk] = []
    used = 0
    for chunk in contexts:
        tokens = count_tokens(render_passage(chunk))
        if used + tokens <= settings.max_context_tokens:
            kept.append(chunk)
            used += tokens
    return ordered(kept, settings.order)


def _render_demonstration(one: Demonstration, settings: PromptSettings) -> str:
    passages = "".join(render_passage(chunk) + "\n\n" for chunk in one.contexts)
    answer = one.answer or settings.abstention
    if settings.output == "json":
        answer = as_json(one.answer)
    return f"{passages}Question: {one.question}\nAnswer: {answer}"
