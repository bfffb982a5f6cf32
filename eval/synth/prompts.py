"""What the LLM is told, and the forms of its replies."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from .asking import Prompt
from .passages import Passage
from .settings import SynthSettings

__all__ = [
    "AnswerReply",
    "ExcerptReply",
    "MultiReply",
    "SingleReply",
    "UnanswerableReply",
    "ask_closed_book",
    "ask_with_excerpts",
    "write_multi",
    "write_single",
    "write_unanswerable",
]

_CHECK_TOKENS = 300
_WRITER = (
    "You write questions that test a search system over an organisation's documents. The reader of a question has not "
    "seen the documents open in front of you, so a question names what it is about and never speaks of a passage, a "
    "text or an excerpt. Reply with one JSON object and nothing else."
)
_CHECKER = "You answer questions strictly from what you are given. Reply with one JSON object and nothing else."


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SingleReply(_Form):
    """A question on one passage."""

    question: str
    answer: str
    evidence: str


class ExcerptReply(_Form):
    """An excerpt of one of several passages."""

    passage: int
    text: str


class MultiReply(_Form):
    """A question on two passages."""

    question: str
    answer: str
    evidence: list[ExcerptReply]


class UnanswerableReply(_Form):
    """A question that the documents do not answer."""

    question: str


class AnswerReply(_Form):
    """An answer, or the remark that there is none."""

    known: bool
    answer: str


def write_single(
    passage: Passage, persona: str, style: str, settings: SynthSettings, before: Sequence[str]
) -> Prompt[SingleReply]:
    """Asks for a question that one passage answers."""
    task = (
        "Write one question that this passage answers, the answer, and the evidence.\n"
        "- The passage alone answers it, without any outside knowledge, and in one way only.\n"
        "- Nobody could guess the answer without the document.\n"
        '- "answer" is short: a few words, at most one sentence.\n'
        '- "evidence" is the sentence or table row that holds the answer, copied character by character.\n'
        '- If nothing in it is worth asking, leave "question" empty.\n'
        + _asker(persona, style, settings, before)
        + '\nForm: {"question": "...", "answer": "...", "evidence": "..."}'
    )
    return _written(f"{_shown(passage)}\n\n{task}", SingleReply, settings)


def write_multi(
    passages: Sequence[Passage], persona: str, style: str, settings: SynthSettings, before: Sequence[str]
) -> Prompt[MultiReply]:
    """Asks for a question that only several passages together answer."""
    shown = "\n\n".join(_shown(passage, number) for number, passage in enumerate(passages, 1))
    task = (
        "Write one question that can only be answered with both passages together: a comparison, a sum, or a fact of "
        "one that leads to a fact of the other. Give the answer and the evidence.\n"
        "- Whoever has only one of the passages cannot answer it.\n"
        "- Do not join two separate questions by 'and'.\n"
        '- "answer" is short: a few words, at most one sentence.\n'
        '- "evidence" has one excerpt of each passage, copied character by character, with the passage\'s number.\n'
        '- If the passages have nothing to do with each other, leave "question" empty.\n'
        + _asker(persona, style, settings, before)
        + '\nForm: {"question": "...", "answer": "...", "evidence": [{"passage": 1, "text": "..."}, '
        '{"passage": 2, "text": "..."}]}'
    )
    return _written(f"{shown}\n\n{task}", MultiReply, settings)


def write_unanswerable(
    passage: Passage, persona: str, style: str, settings: SynthSettings, before: Sequence[str]
) -> Prompt[UnanswerableReply]:
    """Asks for a question that fits the documents and is not answered by them."""
    task = (
        "Write one question on the subject of this passage that it does NOT answer: somebody who reads it would expect "
        "to find the answer near it, and does not.\n"
        "- It asks for one definite fact (a number, a name, a date, a rule), and names the thing it is about.\n"
        "- It is no question of general knowledge, and none about the document itself.\n"
        '- If you find none, leave "question" empty.\n'
        + _asker(persona, style, settings, before)
        + '\nForm: {"question": "..."}'
    )
    return _written(f"{_shown(passage)}\n\n{task}", UnanswerableReply, settings)


def ask_with_excerpts(question: str, excerpts: Sequence[str], title: str = "") -> Prompt[AnswerReply]:
    """Asks for the answer from excerpts alone."""
    shown = "\n\n".join(f"<excerpt>\n{text}\n</excerpt>" for text in excerpts)
    about = f"The excerpts are from: {title}\n\n" if title else ""
    task = (
        f"Question: {question}\n\n"
        "Answer it from the excerpts alone, in as few words as possible. If they do not hold the answer, set "
        '"known" to false and "answer" to "".\nForm: {"known": true, "answer": "..."}'
    )
    return Prompt(_CHECKER, f"{about}{shown}\n\n{task}", AnswerReply, _CHECK_TOKENS)


def ask_closed_book(question: str) -> Prompt[AnswerReply]:
    """Asks for the answer without any document."""
    task = (
        f"Question: {question}\n\n"
        "Answer it from what you know, in as few words as possible; where you do not know, give your best guess. If "
        'even a guess makes no sense, set "known" to false and "answer" to "".\n'
        'Form: {"known": true, "answer": "..."}'
    )
    system = "You answer questions from general knowledge. Reply with one JSON object and nothing else."
    return Prompt(system, task, AnswerReply, _CHECK_TOKENS)


def _written(user: str, reply: type, settings: SynthSettings) -> Prompt:
    return Prompt(_WRITER, user, reply, settings.max_tokens, settings.temperature, settings.seed)


def _shown(passage: Passage, number: int | None = None) -> str:
    name = "passage" if number is None else f"passage {number}"
    where = " > ".join(dict.fromkeys((passage.title, *passage.heading)))
    return f"Document: {where}\n<{name}>\n{passage.text}\n</{name}>"


def _asker(persona: str, style: str, settings: SynthSettings, before: Sequence[str]) -> str:
    lines = [f"- Asked by: {persona}."] if persona else []
    lines.append(f"- Style of the question: {style}.")
    language = settings.language or "the language of the passage"
    lines.append(f"- Language of question and answer: {language}. The evidence stays as it is.")
    if before:
        lines.append("- Not one of these again: " + " | ".join(before))
    return "\n".join(lines)
