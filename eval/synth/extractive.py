"""Questions without an LLM: from headings, from questions in the documents, and from definitions. English only.

They read like the queries of people who know what their documents are called; that is enough to train an embedding
model on, and too easy to judge one by. So each carries the tag `source: synthetic-extractive`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core.types import Document, Section
from ._headings import Names, heading_questions, word_set

__all__ = ["Extracted", "extract_questions"]

_MOST_EVIDENCE = 320
_FEWEST_LETTERS = 30
_QUESTION_LINE = re.compile(r"^\s*(?:[-*]\s+)?(?:\*\*|__)?(?:Q\d*[:.]\s*)?([A-Z][^\n|*]{8,200}\?)(?:\*\*|__)?\s*$")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(]?[A-Z0-9])")
_LIST_MARK = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")
_RULE = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")
# "A hollow is one compartment of a locker": an article, up to four words, the verb, an article
_IS_A = re.compile(
    r"^(?P<article>An?|The) (?P<term>[a-z][\w-]*(?: [a-z][\w-]*){0,2}) (?:is|are) (?P<rest>(?:an?|the|one of) .{15,})$"
)
_NAME_IS_A = re.compile(
    r"^(?P<term>[A-Z][\w-]+(?: [A-Z0-9][\w-]*){0,2}) (?:is|are) (?P<rest>(?:an?|the|our|one of) .{15,})$"
)
_MEANS = re.compile(
    r"^(?:(?:An?|The) )?(?P<term>[\w-]+(?: [\w-]+){0,3}) (?:means|refers to|stands for|is defined as) "
    r"(?P<rest>(?:an?|the|that|to) .{8,})$"
)
_LABEL = re.compile(r"^(?:\*\*|__)(?P<term>[^*_|?]{2,40}?)(?:\.|:)?(?:\*\*|__)[:.]? (?:[-–—] )?(?P<rest>\S.{20,})$")
_NO_TERM = word_set(
    "it this that these those there here he she they we you i one some many most each every nobody nothing who what "
    "which when where how why only either neither both none all another others such first second third next last "
    "result reason problem point difference answer question rest exception rule default aim goal idea"
)
_TERM_HEADERS = word_set("word term name abbreviation acronym expression concept")
_MEANING_HEADERS = word_set("meaning definition explanation stands means")
_CODE_HEADERS = word_set("code error fault alarm status message")
_ENGLISH = word_set("the a an and of to in is are for on with it be by not or as at from that no")


@dataclass(frozen=True, slots=True)
class Extracted:
    """A question that was made by a pattern.

    Attributes:
        text: The question.
        start: Offset of its evidence in the document.
        end: Offset after it.
        answer: The evidence, marks of lists and tables taken out.
        pattern: `question`, `definition` or `heading`.
    """

    text: str
    start: int
    end: int
    answer: str
    pattern: str


def extract_questions(document: Document, names: Names) -> list[Extracted]:
    """All questions that the patterns make of a document, in order of their evidence.

    Args:
        document: Parsed. One with hardly any English function word in it gives nothing.
        names: How words of the corpus are written, see `Names`.
    """
    words = re.findall(r"[a-z]+", document.text.lower())
    if not words or sum(word in _ENGLISH for word in words) < 0.03 * len(words):
        return []
    blocks = list(_blocks(document.text))
    found = [*_asked(document, blocks), *_defined(document, blocks, names), *_headed(document, names)]
    # one question a stretch and pattern; the order of the patterns is kept for equal starts
    unique = {(item.pattern, item.start, item.text): item for item in found}
    return sorted(unique.values(), key=lambda item: item.start)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Paragraphs, list items and table rows; lines of one paragraph together."""
    start = end = -1
    place = 0
    for line in text.splitlines(keepends=True):
        body = line.strip()
        first, last = place + len(line) - len(line.lstrip()), place + len(line.rstrip())
        place += len(line)
        alone = body.startswith(("#", "|")) or _LIST_MARK.match(line) or _QUESTION_LINE.match(line)
        if (not body or alone) and start >= 0:
            yield start, end
            start = -1
        if not body or _RULE.match(line):
            continue
        if alone and not _LIST_MARK.match(line):
            yield first, last
            continue
        start, end = (first if start < 0 else start), last
    if start >= 0:
        yield start, end


def _evidence(text: str, start: int, end: int) -> tuple[int, int]:
    """The first whole sentences of a stretch, up to about 320 characters; at least one."""
    if end - start <= _MOST_EVIDENCE:
        return start, end
    stop = start
    for mark in _SENTENCE_END.finditer(text, start, end):
        if mark.start() - start > _MOST_EVIDENCE and stop > start:
            break
        stop = mark.start()
        if stop - start > _MOST_EVIDENCE / 2:
            break
    if stop == start or stop - start > 2 * _MOST_EVIDENCE:
        stop = text.rfind(" ", start, start + _MOST_EVIDENCE)
    return start, stop if stop > start else end


def _plain(text: str) -> str:
    """A stretch as an answer: without marks of lists, tables and emphasis."""
    kept = [_LIST_MARK.sub("", line) for line in text.splitlines() if not _RULE.match(line)]
    lines = [re.sub(r"\*\*|__|`", "", line).strip().strip("|").split("|") for line in kept]
    rows = [", ".join(cell.strip() for cell in cells if cell.strip()) for cells in lines]
    return " ".join(("; " if any(len(cells) > 1 for cells in lines) else " ").join(rows).split())


def _made(document: Document, asked: str, start: int, end: int, pattern: str) -> Iterator[Extracted]:
    text = document.text[start:end]
    if sum(character.isalnum() for character in text) >= _FEWEST_LETTERS:
        yield Extracted(asked, start, end, _plain(text), pattern)


def _asked(document: Document, blocks: Sequence[tuple[int, int]]) -> Iterator[Extracted]:
    """Questions that stand in the document, as headings or lines of their own, with what follows them."""
    for (start, end), (first, last) in zip(blocks, blocks[1:], strict=False):
        line = document.text[start:end].lstrip("#").strip()
        found = _QUESTION_LINE.match(line)
        follows = document.text[first:last]
        if found and len(found.group(1).split()) >= 4 and not follows.startswith("#") and "?" not in follows[-3:]:
            yield from _made(document, found.group(1), *_evidence(document.text, first, last), "question")


def _defined(document: Document, blocks: Sequence[tuple[int, int]], names: Names) -> Iterator[Extracted]:
    text = document.text
    header: list[str] = []
    before = 0
    for start, end in blocks:
        block = text[start:end]
        if re.search(r"\n\s*\n", text[before:start]):
            header = []  # another table
        before = end
        if not block.startswith("|"):
            yield from _defined_in_prose(document, start, end, names)
            continue
        cells = [cell.strip() for cell in block.strip().strip("|").split("|")]
        if not header:
            header = [cell.lower() for cell in cells]
            continue
        yield from _defined_in_row(document, header, cells, start, end)


def _defined_in_row(
    document: Document, header: Sequence[str], cells: Sequence[str], start: int, end: int
) -> Iterator[Extracted]:
    """A row of a glossary or of a list of codes."""
    if len(header) < 2 or len(cells) != len(header) or not cells[0] or len(cells[0]) > 60:
        return
    first, second = header[0].split(), header[1].split()
    glossary = _TERM_HEADERS & set(first[-1:]) and (len(header) == 2 or _MEANING_HEADERS & set(second))
    code = bool(_CODE_HEADERS & set(first)) and any(character.isdigit() for character in cells[0])
    term = re.sub(r"[`*]", "", cells[0])
    if glossary or (_MEANING_HEADERS & set(second)):
        # "B5" alone is found in many documents
        where = f" ({document.title})" if len(term) <= 3 else ""
        asked = f"What does code {term} mean{where}?" if code else f'What does "{term}" mean{where}?'
    elif code:
        kind = next(word for word in first if word in _CODE_HEADERS)
        asked = f"What does {'code' if kind == 'code' else f'{kind} code'} {term} mean?"
    else:
        return
    # the row whole, for a single cell stands in many places
    if sum(character.isalnum() for character in document.text[start:end]) >= 12:
        yield Extracted(asked, start, end, _plain("|".join(cells[1:])), "definition")


def _defined_in_prose(document: Document, start: int, end: int, names: Names) -> Iterator[Extracted]:
    text = document.text
    marks = [start, *(mark.end() for mark in _SENTENCE_END.finditer(text, start, end)), end]
    for first, last in zip(marks, marks[1:], strict=False):
        sentence = text[first:last].rstrip()
        body = " ".join(_LIST_MARK.sub("", sentence).split())
        for pattern in (_LABEL, _MEANS, _IS_A, _NAME_IS_A):
            match = pattern.match(body)
            if match is None:
                continue
            term = match.group("term").strip()
            asked = _definition_question(pattern, match, term, names.title(document))
            if not asked or {word.lower() for word in term.split()} & _NO_TERM or len(body) > _MOST_EVIDENCE:
                break
            yield from _made(document, asked, first, first + len(sentence), "definition")
            break


def _definition_question(pattern: re.Pattern[str], match: re.Match[str], term: str, title: str) -> str:
    """The question; empty for a term that says nothing outside its document."""
    if pattern is _MEANS:
        return f'What does "{term}" mean?'
    if pattern is _LABEL:
        lower = term[0].lower() + term[1:] if term[1:2].islower() else term
        return "" if " " not in term and term.endswith("ed") else f"What does {title} say about {lower}?"
    verb = "are" if re.match(rf".*{re.escape(term)} are ", match.group()) is not None else "is"
    if pattern is _NAME_IS_A:
        return f"What {verb} {term}?"
    if match.group("article") == "The":  # "the trainer" is another one in each document
        return f"What {verb} the {term} ({title})?" if " " in term else ""
    return f"What {verb} {match.group('article').lower()} {term}?"


def _headed(document: Document, names: Names) -> Iterator[Extracted]:
    """A question a section, from its heading, with its first sentences as evidence."""
    for number, section in enumerate(document.sections):
        following = document.sections[number + 1].start if number + 1 < len(document.sections) else section.end
        body = _first_block(document.text, section, min(section.end, following))
        if body is None or _QUESTION_LINE.match(document.text[body[0] : body[1]].partition("\n")[0]):
            continue
        asked = heading_questions(document, section, names)
        if asked:
            yield from _made(document, asked, *_evidence(document.text, *body), "heading")


def _first_block(text: str, section: Section, end: int) -> tuple[int, int] | None:
    """What stands below a heading: its first paragraph, or the items or rows that open it, up to the usual length."""
    line = text.find("\n", section.start, end)
    blocks = [(line + 1 + a, line + 1 + b) for a, b in _blocks(text[line + 1 : end])] if line >= 0 else []
    if len(blocks) > 1 and text[blocks[0][0]] == "|":
        # the rows without their header, which holds no answer
        blocks = blocks[1:] if _RULE.match(text[blocks[0][1] : blocks[1][0]]) else blocks
    if not blocks:
        return None
    start, stop = blocks[0]
    for first, last in blocks[1:]:
        # a short opening ("Four steps:") says nothing without what follows
        opening = stop - start < 80 or text[stop - 1] == ":"
        if not opening or last - start > _MOST_EVIDENCE or text[first] == "#":
            break
        stop = last
    return start, stop
