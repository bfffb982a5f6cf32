"""Training pairs: a question and the chunk that holds its evidence."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from ..core.errors import DataError
from ..core.files import write_atomic
from ..core.types import Chunk, Question

__all__ = ["GoldSpans", "Pair", "PairSet", "filtered_pairs", "load_pairs", "normalise", "save_pairs", "training_pairs"]

GoldSpans = Mapping[str, Sequence[tuple[str, int, int]]]
"""Evidence by question id: (document id, start, end) in the parsed text; a start below 0 is evidence that was lost."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a text that answers it.

    Attributes:
        question_id: Which question.
        query: Its text.
        positive: The chunk's embedding text.
        chunk_id: The chunk.
        negatives: Embedding texts of chunks that look alike but do not answer it, hardest first.
        scores: How well the positive answers it, then each negative, as a person or a teacher scored them; empty where
            nobody did.
    """

    question_id: str
    query: str
    positive: str
    chunk_id: str
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PairSet:
    """Training pairs and what became of every question.

    Attributes:
        pairs: In the order of the questions.
        counts: `questions`, `pairs`, and by reason what gave none: `unanswerable`, `held_out` (the same question stands
            in dev or test), `lost` (pieces of evidence that the parser lost), `cut` (pieces of which no chunk holds
            enough), `duplicate`.
    """

    pairs: tuple[Pair, ...]
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def summary(self) -> str:
        """The counts in a line."""
        left = [f"{count} {_REASONS[name]}" for name, count in self.counts.items() if name in _REASONS and count]
        text = f"{self.counts['pairs']} training pairs from {self.counts['questions']} questions"
        if "source_pairs" in self.counts:
            text += f" and {self.counts['source_pairs']} pairs of files"
        return f"{text} (left out: {'; '.join(left)})" if left else text


_OF_QUESTIONS = ("unanswerable", "held_out", "lost", "cut", "duplicate")
_REASONS = {
    "unanswerable": "questions without evidence",
    "held_out": "questions that also stand in dev or test",
    "lost": "pieces of evidence that the parser lost",
    "cut": "pieces of evidence of which no chunk holds enough",
    "duplicate": "duplicates",
    "held_out_text": "pairs of files whose passage answers a dev or test question",
    "contradiction": "negatives that are a positive of the same question",
    "feedback_silent": "rows of feedback that say neither good nor bad",
    "feedback_unknown": "rows of feedback whose chunk is not there any more",
}


def training_pairs(
    questions: Iterable[Question],
    chunks: Sequence[Chunk],
    texts: Sequence[str],
    gold: GoldSpans,
    cover: float = 0.5,
    held_out: Iterable[Question] = (),
    allow_empty: bool = False,
) -> PairSet:
    """Pairs each question with the chunk that covers most of each piece of its evidence.

    Args:
        questions: The train questions.
        chunks: All chunks.
        texts: The embedding text of each chunk.
        gold: Where the evidence of each question is.
        cover: Least share of a piece of evidence (0 to 1) that a chunk must hold to be a positive.
        held_out: The dev and test questions; train questions of the same normalised text are dropped.
        allow_empty: No error where no pair is left, as others will be added.

    Raises:
        DataError: `texts` is not parallel to `chunks`, or no pair is left; the message gives the counts.
    """
    if len(texts) != len(chunks):
        raise DataError(f"training pairs: {len(texts)} embedding texts for {len(chunks)} chunks; give one a chunk")
    forbidden = {normalise(question.text) for question in held_out}
    chunks_of = _Covering(chunks, cover)
    counts = Counter({name: 0 for name in ("questions", "pairs", *_OF_QUESTIONS)})
    found: dict[tuple[str, str], Pair] = {}
    for question in questions:
        counts["questions"] += 1
        query = normalise(question.text)
        if query in forbidden:
            counts["held_out"] += 1
            continue
        spans = gold.get(question.id, ())
        if not spans:
            counts["unanswerable"] += 1
        for span in spans:
            place = chunks_of.best(*span)
            if isinstance(place, str):
                counts[place] += 1
            elif (query, texts[place]) in found:
                counts["duplicate"] += 1
            else:
                found[query, texts[place]] = Pair(question.id, question.text, texts[place], chunks[place].id)
    counts["pairs"] = len(found)
    result = PairSet(tuple(found.values()), dict(counts))
    if not found and not allow_empty:
        raise DataError(
            f"no training pairs: {result.summary()}. Check that there are train questions with evidence, that "
            "it is found in the parsed documents, and that chunks are large enough to hold it"
        )
    return result


class _Covering:
    """Finds the chunk that holds most of a piece of evidence."""

    def __init__(self, chunks: Sequence[Chunk], cover: float) -> None:
        self._chunks, self._cover = chunks, cover
        self._by_document: dict[str, list[int]] = {}
        for position, chunk in enumerate(chunks):
            self._by_document.setdefault(chunk.doc_id, []).append(position)

    def best(self, doc_id: str, start: int, end: int) -> int | Literal["lost", "cut"]:
        """Position of the chunk, of equals the shortest, then the first; else why there is none."""
        if start < 0 or end <= start:
            return "lost"
        least = self._cover * (end - start)
        ranks = []
        for position in self._by_document.get(doc_id, ()):
            chunk = self._chunks[position]
            overlap = min(end, chunk.end) - max(start, chunk.start)
            if overlap > 0 and overlap >= least:
                ranks.append((-overlap, chunk.end - chunk.start, position))
        return min(ranks)[2] if ranks else "cut"


def filtered_pairs(
    pairs: PairSet,
    added: Iterable[Pair],
    held_out_queries: Iterable[str],
    held_out_texts: Iterable[str],
    counts: Mapping[str, int],
) -> PairSet:
    """Adds pairs from elsewhere to those of the train questions, without leaks, duplicates and contradictions.

    Args:
        pairs: Of the train questions.
        added: Further ones.
        held_out_queries: What dev and test ask.
        held_out_texts: Passages that answer dev and test questions.
        counts: What was counted while they were read.
    """
    queries = {normalise(text) for text in held_out_queries}
    passages = {normalise(text) for text in held_out_texts}
    total = Counter(pairs.counts)
    total.update(counts)
    seen = {(normalise(pair.query), normalise(pair.positive)) for pair in pairs}
    kept = list(pairs)
    for pair in added:
        query, positive = normalise(pair.query), normalise(pair.positive)
        if query in queries:
            total["held_out"] += 1
        elif positive in passages:
            total["held_out_text"] += 1
        elif (query, positive) in seen:
            total["duplicate"] += 1
        else:
            seen.add((query, positive))
            kept.append(pair)
    whole = []
    for pair in kept:
        clean = [text for text in pair.negatives if (normalise(pair.query), normalise(text)) not in seen]
        total["contradiction"] += len(pair.negatives) - len(clean)
        whole.append(pair if len(clean) == len(pair.negatives) else replace(pair, negatives=tuple(clean), scores=()))
    total["pairs"] = len(whole)
    return PairSet(tuple(whole), dict(total))


def normalise(text: str) -> str:
    """Letters and digits alone, in compatibility form and lower case: equal for texts that differ in looks only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def save_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes pairs to a JSON Lines file, whole or not at all."""
    lines = "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
    write_atomic(Path(path), lines.encode())


def load_pairs(path: Path) -> list[Pair]:
    """Reads what `save_pairs` wrote.

    Raises:
        DataError: There is no such file, or a line is no pair.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make the training pairs again") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            lists = {name: tuple(row.get(name, ())) for name in ("negatives", "scores")}
            pairs.append(Pair(**{**row, **lists}))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}:{number}: not a training pair ({error})") from None
    return pairs
