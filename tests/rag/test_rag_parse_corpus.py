"""Reading a folder: cache, failures, references, time limits, saving."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

import pytest
from ragladder.core.components import Resources
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError, DataError
from ragladder.rag.parse import (
    ParsedCorpus,
    ParseFailure,
    ParseSettings,
    corpus_identity,
    load_documents,
    parse_corpus,
    save_documents,
)

PATTERN = r"^([A-Z]+-\d+)_"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with good and bad files."""
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "HW-2_b.md").write_text("# B\n\nBody.")
    (folder / "HW-1_a.txt").write_text("Just text.")
    (folder / "deep" / "c.csv").write_text("x,y\n1,2\n")
    (folder / "empty.md").write_text("")
    (folder / "bad.pdf").write_text("no pdf")
    (folder / "table.rtf").write_text("not read")
    (folder / ".hidden.md").write_text("hidden")
    return folder


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(cache_dir=tmp_path / "cache", env={})


def segments(resources: Resources) -> list[str]:
    files = sorted((resources.cache_dir / "parses").glob("*.jsonl"))
    return [json.loads(line)[1]["id"] for file in files for line in file.read_text().splitlines()]


def test_documents_and_failures_are_sorted_and_nothing_is_dropped(folder: Path, resources: Resources) -> None:
    corpus = parse_corpus(folder, ParseSettings(ref_pattern=PATTERN), resources)
    assert [(doc.id, doc.ref) for doc in corpus.documents] == [
        ("HW-1_a.txt", "HW-1"),
        ("HW-2_b.md", "HW-2"),
        ("deep/c.csv", "deep/c.csv"),
    ]
    assert [failure.doc_id for failure in corpus.failures] == ["bad.pdf", "empty.md", "table.rtf"]
    reasons = [failure.reason for failure in corpus.failures]
    assert "not a PDF" in reasons[0] and "empty" in reasons[1] and "'.rtf' are not read" in reasons[2]


def test_more_workers_give_the_same_corpus(folder: Path, tmp_path: Path) -> None:
    one = parse_corpus(folder, ParseSettings(), Resources(cache_dir=tmp_path / "one", env={}))
    two = parse_corpus(folder, ParseSettings(), Resources(workers=2, cache_dir=tmp_path / "two", env={}))
    assert one == two


def test_a_changed_file_redoes_one_parse(folder: Path, resources: Resources) -> None:
    settings = ParseSettings()
    first = parse_corpus(folder, settings, resources)
    assert sorted(segments(resources)) == ["HW-1_a.txt", "HW-2_b.md", "deep/c.csv"]
    assert parse_corpus(folder, settings, resources) == first
    assert len(segments(resources)) == 3
    (folder / "HW-2_b.md").write_text("# B\n\nOther body.")
    again = parse_corpus(folder, settings, resources)
    assert len(segments(resources)) == 4 and segments(resources).count("HW-2_b.md") == 2
    assert [doc.text for doc in again.documents if doc.id == "HW-2_b.md"] == ["# B\n\nOther body."]
    other = ParseSettings.model_validate({"csv": "records"})
    parse_corpus(folder, other, resources)
    assert segments(resources).count("deep/c.csv") == 2 and len(segments(resources)) == 5


def test_strict_lists_every_bad_file(folder: Path, resources: Resources) -> None:
    with pytest.raises(DataError, match=r"3 of 6 files cannot be read:\n  bad\.pdf: .*\n  empty\.md: .*\n  table\.rtf"):
        parse_corpus(folder, ParseSettings(strict=True), resources)


def test_include_chooses_files(folder: Path, resources: Resources) -> None:
    corpus = parse_corpus(folder, ParseSettings(include=("*.md", "deep/*")), resources)
    assert [doc.id for doc in corpus.documents] == ["HW-2_b.md", "deep/c.csv"]
    with pytest.raises(DataError, match=r"no file in it fits \*\.rst"):
        parse_corpus(folder, ParseSettings(include=("*.rst",)), resources)
    with pytest.raises(DataError, match="not a glob below the folder"):
        parse_corpus(folder, ParseSettings(include=("/etc/*",)), resources)


def test_folders_that_are_missing_empty_or_files(folder: Path, resources: Resources, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    for path, words in [
        (tmp_path / "none", "no such folder"),
        (tmp_path / "void", "there is no file in it; check the path"),
        (folder / "HW-2_b.md", "is a file"),
    ]:
        with pytest.raises(DataError, match=words):
            parse_corpus(path, ParseSettings(), resources)
        with pytest.raises(DataError, match=words):
            corpus_identity(path, ParseSettings(), resources)


PARSER = """
import os, sys, time
from ragladder.core.types import Document

class Odd:
    def parse(self, path, doc_id):
        text = open(path).read()
        print("parsers may print")
        if text == "hang":
            time.sleep(60)
        if text == "crash":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        if text == "raise":
            raise RuntimeError("of its own")
        return Document(doc_id, text, "t", doc_id)
"""


def test_parsers_that_hang_crash_or_raise_cost_their_file_alone(tmp_path: Path, resources, monkeypatch) -> None:
    (tmp_path / "odd_parser.py").write_text(textwrap.dedent(PARSER))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("crash", "hang", "ok", "raise"):
        (folder / f"{name}.txt").write_text(name)
    settings = ParseSettings.model_validate({"text": "odd_parser:Odd", "timeout": 3})
    try:
        corpus = parse_corpus(folder, settings, resources)
    finally:
        sys.modules.pop("odd_parser", None)
    assert [doc.id for doc in corpus.documents] == ["ok.txt"]
    reasons = {failure.doc_id: failure.reason for failure in corpus.failures}
    assert "status 7 (out of luck)" in reasons["crash.txt"]
    assert "longer than 3 seconds" in reasons["hang.txt"]
    assert "RuntimeError: of its own" in reasons["raise.txt"]
    assert segments(resources) == ["ok.txt"], "failures are not cached"


def test_identity_changes_with_files_and_with_parsers_in_use(folder: Path, resources: Resources) -> None:
    settings = ParseSettings()
    before = corpus_identity(folder, settings, resources)
    json.dumps(before)
    assert set(before["files"]) == {"HW-1_a.txt", "HW-2_b.md", "bad.pdf", "deep/c.csv", "empty.md", "table.rtf"}
    assert corpus_identity(folder, ParseSettings.model_validate({"html": "plain"}), resources) == before, "no HTML here"
    assert corpus_identity(folder, ParseSettings.model_validate({"pdf": "pypdf"}), resources) != before
    assert corpus_identity(folder, ParseSettings(ref_pattern="(x)"), resources) != before
    (folder / "HW-1_a.txt").write_text("Other text.")
    assert corpus_identity(folder, settings, resources) != before


def test_a_corpus_survives_saving(folder: Path, resources: Resources, tmp_path: Path) -> None:
    corpus = parse_corpus(folder, ParseSettings(), resources)
    save_documents(tmp_path / "saved", corpus)
    assert load_documents(tmp_path / "saved") == corpus
    nothing = ParsedCorpus((), (ParseFailure("a", "b"),))
    save_documents(tmp_path / "nothing", nothing)
    assert load_documents(tmp_path / "nothing") == nothing
    with pytest.raises(DataError, match="no such file"):
        load_documents(tmp_path / "absent")
    (tmp_path / "saved" / "documents.parquet").write_text("x")
    with pytest.raises(DataError, match="not a saved corpus"):
        load_documents(tmp_path / "saved")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"ref_pattern": "("}, "not a valid regular expression"),
        ({"ref_pattern": "abc"}, "needs a group"),
        ({"timeout": 0}, "greater than 0"),
        ({"pdf": "pdfplumer"}, "did you mean 'pdfplumber'"),
        ({"html": {"kind": "structural", "contents": "x"}}, "did you mean 'content'"),
        ({"include": []}, "at least 1 item"),
    ],
)
def test_impossible_settings_are_config_errors(data: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        validate(data, ParseSettings, "x.yaml")
