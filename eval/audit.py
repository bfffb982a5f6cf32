"""Checks whether questions are fit to decide by: duplicates, leakage, contradictions, gold, answers, tags, power."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from ..core.components import Model
from ..core.types import SPLITS, Document, Question
from ._near import near_duplicates, normal_form
from .answers import normalise_answer
from .closed_book import ClosedBook
from .gold import Gold, locate
from .power import PowerRow, power_rows

__all__ = ["AuditReport", "AuditSettings", "Finding", "audit_questions"]

Level = Literal["error", "warning", "info"]
"""How much a finding matters, see `Finding.level`."""
_MOST_EXAMPLES = 5
_MOST_VALUES = 50  # a tag with more values is a name, not a slice


class AuditSettings(Model):
    """What counts as a fault."""

    near: float = Field(default=92.0, ge=50, le=100)
    """Similarity (0 to 100) from which two questions are near-duplicates; lower finds more, and more by mistake."""
    max_lost: float = Field(default=0.05, ge=0, le=1)
    """Share of the evidence that may be missing in the parsed text before the data counts as unfit."""
    max_answer_words: int = Field(default=100, ge=1)
    """Words from which a reference answer is called very long: metrics of overlap say little about such answers."""
    fewest: int = Field(default=30, ge=2)
    """Questions below which a split is called small."""
    sd: float = Field(default=0.3, gt=0, le=1)
    """Assumed standard deviation of the paired difference a question (scores from 0 to 1); a run gives the real one."""
    max_known: float = Field(default=0.1, ge=0, le=1)
    """Share of the questions that an LLM may answer without documents before that counts as worth mending."""
    icc: float = Field(default=0.05, ge=0, le=1)
    """Assumed intraclass correlation of questions on one document: 0 counts each question in full, 1 each document."""


class Finding(Model):
    """One thing that was found."""

    check: str
    """Which check."""
    level: Level
    """error: the data is unfit; warning: worth mending; info: worth knowing."""
    count: int
    """How many questions, pairs or passages."""
    message: str
    """What was found and what to do, a sentence."""
    examples: tuple[str, ...] = ()
    """The first few."""


class AuditReport(Model):
    """What `ragladder data audit --json` prints."""

    fit: bool
    """False where a finding is an error."""
    questions: int
    """How many."""
    splits: dict[str, int]
    """Questions by split; `none` where it is not set."""
    unanswerable: int
    """Questions without evidence."""
    documents: int | None
    """Documents that were searched for the evidence; None where none were given."""
    tags: dict[str, dict[str, dict[str, int]]]
    """Questions by tag, value and split."""
    power: tuple[PowerRow, ...]
    """The smallest difference that each split can show."""
    findings: tuple[Finding, ...]
    """Errors first."""
    closed_book: ClosedBook | None = None
    """What an LLM answered without documents; None where none was asked."""


def audit_questions(
    questions: Sequence[Question],
    documents: Sequence[Document] | None = None,
    settings: AuditSettings | None = None,
    measured_sd: float | None = None,
    known: ClosedBook | None = None,
) -> AuditReport:
    """Checks questions.

    Args:
        questions: All splits.
        documents: The parsed corpus, to look for the evidence in; without it that check is left out, and said so.
        settings: What counts as a fault.
        measured_sd: Standard deviation of the paired difference a question between two pipelines, from a run.
        known: What an LLM answered without documents, see `closed_book`; without it that check is left out.
    """
    settings = settings or AuditSettings()
    gold = locate(questions, documents) if documents is not None else None
    pairs = near_duplicates([question.text for question in questions], settings.near)
    findings = [
        *_split_findings(questions, settings),
        *_duplicates(questions, pairs),
        *_contradictions(questions, pairs),
        *_shared_documents(questions),
        *_shared_evidence(questions, gold),
        *_gold_findings(questions, documents, gold, settings),
        *_answer_findings(questions, settings),
        *_tag_findings(questions),
        *_closed_book_findings(known, settings),
        *_synthetic_findings(questions),
    ]
    order = ("error", "warning", "info")
    counts = Counter(question.split or "none" for question in questions)
    return AuditReport(
        fit=all(finding.level != "error" for finding in findings),
        questions=len(questions),
        splits={name: counts[name] for name in (*SPLITS, "none") if counts[name]},
        unanswerable=sum(not question.answerable for question in questions),
        documents=None if documents is None else len(documents),
        tags=_tag_table(questions),
        power=power_rows(questions, settings.sd, settings.icc, measured_sd),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.level))),
        closed_book=known,
    )


def _finding(check: str, level: Level, found: Sequence[str], message: str) -> list[Finding]:
    """One finding, or none where nothing was found; `{n}` in the message is the number."""
    if not found:
        return []
    text = message.replace("{n}", str(len(found)))
    return [Finding(check=check, level=level, count=len(found), message=text, examples=tuple(found[:_MOST_EXAMPLES]))]


def _split_findings(questions: Sequence[Question], settings: AuditSettings) -> list[Finding]:
    counts = Counter(question.split for question in questions)
    if counts[None] == len(questions):
        return _finding("splits", "warning", ["all"], "no question has a split; run 'ragladder data split'")
    bare = [question.id for question in questions if question.split is None]
    absent = [split for split in SPLITS if not counts[split]]
    found = Counter(question.split for question in questions if question.answerable)
    blind = [f"{split}: {counts[split]}" for split in ("dev", "test") if counts[split] and not found[split]]
    few = [f"{split}: {counts[split]}" for split in ("dev", "test") if 0 < counts[split] < settings.fewest]
    return [
        *_finding("splits", "warning", bare, "{n} questions have no split and are used by nothing"),
        *_finding("splits", "warning", absent[:1], f"no question has the split {' or '.join(absent)}"),
        *_finding("splits", "error", blind, "a split without a question that the documents answer measures nothing"),
        *_finding("splits", "warning", few, f"splits below {settings.fewest} questions decide next to nothing"),
    ]


def _across(first: Question, second: Question) -> bool:
    return first.split != second.split and first.split is not None and second.split is not None


def _shown(first: Question, second: Question) -> str:
    return f"{first.id} ({first.split or 'no split'}) and {second.id} ({second.split or 'no split'})"


def _duplicates(questions: Sequence[Question], pairs: Iterable[tuple[int, int, float]]) -> list[Finding]:
    found: dict[tuple[bool, bool], list[str]] = defaultdict(list)
    for i, j, _ in pairs:
        first, second = questions[i], questions[j]
        same = normal_form(first.text) == normal_form(second.text)
        found[same, _across(first, second)].append(_shown(first, second))
    leak = "; take one out, or split by cluster"
    return [
        *_finding("leakage", "error", found[True, True], "{n} questions stand in two splits" + leak),
        *_finding("leakage", "warning", found[False, True], "{n} pairs of near-duplicates stand in two splits" + leak),
        *_finding("duplicates", "warning", found[True, False], "{n} questions are repeated, and count twice in means"),
        *_finding("duplicates", "info", found[False, False], "{n} pairs of questions are near-duplicates"),
    ]


def _contradictions(questions: Sequence[Question], pairs: Iterable[tuple[int, int, float]]) -> list[Finding]:
    found: dict[bool, list[str]] = defaultdict(list)
    for i, j, _ in pairs:
        first, second = questions[i], questions[j]
        answers = [normalise_answer(question.answer) for question in (first, second)]
        if first.answerable != second.answerable or (all(answers) and answers[0] != answers[1]):
            same = normal_form(first.text) == normal_form(second.text)
            found[same].append(f"{first.id}: '{first.answer[:40]}', {second.id}: '{second.answer[:40]}'")
    what = "questions are answered in two ways; correct one, or say in the question which case is meant"
    return [
        *_finding("contradiction", "error", found[True], "{n} repeated " + what),
        *_finding("contradiction", "warning", found[False], "{n} pairs of nearly the same " + what),
    ]


def _shared_documents(questions: Sequence[Question]) -> list[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for question in questions:
        for evidence in question.evidence:
            if question.split is not None:
                splits[evidence.doc_id].add(question.split)
    shared = [f"{doc_id}: {', '.join(sorted(found))}" for doc_id, found in splits.items() if len(found) > 1]
    what = "{n} documents hold evidence of two splits, so what was trained or chosen on one flatters the other; "
    return _finding("leakage", "warning", shared, what + "run 'ragladder data split --by document'")


def _shared_evidence(questions: Sequence[Question], gold: Gold | None) -> list[Finding]:
    """Passages of two splits that are the same or overlap, by the offsets that are known, else by their words."""
    places: dict[str, list[tuple[int, int, Question]]] = defaultdict(list)
    words: dict[tuple[str, str], dict[str, Question]] = defaultdict(dict)
    found: dict[str, str] = {}
    for question in questions:
        if question.split is None:
            continue
        for number, evidence in enumerate(question.evidence):
            span = gold[question.id][number] if gold is not None else None
            start, end = (span.start, span.end) if span and span.found else (evidence.start, evidence.end)
            if start is not None and end is not None:
                places[evidence.doc_id].append((start, end, question))
            same = words[evidence.doc_id, normal_form(evidence.text)]
            others = [other for split, other in same.items() if split != question.split]
            if others:
                found.setdefault(question.id, _shown(others[0], question))
            same.setdefault(question.split, question)
    for spans in places.values():
        reached: dict[str, tuple[int, Question]] = {}
        for start, end, question in sorted(spans, key=lambda span: span[:2]):
            for split, (stop, other) in reached.items():
                if split != question.split and stop > start:
                    found.setdefault(question.id, _shown(other, question))
            if end > reached.get(str(question.split), (-1, question))[0]:
                reached[str(question.split)] = (end, question)
    what = "{n} questions share a gold passage with another split; run 'ragladder data split --by document'"
    return _finding("leakage", "error", list(found.values()), what)


def _gold_findings(
    questions: Sequence[Question], documents: Sequence[Document] | None, gold: Gold | None, settings: AuditSettings
) -> list[Finding]:
    if documents is None or gold is None:
        note = "no documents were given, so the evidence was not looked for; pass a config, or --documents"
        return _finding("gold", "info", ["all"], note)
    known = {document.id for document in documents}
    absent, lost, fuzzy, total = [], [], [], 0
    for question in questions:
        for evidence, span in zip(question.evidence, gold[question.id], strict=True):
            total += 1
            where = f"{question.id}: '{evidence.text[:50]}' in {evidence.doc_id}"
            if evidence.doc_id not in known:
                absent.append(f"{question.id}: {evidence.doc_id}")
            elif not span.found:
                lost.append(where)
            elif span.method == "fuzzy":
                fuzzy.append(f"{where} ({span.score:g})")
    level: Level = "error" if len(lost) > settings.max_lost * max(total, 1) else "warning"
    of = f" of {total} passages"
    return [
        *_finding("gold", "error", absent, "{n}" + of + " are of documents that are not there, or cannot be parsed"),
        *_finding("gold", level, lost, "{n}" + of + " are not in the parsed text; correct them, or try another parser"),
        *_finding("gold", "info", fuzzy, "{n}" + of + " were found by likeness only, with these scores"),
    ]


def _answer_findings(questions: Sequence[Question], settings: AuditSettings) -> list[Finding]:
    answerable = [question for question in questions if question.answerable]
    empty = [question.id for question in answerable if not question.answer.strip()]
    sizes = [(question.id, len(question.answer.split())) for question in questions]
    long = [f"{key}: {words} words" for key, words in sizes if words > settings.max_answer_words]
    wordless = [question.id for question in questions if not normal_form(question.text)]
    findings = [
        *_finding("questions", "error", wordless, "{n} questions have no word in them"),
        *_finding("answers", "warning", long, f"{{n}} answers are longer than {settings.max_answer_words} words"),
    ]
    if empty and len(empty) == len(answerable):
        note = "no question has a reference answer: only retrieval can be scored"
        return [*findings, *_finding("answers", "info", empty, note)]
    what = "{n} answerable questions have no reference answer, and drop out of the answer metrics"
    return [*findings, *_finding("answers", "warning", empty, what)]


def _tag_table(questions: Sequence[Question]) -> dict[str, dict[str, dict[str, int]]]:
    table: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for question in questions:
        for name, value in question.tags.items():
            table[name][value][question.split or "none"] += 1
    return {
        name: {value: dict(sorted(splits.items())) for value, splits in sorted(values.items())}
        for name, values in sorted(table.items())
        if len(values) <= _MOST_VALUES
    }


def _tag_findings(questions: Sequence[Question]) -> list[Finding]:
    """Values that dev has and test lacks, or the reverse: choices are then made on other questions than the gate's."""
    table = _tag_table(questions)
    sizes = Counter(question.split for question in questions)
    if not (sizes["dev"] and sizes["test"]):
        return []
    lopsided = []
    for name, values in table.items():
        for value, splits in values.items():
            dev, test = (splits.get(split, 0) for split in ("dev", "test"))
            # below five expected questions an absence is chance
            expected = (dev + test) * min(sizes["dev"], sizes["test"]) / (sizes["dev"] + sizes["test"])
            if expected >= 5 and not (dev and test):
                lopsided.append(f"{name}={value}: {dev} in dev, {test} in test")
    return _finding("tags", "warning", lopsided, "{n} values of tags stand in only one of dev and test")


def _closed_book_findings(known: ClosedBook | None, settings: AuditSettings) -> list[Finding]:
    """Questions answered without documents, and those that could not be checked."""
    if known is None:
        return []
    level: Level = "warning" if len(known.known) > settings.max_known * max(known.checked, 1) else "info"
    shown = [f"{key}: '{answer[:60]}'" for key, answer in known.known.items()]
    what = f"{{n}} of {known.checked} questions are answered without any document, and say nothing about retrieval"
    missing = known.asked - known.checked
    why = f" ({known.stopped})" if known.stopped else ""
    note = f"{missing} of {known.asked} questions got no reply that could be read{why}"
    return [
        *_finding("closed book", level, shown, what),
        *_finding("closed book", "warning", ["all"] if missing else [], note),
    ]


def _synthetic_findings(questions: Sequence[Question]) -> list[Finding]:
    """Synthetic questions among those that decide, by the tag `source` that `data synth` sets."""
    found: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        if question.split in ("dev", "test"):
            found[question.tags.get("source", "")].append(f"{question.id} ({question.split})")
    easy = "{n} questions of dev and test were written by patterns: they are too easy to decide by; keep them for train"
    llm = (
        "{n} questions of dev and test were written by an LLM; what holds on them may not hold on your users' questions"
    )
    return [
        *_finding("synthetic", "warning", found["synthetic-extractive"], easy),
        *_finding("synthetic", "info", found["synthetic-llm"], llm),
    ]
