"""JSON and JSONL: records of one document, and files of many documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.types import Document
from ragladder.rag.parse import ParseSettings, load_documents, parse_corpus, save_documents
from ragladder.rag.parse.json import JsonDocumentsSettings, JsonRecordsSettings

RESOURCES = Resources(env={})
BEIR = [
    {"_id": "d2", "title": "A  valve", "text": "It closes.\nThen it opens.", "metadata": {"url": "x/y", "year": 2026}},
    {"_id": 31, "title": "", "text": "It hums."},
]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def many(path: Path, **fields: object):
    return JsonDocumentsSettings(**fields).build(RESOURCES).parse_many(str(path), path.name)


def records(path: Path) -> Document:
    return JsonRecordsSettings().build(RESOURCES).parse(str(path), path.name)


def test_each_line_is_a_document(tmp_path: Path) -> None:
    corpus = many(lines(tmp_path / "corpus.jsonl", *BEIR))
    valve, hum = corpus.documents
    assert (valve.id, valve.title) == ("d2", "A valve") and valve.text == "# A valve\n\nIt closes.\nThen it opens."
    assert valve.heading_path(0) == ("A valve",) and valve.sections[0].end == len(valve.text)
    assert valve.metadata == {"metadata.url": "x/y", "metadata.year": "2026", "file": "corpus.jsonl"}
    assert (hum.id, hum.text, hum.sections) == ("31", "It hums.", ()) and corpus.failures == ()


def test_settings_name_the_fields_and_the_ids(tmp_path: Path) -> None:
    rows = {"id": "a", "contents": "One.", "name": "T"}, "", {"id": "b", "contents": "Two."}
    path = lines(tmp_path / "c.jsonl", *rows)
    names = {"text_field": "contents", "title_field": "name", "id_field": "id"}
    assert [(d.id, d.text) for d in many(path, **names).documents] == [("a", "# T\n\nOne."), ("b", "Two.")]
    bare = many(path, **names, heading=False, own_ids=False).documents
    assert [(d.id, d.text, d.title) for d in bare] == [("c.jsonl#a", "One.", "T"), ("c.jsonl#b", "Two.", "c.jsonl#b")]
    assert [d.id for d in many(path, **{**names, "id_field": None}).documents] == ["c.jsonl#1", "c.jsonl#3"]


def test_bad_lines_are_failures_of_their_own(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "c.jsonl", BEIR[0], "{", [1], {"_id": "x"}, {"text": "no id"}, BEIR[0], {"_id": "e", "text": " "},
        {"_id": "n", "text": 5},
    )  # fmt: skip
    corpus = many(path)
    assert [document.id for document in corpus.documents] == ["d2"]
    reasons = {failure.doc_id: failure.reason for failure in corpus.failures}
    expected = {
        "c.jsonl:2": "not valid JSON",
        "c.jsonl:3": "not an object",
        "c.jsonl:4": "has no 'text'",
        "c.jsonl:5": "has no '_id'",
        "c.jsonl:6": "'d2' stands twice",
        "c.jsonl:7": "no text in it",
        "c.jsonl:8": "must be texts",
    }
    assert set(reasons) == set(expected)
    assert all(words in reasons[line] for line, words in expected.items())


def test_a_file_without_any_document_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.jsonl:1: it has no 'text'; set text_field"):
        many(lines(tmp_path / "c.jsonl", {"a": 1}, {"a": 2}))
    with pytest.raises(DataError, match="no record"):
        many(lines(tmp_path / "c.json", "[]"))


# lone surrogates, zero bytes and all kinds of line ends among them
PARTS = ["a", "# b", "\ud800", "\0", "\r\n", "\r", "\u2028", "  ", "é"]
TEXT = st.lists(st.sampled_from(PARTS), max_size=8).map("".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_strings_become_documents_that_can_be_saved(tmp_path_factory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("json")
    values = [{"_id": f"d{at}", "title": title, "text": text} for at, (title, text) in enumerate(rows)]
    path = lines(folder / "c.jsonl", {"_id": "fixed", "text": "x"}, *values)
    corpus = many(path)
    assert len(corpus.documents) + len(corpus.failures) == len(rows) + 1
    for document in corpus.documents:
        assert not document.sections or document.text[document.sections[0].start :].startswith("# ")
    save_documents(folder / "saved", corpus)
    assert load_documents(folder / "saved") == corpus


def test_records_are_paragraphs_with_names(tmp_path: Path) -> None:
    rows = {"code": "E-417", "meaning": "tilt", "tags": ["a", "b"]}, {"n": None}
    document = records(lines(tmp_path / "r.jsonl", *rows))
    assert document.text == "code: E-417; meaning: tilt; tags: a, b"
    nested = {
        "name": "Nest N4",
        "on": True,
        "size": {"height": 2.5, "unit": "m"},
        "codes": [{"code": "E-1", "fix": {"step": "wait"}}, {"code": "E-2"}],
    }
    document = records(lines(tmp_path / "r.json", nested))
    assert document.text.split("\n\n") == [
        "name: Nest N4\non: true",
        "# size",
        "height: 2.5\nunit: m",
        "# codes",
        "code: E-1; fix.step: wait",
        "code: E-2",
    ]
    with pytest.raises(DataError, match="line 2: it is not valid JSON"):
        records(lines(tmp_path / "r.jsonl", {"a": 1}, "{"))
    with pytest.raises(DataError, match="it is not valid JSON"):
        records(lines(tmp_path / "r.json", "{"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    lines(folder / "corpus.jsonl", *BEIR, "{")
    (folder / "HW-1_a.txt").write_text("Just text.")
    return folder


def test_files_of_many_documents_join_the_others(folder: Path, tmp_path: Path) -> None:
    resources = Resources(cache_dir=tmp_path / "cache", env={})
    chosen = ParseSettings(ref_pattern="^([A-Za-z]+-?[0-9])")
    corpus = parse_corpus(folder, chosen, resources)
    assert [(d.id, d.ref) for d in corpus.documents] == [("31", "31"), ("HW-1_a.txt", "HW-1"), ("d2", "d2")]
    assert [failure.doc_id for failure in corpus.failures] == ["corpus.jsonl:3"]
    with pytest.raises(DataError, match=r"1 files or records cannot be read:\n  corpus\.jsonl:3: it is not valid"):
        parse_corpus(folder, ParseSettings(strict=True), resources)


def test_they_are_kept_by_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources(cache_dir=tmp_path / "cache", env={})
    first = parse_corpus(folder, ParseSettings(), resources)
    kept = [path.name for path in (resources.cache_dir / "parses").iterdir() if path.is_dir()]
    assert len(kept) == 1 and not kept[0].startswith("."), "nothing is left over"
    with monkeypatch.context() as patch:
        patch.setattr("ragladder.rag.parse.corpus.run_jobs", lambda jobs, *rest: pytest.fail(str(jobs)) if jobs else [])
        assert parse_corpus(folder, ParseSettings(), resources) == first
    lines(folder / "corpus.jsonl", *BEIR)
    assert parse_corpus(folder, ParseSettings(), resources).failures == ()
    assert len([path for path in (resources.cache_dir / "parses").iterdir() if path.is_dir()]) == 2


def test_an_id_that_two_files_use_is_reported_and_can_be_told_apart(folder: Path, tmp_path: Path) -> None:
    lines(folder / "more.jsonl", BEIR[0])
    resources = Resources(cache_dir=tmp_path / "cache", env={})
    corpus = parse_corpus(folder, ParseSettings(), resources)
    assert [(f.doc_id, "own_ids" in f.reason) for f in corpus.failures][-1] == ("more.jsonl#d2", True)
    apart = ParseSettings.model_validate({"json_lines": {"kind": "documents", "own_ids": False}})
    ids = {document.id for document in parse_corpus(folder, apart, resources).documents}
    assert {"corpus.jsonl#d2", "more.jsonl#d2"} <= ids


def test_one_parser_reads_a_file_as_one_or_as_many(folder: Path, tmp_path: Path) -> None:
    resources = Resources(cache_dir=tmp_path / "cache", env={})
    lines(folder / "corpus.jsonl", *BEIR)
    one = parse_corpus(folder, ParseSettings.model_validate({"json_lines": "records"}), resources)
    assert [document.id for document in one.documents] == ["HW-1_a.txt", "corpus.jsonl"]
