"""Instruction examples for the LLM, built from the passages that the tuned retriever finds (RAFT-style).

After RAFT (Zhang et al. 2024, "RAFT: Adapting Language Model to Domain Specific RAG"), with two changes: distractors
are what the retriever really returns, not random passages, and a prompt without the evidence is answered by abstaining,
not from memory.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..core.chat.types import Message
from ..core.components import Model
from ..core.errors import DataError
from ..core.files import write_atomic
from ..core.types import Chunk, Evidence, Question

__all__ = ["Example", "ExampleSet", "ExampleSettings", "build_examples", "load_examples", "normalise", "save_examples"]

Render = Callable[[str, Sequence[Chunk]], tuple[Message, ...]]
Fits = Callable[[tuple[Message, ...], str], bool]


class ExampleSettings(Model):
    """How training examples are made from questions."""

    p_oracle: float = Field(default=0.8, ge=0, le=1)
    """Share of the examples of answerable questions whose prompt holds the evidence. The rest teach abstaining: lower
    values make the model more careful, and less helpful."""
    top_k: int = Field(default=5, ge=1)
    """Passages in a prompt; take the pipeline's own number, or the model trains on prompts that it will not see."""
    copies: int = Field(default=2, ge=1)
    """Examples made of each question. The first copy has the passages that retrieval ranks first, further ones draw
    their distractors from all that were retrieved; one that comes out as an earlier one is left out. Training time
    grows in proportion."""
    shuffle: bool = True
    """Puts the passages of a prompt in random order, so that the model does not learn to trust a rank."""
    abstention: str = Field(default="Not documented [none]", min_length=1)
    """The answer where the passages do not hold one; in the wording that the metrics count as abstaining."""
    seed: int = 0
    """Seed of every draw; each question has its own stream, so adding one changes no other."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the answer to learn.

    Attributes:
        question_id: The question it was made from.
        question: The question's text.
        messages: The prompt.
        completion: The answer to write.
        kind: `oracle` where the prompt holds the evidence, else `abstain`.
        context_ids: Ids of the chunks in the prompt, in their order.
    """

    question_id: str
    question: str
    messages: tuple[Message, ...]
    completion: str
    kind: Literal["oracle", "abstain"]
    context_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """Examples, and what was noticed while they were made.

    Attributes:
        examples: In order of the questions, copies next to each other.
        inserted: Questions for which evidence that retrieval missed was put into a prompt.
        without_oracle: Answerable questions that no chunk answers (evidence lost in parsing); left out, for
            neither answering nor abstaining would be right.
        trimmed: Examples from whose prompt distractors were taken so that it fits.
    """

    examples: tuple[Example, ...]
    inserted: tuple[str, ...] = ()
    without_oracle: tuple[str, ...] = ()
    trimmed: int = 0


def build_examples(
    questions: Sequence[Question],
    retrieved: Mapping[str, Sequence[Chunk]],
    oracle: Mapping[str, Sequence[Chunk]],
    render: Render,
    settings: ExampleSettings,
    fits: Fits | None = None,
) -> ExampleSet:
    """Makes examples of the train questions.

    Args:
        questions: The questions; those without evidence become abstentions.
        retrieved: Chunks that the pipeline retrieves for each question id, best first. Give more than `top_k` of them
            (three times as many, say), so that copies differ.
        oracle: Chunks that hold evidence, by question id; None of them is ever used as a distractor.
        render: Makes the prompt from the question's text and its passages, as the pipeline does.
        settings: See `ExampleSettings`.
        fits: Whether a prompt and its answer fit the model's window (`fits_window` makes one); distractors are taken
            out, the last first, until they do. None takes every prompt.

    Raises:
        DataError: A question has no entry in `retrieved`, or no example could be made.
    """
    missing = [question.id for question in questions if question.id not in retrieved]
    if missing:
        raise DataError(f"no retrieved passages for {len(missing)} train questions, for instance {missing[0]}")
    lost = [question.id for question in questions if question.answerable and not oracle.get(question.id)]
    made: list[tuple[Example, bool, bool]] = []
    for question in questions:
        if not question.answerable or oracle.get(question.id):
            gold = list(oracle.get(question.id, ()))
            made += _copies(question, list(dict.fromkeys(retrieved[question.id])), gold, render, settings, fits)
    if not made:
        raise DataError("no training example could be made: no train question has a chunk that holds its evidence")
    inserted = dict.fromkeys(example.question_id for example, put_in, _ in made if put_in)
    trimmed = sum(removed for _, _, removed in made)
    return ExampleSet(tuple(example for example, _, _ in made), tuple(inserted), tuple(lost), trimmed)


def _copies(
    question: Question,
    found: Sequence[Chunk],
    gold: Sequence[Chunk],
    render: Render,
    settings: ExampleSettings,
    fits: Fits | None,
) -> list[tuple[Example, bool, bool]]:
    """A question's examples, each with whether evidence had to be put in, and whether it lost distractors."""
    top = found[: settings.top_k]
    distractors = [chunk for chunk in found if chunk not in gold and not _holds_any(chunk, question.evidence)]
    made: list[tuple[Example, bool, bool]] = []
    for copy in range(settings.copies):
        rng = random.Random(f"{settings.seed}:{question.id}:{copy}")
        with_gold = question.answerable and rng.random() < settings.p_oracle
        needed = _needed(question.evidence, gold, top) if with_gold else []
        chunks = _mix(needed, distractors, found, settings, rng, first=copy == 0)
        completion = question.answer if with_gold else settings.abstention
        example, removed = _fit(question, chunks, needed, completion, render, fits)
        # With few passages in a prompt a draw repeats, and what is there already is not trained on twice.
        if all((example.messages, example.completion) != (one.messages, one.completion) for one, _, _ in made):
            made.append((example, any(chunk not in top for chunk in needed), bool(removed)))
    return made


def _mix(
    needed: Sequence[Chunk],
    distractors: Sequence[Chunk],
    found: Sequence[Chunk],
    settings: ExampleSettings,
    rng: random.Random,
    first: bool,
) -> list[Chunk]:
    """The passages of one prompt in their order: needed ones where retrieval has them, else at a random rank."""
    room = max(settings.top_k - len(needed), 0)
    if first or len(distractors) <= room:
        chosen = list(distractors[:room])
    else:
        places = sorted(rng.sample(range(len(distractors)), room))
        chosen = [distractors[place] for place in places]
    rank = {chunk.id: place for place, chunk in enumerate(found)}
    ranked = sorted([*chosen, *(c for c in needed if c.id in rank)], key=lambda chunk: rank[chunk.id])
    for chunk in needed:
        if chunk.id not in rank:
            ranked.insert(rng.randint(0, len(ranked)), chunk)
    if settings.shuffle:
        rng.shuffle(ranked)
    return ranked


def _fit(
    question: Question,
    chunks: list[Chunk],
    needed: Sequence[Chunk],
    completion: str,
    render: Render,
    fits: Fits | None,
) -> tuple[Example, bool]:
    """Renders the prompt, with distractors taken out until it fits; and whether any was."""
    kept = list(chunks)
    messages = render(question.text, kept)
    while fits is not None and not fits(messages, completion):
        spare = next((place for place in reversed(range(len(kept))) if kept[place] not in needed), None)
        if spare is None:
            break  # needed passages alone are too long: the checks before training report it
        del kept[spare]
        messages = render(question.text, kept)
    kind: Literal["oracle", "abstain"] = "oracle" if needed else "abstain"
    ids = tuple(chunk.id for chunk in kept)
    return Example(question.id, question.text, tuple(messages), completion, kind, ids), len(kept) < len(chunks)


def _needed(evidence: Sequence[Evidence], gold: Sequence[Chunk], shown: Sequence[Chunk]) -> list[Chunk]:
    """The fewest gold chunks that hold all evidence, those that retrieval already shows first."""
    seen = {chunk.id for chunk in shown}
    order = [*(c for c in gold if c.id in seen), *(c for c in gold if c.id not in seen)]
    needed: list[Chunk] = []
    for piece in evidence:
        if any(_holds(chunk, piece) for chunk in needed):
            continue
        whole = next((chunk for chunk in order if _holds(chunk, piece)), None)
        # evidence that is split over chunks needs all of them
        parts = [whole] if whole else [chunk for chunk in gold if _touches(chunk, piece)]
        needed += [chunk for chunk in parts if chunk not in needed]
    return needed or list(gold)


def _holds_any(chunk: Chunk, evidence: Sequence[Evidence]) -> bool:
    return any(_holds(chunk, piece) for piece in evidence)


def _holds(chunk: Chunk, piece: Evidence) -> bool:
    if piece.doc_id == chunk.doc_id and piece.start is not None and piece.end is not None:
        return chunk.start <= piece.start and piece.end <= chunk.end
    return normalise(piece.text) in normalise(chunk.text)


def _touches(chunk: Chunk, piece: Evidence) -> bool:
    if piece.doc_id != chunk.doc_id or piece.start is None or piece.end is None:
        return piece.doc_id == chunk.doc_id
    return chunk.start < piece.end and piece.start < chunk.end


def normalise(text: str) -> str:
    """Text for comparing: lower case, every run of other characters than letters and digits one space."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def save_examples(examples: Sequence[Example], path: Path) -> None:
    """Writes examples as JSONL, one a line, whole or not at all."""
    lines = (json.dumps(_to_row(example), ensure_ascii=False) + "\n" for example in examples)
    write_atomic(Path(path), "".join(lines).encode())


def load_examples(path: Path) -> list[Example]:
    """Reads what `save_examples` wrote.

    Raises:
        DataError: The file is not there, or a line is no example.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"training examples: {path} cannot be read: {error.strerror}") from None
    examples = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            examples.append(_from_row(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"training examples: {path}:{number} is no example ({error!r})") from None
    return examples


def _to_row(example: Example) -> dict[str, object]:
    return {
        "question_id": example.question_id,
        "question": example.question,
        "messages": [{"role": message.role, "content": message.content} for message in example.messages],
        "completion": example.completion,
        "kind": example.kind,
        "context_ids": list(example.context_ids),
    }


def _from_row(row: dict) -> Example:
    if row["kind"] not in ("oracle", "abstain"):
        raise ValueError(f"kind '{row['kind']}'")
    return Example(
        question_id=row["question_id"],
        question=row["question"],
        messages=tuple(Message(turn["role"], turn["content"]) for turn in row["messages"]),
        completion=row["completion"],
        kind=row["kind"],
        context_ids=tuple(row["context_ids"]),
    )
