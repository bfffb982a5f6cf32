"""The quickstart's documents and questions keep what `benchmarks/quickstart/GUIDE.md` asks of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from ragladder.core.components import Resources
from ragladder.core.types import Document, Question
from ragladder.eval.gold import locate
from ragladder.eval.questions import load_questions
from ragladder.rag.parse import ParseSettings, parse_corpus
from rapidfuzz import fuzz, process

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "benchmarks" / "quickstart" / "build.py"
SOURCES = BUILD.parent / "sources"
GUIDE = (BUILD.parent / "GUIDE.md").read_text(encoding="utf-8")
QUICKSTART = ROOT / "configs" / "quickstart"

GROUPS = {"train_a": "train", "train_b": "train", "dev": "dev", "test_a": "test", "test_b": "test"}
FORMATS = {"md", "html", "pdf", "docx", "txt", "csv"}
GLOSSARY = "HR-350_glossary.html"
NOT_DOCUMENTED = "Not documented [none]"
NEAR_DUPLICATE = 80.0
"""Similarity (rapidfuzz token_sort_ratio, 0 to 100) from which two questions count as the same."""
SHARE_TOLERANCE = {"all": 3.0, "group": 5.0}
"""Percentage points by which a kind's share may differ from the guide's, over all questions and in a group."""
FORMS = {  # words whose forms are not term + s, es, ed or ing
    "bate": "bate[sd]?",
    "cast off": "cast(?:s|ing)?[ -]off",
    "fledge": "fledg(?:e|es|ed|ing)",
    "hood": "(?:un)?hood(?:s|ed|ing)?",
    "jesses": "jess(?:es)?",
    "mews": "mews",
}
EVERYDAY = (
    "parcel",
    "locker",
    "package",
    "compartment",
    "depot",
    "warehouse",
    "dashboard",
    "backup batter(?:y|ies)",
    "battery pack",
    "message queue",
    "on-call",
    "barcode scanner",
    "charging station",
    "pickup code",
    "morning briefing",
    "shift handover",
    "end-of-day reconciliation",
    "peak season",
    "christmas",
    "outage",
    "failover",
    "backup system",
    "delivery route",
    "delivery attempt",
    "probation",
    "head office",
    "trial period",
    "encryption",
    "same-day express",
    "late fee",
    "penalty charge",
    "log file",
    "diagnostic dump",
    "offline",
    "security deposit",
    "line manager",
    "firmware",
    "software update",
    "go-live",
    "launch date",
    "permission",
    "access right",
    "parental leave",
    "business travel",
    "discount",
    "invoice",
    "compensation",
)
"""Everyday words for house terms, used by no document but the glossary; ambiguous ones (box, dock) are left out."""


def plain(text: str) -> str:
    """Letters and digits alone."""
    return re.sub(r"[\W_]+", "", text.lower())


def guide_terms() -> tuple[str, ...]:
    """The house terms of the guide's table, which has two on a row."""
    rows = GUIDE.partition("## House jargon")[2].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("| ")]
    return tuple(re.sub(r" \(.*", "", row[i]) for row in cells[1:] for i in (0, 2) if row[i])


def guide_shares() -> dict[str, int]:
    """The share of each kind of question in percent, as the guide says."""
    text = GUIDE.partition("- `kind`")[2].partition("- `difficulty`")[0]
    return {kind: int(share) for kind, share in re.findall(r"`(\w+)`\s(?:\(.*?\)\s)?(\d+)%", text)}


def pattern(term: str) -> re.Pattern[str]:
    """Finds a house term in its forms."""
    forms = FORMS.get(term) or r"[ -]".join(re.split("[ -]", term)) + "(?:s|es|ed|ing)?"
    return re.compile(rf"\b{forms}\b", re.IGNORECASE)


def split_answer(answer: str) -> tuple[list[str], list[str]]:
    """The facts and the references of an answer in house style."""
    match = re.fullmatch(r"(.*\S) \[([^\[\]]+)\]", answer)
    return (match[1].split("; "), match[2].split(", ")) if match else ([answer], [])


def group_of(question: Question) -> str:
    return question.id.rpartition("-")[0]


@pytest.fixture(scope="session")
def groups() -> Mapping[str, str]:
    """Group by document id."""
    folder = {path.stem: path.parent.name for path in SOURCES.glob("*/*")}
    return {path.name: folder.get(path.stem, "no source") for path in (QUICKSTART / "docs").iterdir()}


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Document]:
    """The parsed documents by id."""
    resources = Resources(cache_dir=tmp_path_factory.mktemp("cache"), env={})
    settings = ParseSettings(ref_pattern="^([^_]+)_", strict=True)
    return {document.id: document for document in parse_corpus(QUICKSTART / "docs", settings, resources).documents}


@pytest.fixture(scope="session")
def questions() -> tuple[Question, ...]:
    return load_questions(QUICKSTART / "questions")


@pytest.fixture(scope="session")
def answerable(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    return tuple(question for question in questions if question.answerable)


def test_the_corpus_has_its_size_and_all_formats(documents: Mapping[str, Document], groups: Mapping[str, str]) -> None:
    assert set(documents) == set(groups), "every file is parsed"
    assert 60 <= len(documents) <= 100
    assert 38_000 <= sum(len(document.text.split()) for document in documents.values()) <= 50_000
    for group in GROUPS:
        assert {name.rpartition(".")[2] for name, its in groups.items() if its == group} == FORMATS


def test_references_are_unique(documents: Mapping[str, Document]) -> None:
    counts = Counter(document.ref for document in documents.values())
    assert [ref for ref, count in counts.items() if count > 1] == []


def test_each_group_has_a_version_pair(documents: Mapping[str, Document], groups: Mapping[str, str]) -> None:
    refs = {document.ref: document for document in documents.values()}
    for group in GROUPS:
        pairs = [(old, f"{old}B") for old in refs if f"{old}B" in refs and groups[refs[old].id] == group]
        assert len(pairs) == 1, group
        old, new = (refs[ref] for ref in pairs[0])
        assert groups[new.id] == group
        assert 60 <= fuzz.ratio(old.text, new.text) < 100, "near-duplicates that differ"


def test_documents_use_house_words_only(documents: Mapping[str, Document]) -> None:
    everyday = re.compile(rf"\b(?:{'|'.join(EVERYDAY)})s?\b", re.IGNORECASE)
    found = {name: everyday.findall(doc.text) for name, doc in documents.items() if name != GLOSSARY}
    assert {name: words for name, words in found.items() if words} == {}
    assert len(set(map(str.lower, everyday.findall(documents[GLOSSARY].text)))) > 20, "the glossary explains them"


def test_house_terms_stand_in_enough_documents(documents: Mapping[str, Document], groups: Mapping[str, str]) -> None:
    terms = guide_terms()
    assert len(terms) == 44
    where: dict[str, Counter[str]] = defaultdict(Counter)
    for term in terms:
        assert pattern(term).search(documents[GLOSSARY].text), f"the glossary lacks {term}"
        for name, document in documents.items():
            if name != GLOSSARY and pattern(term).search(document.text):
                where[term][groups[name]] += 1
    rare = [term for term in terms if where[term]["train_a"] + where[term]["train_b"] < 3]
    assert rare == [], "too few train documents"
    for group in ("dev", "test_a", "test_b"):
        assert sum(where[term][group] > 0 for term in terms) >= 28, group


def test_ids_and_splits(questions: tuple[Question, ...]) -> None:
    assert len(questions) >= 450
    splits = Counter(question.split for question in questions)
    assert splits["train"] >= 200 and splits["dev"] >= 90 and splits["test"] >= 150
    assert len({question.id for question in questions}) == len(questions)
    assert [q.id for q in questions if GROUPS.get(group_of(q)) != q.split] == []


def test_all_evidence_is_found_without_fuzzy_matching(
    questions: tuple[Question, ...], documents: Mapping[str, Document]
) -> None:
    gold = locate(questions, documents.values())
    spans = [(id_, span) for id_, its in gold.items() for span in its]
    assert len(spans) >= 450
    assert [(id_, span.doc_id, span.method) for id_, span in spans if span.method not in ("exact", "normalised")] == []


def test_evidence_is_of_the_questions_own_group(questions: tuple[Question, ...], groups: Mapping[str, str]) -> None:
    strays = [(q.id, e.doc_id) for q in questions for e in q.evidence if groups.get(e.doc_id) != group_of(q)]
    assert strays == [], "so no document is evidence in two splits"


def test_evidence_stands_in_one_document_only(
    questions: tuple[Question, ...], documents: Mapping[str, Document]
) -> None:
    texts = {name: plain(document.text) for name, document in documents.items()}
    twice = [
        (question.id, name)
        for question in questions
        for evidence in question.evidence
        for name, text in texts.items()
        if name != evidence.doc_id and plain(evidence.text) in text
    ]
    assert twice == []


def test_evidence_is_a_passage(answerable: tuple[Question, ...]) -> None:
    lengths = {(q.id, e.text): len(e.text.replace(" | ", " ").split()) for q in answerable for e in q.evidence}
    assert [(key, n) for key, n in lengths.items() if n > 60 or n < (4 if " | " in key[1] else 8)] == []


def test_no_question_is_asked_twice(questions: tuple[Question, ...]) -> None:
    texts = [" ".join(re.findall(r"\w+", question.text.lower())) for question in questions]
    same = process.cdist(texts, texts, scorer=fuzz.token_sort_ratio, score_cutoff=NEAR_DUPLICATE)
    pairs = zip(*np.nonzero(np.triu(same, 1)), strict=True)
    assert [(questions[i].text, questions[j].text) for i, j in pairs] == []


def test_no_two_questions_have_the_same_evidence_in_two_splits(answerable: tuple[Question, ...]) -> None:
    splits: dict[str, set[str | None]] = defaultdict(set)
    for question in answerable:
        for evidence in question.evidence:
            splits[plain(evidence.text)].add(question.split)
    assert [text for text, its in splits.items() if len(its) > 1] == []


def test_answers_are_in_house_style(answerable: tuple[Question, ...], documents: Mapping[str, Document]) -> None:
    for question in answerable:
        facts, refs = split_answer(question.answer)
        assert refs == list(dict.fromkeys(documents[e.doc_id].ref for e in question.evidence)), question
        assert 1 <= len(" ".join(facts).split()) <= 12, question
        assert not facts[-1].endswith("."), question


def test_answers_are_copied_from_the_evidence(answerable: tuple[Question, ...]) -> None:
    missing = []
    for question in answerable:
        evidence = " ".join(e.text for e in question.evidence).lower()
        missing += [(question.id, f) for f in split_answer(question.answer)[0] if f.lower() not in evidence]
    assert missing == []


def test_unanswerable_questions_say_so(questions: tuple[Question, ...]) -> None:
    for question in questions:
        unanswerable = question.tags["kind"] == "unanswerable"
        assert unanswerable == (not question.evidence) == (question.answer == NOT_DOCUMENTED), question


def test_tags(questions: tuple[Question, ...]) -> None:
    kinds = set(guide_shares())
    for question in questions:
        assert set(question.tags) == {"kind", "difficulty", "format"}, question
        assert question.tags["kind"] in kinds, question
        assert question.tags["difficulty"] in ("easy", "medium", "hard"), question
        formats = sorted({evidence.doc_id.rpartition(".")[2] for evidence in question.evidence})
        assert question.tags["format"] == ("+".join(formats) or "none"), question


def test_shares_of_kinds_are_near_the_guide(questions: tuple[Question, ...]) -> None:
    shares = guide_shares()
    assert len(shares) == 8 and sum(shares.values()) == 100
    for group in ("all", *GROUPS):
        kinds = Counter(q.tags["kind"] for q in questions if group in ("all", group_of(q)))
        off = {kind: abs(100 * kinds[kind] / kinds.total() - share) for kind, share in shares.items()}
        assert max(off.values()) <= SHARE_TOLERANCE["all" if group == "all" else "group"], (group, off)


def test_jargon_questions_use_everyday_words(questions: tuple[Question, ...]) -> None:
    terms = [pattern(term) for term in guide_terms()]
    found = [
        (question.id, match[0])
        for question in questions
        if question.tags["kind"] == "jargon"
        for term in terms
        if (match := term.search(question.text))
    ]
    assert found == []


def test_multi_questions_need_two_passages(questions: tuple[Question, ...]) -> None:
    for question in questions:
        if question.tags["kind"] == "multi":
            assert len(question.evidence) == 2 and len(split_answer(question.answer)[0]) == 2, question


def test_version_questions_are_on_a_version_pair(questions: tuple[Question, ...]) -> None:
    refs = {path.name.partition("_")[0] for path in (QUICKSTART / "docs").iterdir()}
    for question in questions:
        if question.tags["kind"] == "version":
            (ref,) = split_answer(question.answer)[1]
            assert ref.removesuffix("B") in refs and ref.removesuffix("B") + "B" in refs, question


def test_codes_of_one_kind_mean_one_thing(documents: Mapping[str, Document], groups: Mapping[str, str]) -> None:
    code = re.compile(r"\b(?:WF-\d\d-\d{3}R?|(?:E|JK|CA|TC|T|WC|NF|MAG|SNF|WR|NT)-\d{3,4}|P-\d{4})\b")
    where: dict[str, set[str]] = defaultdict(set)
    for name, document in documents.items():
        for found in code.findall(document.text):
            where[found].add(groups[name])
    assert len(where) > 150
    assert {found: sorted(its) for found, its in where.items() if len(its) > 1} == {}
    families = defaultdict(set)
    for found, its in where.items():
        if found.startswith("WF-"):
            families[found[:5]] |= its
    assert all(len(its) == 1 for its in families.values()), "a family of part numbers is one group's"


def test_nobody_has_two_posts(documents: Mapping[str, Document], groups: Mapping[str, str]) -> None:
    name = re.compile(r"\b[A-Z][a-z]+ (?:van |de |el )?[A-Z][a-z]{3,}\b")
    people: dict[str, set[str]] = {group: set() for group in GROUPS}
    for id_, document in documents.items():
        people[groups[id_]] |= set(name.findall(document.text)) - {"European Union"}
    shared = {(a, b): people[a] & people[b] for a, b in combinations(GROUPS, 2)}
    assert {pair: names for pair, names in shared.items() if names} == {}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("reportlab")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, str(BUILD), "--out", str(folder)], check=True, capture_output=True)
    return folder


def test_the_documents_are_what_the_sources_render_to(built: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in (QUICKSTART / "docs").iterdir()}
    fresh = {path.name: path.read_bytes() for path in built.iterdir()}
    assert set(shipped) == set(fresh)
    stale = [name for name, data in fresh.items() if shipped[name] != data]
    assert stale == [], f"run {BUILD.name}"


def test_the_readme_holds_the_counts(built: Path) -> None:
    done = subprocess.run([sys.executable, str(BUILD), "--stats", "--out", str(built)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    readme = (QUICKSTART / "README.md").read_text(encoding="utf-8")
    assert done.stdout.strip() in readme, "copy what build.py --stats prints"


def test_stats_without_documents_say_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("reportlab")
    done = subprocess.run(
        [sys.executable, str(BUILD), "--stats", "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "not rendered" in done.stderr and "build.py" in done.stderr
