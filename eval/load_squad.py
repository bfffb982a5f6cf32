"""SQuAD-style JSON: articles of paragraphs, with answers as character spans (Rajpurkar et al., 2016 and 2018).

An article becomes a document. The gold evidence is the sentence that holds the answer, not the bare answer: a number or
a name alone stands in many places, so chunks could not be scored by it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.types import Evidence, Question, Split
from ._source import DocumentSet, Problems, json_file, plain_text, require_file, text_problem
from .imported import Imported

__all__ = ["SquadRow", "load_squad", "squad_dataset", "squad_rows"]

SquadRow = tuple[str, str, str, Mapping[str, Any] | None, Split | None]
"""Place for messages, title of the article, paragraph, the question's object (None: the paragraph alone), split."""
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
_SHORTEST = 20  # characters below which a sentence says too little, and the paragraph is taken


def load_squad(source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a SQuAD file, version 1.1 or 2.0.

    Args:
        source: The JSON file.
        documents: Not used; the file has its own paragraphs.

    Raises:
        DataError: Listing what is wrong by file and place in it.
    """
    problems = Problems(source)
    rows = list(squad_rows(require_file(source, "SQuAD is one .json file"), problems))
    problems.check()
    imported = squad_dataset(rows, problems)
    problems.check()
    return imported


def squad_rows(path: Path, problems: Problems) -> Iterable[SquadRow]:
    """The questions of a SQuAD file, each with its paragraph."""
    data = json_file(path)
    articles = data.get("data") if isinstance(data, dict) else None
    if not isinstance(articles, list):
        problems.add(f"{path}:1", 'expected {"data": [articles]} at the top')
        return
    for a, article in enumerate(articles):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            problems.add(f"{path}: data[{a}]", "expected an object with a list of 'paragraphs'")
            continue
        for p, paragraph in enumerate(paragraphs):
            where = f"{path}: data[{a}].paragraphs[{p}]"
            context, qas = (paragraph.get(k) if isinstance(paragraph, dict) else None for k in ("context", "qas"))
            if not isinstance(context, str) or not isinstance(qas, list) or text_problem({"context": context}):
                problems.add(where, "expected an object with 'context' (text) and 'qas' (a list)")
                continue
            title = str(article.get("title") or f"article-{a + 1}")
            yield where, title, context, None, None
            for q, row in enumerate(qas):
                if isinstance(row, dict):
                    yield f"{where}.qas[{q}]", title, context, row, None
                else:
                    problems.add(f"{where}.qas[{q}]", "expected an object")


def squad_dataset(rows: Iterable[SquadRow], problems: Problems) -> Imported:
    """Questions and documents from SQuAD rows; what is wrong with a row is noted as a problem.

    `answers` is a list of `{text, answer_start}` or, as the datasets library has it, one object of two lists. Of
    several annotators' answers the most frequent is the reference, the first of them in doubt.
    """
    rows = list(rows)
    articles: dict[str, dict[str, str]] = {}
    for _, title, context, _, _ in rows:
        articles.setdefault(title or context, {}).setdefault(context, plain_text(context))
    corpus = DocumentSet()
    places: dict[tuple[str, str], tuple[str, int]] = {}
    for number, (title, contexts) in enumerate(articles.items(), 1):
        bare = title in contexts  # a paragraph whose article has no title is a document of its own
        heading = "" if bare else plain_text(title.replace("_", " "))
        doc_id = corpus.add(f"paragraph-{number:05}" if bare else title, plain_text(heading, *contexts))
        offset = len(heading)
        for context, text in contexts.items():
            offset += 2 if offset else 0
            places[title, context] = (doc_id, offset)
            offset += len(text)
    questions: list[Question] = []
    seen: dict[str, str] = {}
    several = 0
    for where, title, context, row, split in rows:
        if row is None:
            continue
        article = title or context
        key, asked = row.get("id"), row.get("question")
        if not isinstance(key, (str, int)) or not isinstance(asked, str) or not asked.strip():
            problems.add(where, "needs 'id' and 'question'")
            continue
        if seen.setdefault(str(key), where) != where:
            problems.add(where, f"id '{key}' stands twice (first at {seen[str(key)]})")
            continue
        answers = _answers(row, context, where, problems)
        if answers is None:
            continue
        several += len({text for text, _ in answers}) > 1
        evidence: tuple[Evidence, ...] = ()
        reference = ""
        if answers:
            reference, start = _reference(answers)
            evidence = (_evidence(context, articles[article][context], start, reference, *places[article, context]),)
        questions.append(Question(str(key), asked, reference, evidence, {}, split))
    unanswerable = sum(not q.evidence for q in questions)
    notes = []
    if several:
        notes.append(f"{several} questions have several reference answers: the most frequent was taken")
    if unanswerable:
        notes.append(f"{unanswerable} questions are unanswerable by the source's own mark")
    return Imported(tuple(questions), corpus.texts, tuple(notes))


def _answers(row: Mapping[str, Any], context: str, where: str, problems: Problems) -> list[tuple[str, int]] | None:
    """Answers with their offsets in the paragraph; none for an unanswerable question; None where they are broken."""
    given = row.get("answers")
    pairs: list[tuple[Any, Any]]
    if isinstance(given, Mapping):
        pairs = list(zip(given.get("text") or (), given.get("answer_start") or (), strict=False))
    elif isinstance(given, list) and all(isinstance(answer, Mapping) for answer in given):
        pairs = [(answer.get("text"), answer.get("answer_start")) for answer in given]
    else:
        problems.add(where, "needs 'answers', a list of objects with 'text' and 'answer_start'")
        return None
    if row.get("is_impossible"):
        return []
    if not pairs and "is_impossible" in row:
        problems.add(where, "has no answers, but is not marked 'is_impossible'")
        return None
    for text, start in pairs:
        if not isinstance(text, str) or not text or isinstance(start, bool) or not isinstance(start, int):
            problems.add(where, "an answer needs 'text' (not empty) and 'answer_start' (a whole number)")
            return None
        if start < 0 or context[start : start + len(text)] != text:
            found = context[max(start, 0) : max(start, 0) + len(text)]
            problems.add(where, f"answer '{text}' does not stand at answer_start {start}, but '{found}'")
            return None
    return pairs


def _reference(answers: list[tuple[str, int]]) -> tuple[str, int]:
    text = Counter(text for text, _ in answers).most_common(1)[0][0]
    return text, next(start for other, start in answers if other == text)


def _evidence(context: str, shown: str, start: int, answer: str, doc_id: str, offset: int) -> Evidence:
    """The sentence round an answer, with its offsets in the document where the paragraph was taken over unchanged."""
    cuts = [0, *(match.end() for match in _SENTENCE_END.finditer(context)), len(context)]
    first = max(cut for cut in cuts if cut <= start)
    last = min(cut for cut in cuts if cut >= start + len(answer))
    sentence = context[first:last].strip()
    if len(sentence) < _SHORTEST or sentence not in shown:
        sentence = shown
    at = offset + shown.find(sentence, first if context == shown and sentence != shown else 0)
    return Evidence(doc_id, sentence, at, at + len(sentence))
