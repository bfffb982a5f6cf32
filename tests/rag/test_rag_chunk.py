"""Chunkers: exact offsets, nothing lost, and the same cuts as the libraries that they follow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ragladder.core.components import Resources
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError, DataError, StageError
from ragladder.core.types import Chunk, Document, Section
from ragladder.rag.chunk import (
    ChunkSection,
    DocumentSettings,
    RecursiveSettings,
    SectionSettings,
    SentenceSettings,
    TokenSettings,
    chunk_corpus,
    load_chunks,
    save_chunks,
)


class Config(BaseModel):
    chunk: ChunkSection = TokenSettings()


def document(text: str, doc_id: str = "a.md") -> Document:
    """A document whose sections are the lines that begin with #, all of one level."""
    starts = [match.start() for match in re.finditer(r"^# .+$", text, re.MULTILINE)]
    sections = tuple(
        Section(start, end, 1, (text[start:].split("\n")[0][2:].strip(),))
        for start, end in zip(starts, [*starts[1:], len(text)], strict=False)
    )
    return Document(doc_id, text, "A title", "A-1", sections)


def sizes(kind: type, **fixed: object) -> st.SearchStrategy:
    def make(size: int, share: float) -> object:
        return kind(size=size, overlap=int(share * size), **fixed)

    return st.builds(make, st.integers(1, 40), st.floats(0, 0.99))


WORDS = st.sampled_from(
    ["a", "bird", "E-417,", "nest.", "Ünï", "日本", "\n", "\n\n", "\n# Head\n", "  ", "| x | y |\n", "- "]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=60).map(" ".join), st.text(max_size=80))
CHUNKERS = st.one_of(
    sizes(TokenSettings),
    sizes(SentenceSettings),
    sizes(RecursiveSettings),
    sizes(RecursiveSettings, unit="characters"),
    sizes(SectionSettings),
    st.just(DocumentSettings()),
)
RESOURCES = Resources(env={})


@settings(max_examples=100, deadline=None)
@given(TEXTS, CHUNKERS)
def test_offsets_are_exact_and_no_character_is_lost(text: str, chosen) -> None:
    chunks = chunk_corpus([document(text)], chosen.build(RESOURCES))
    held = set()
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        held.update(range(chunk.start, chunk.end))
    assert {at for at, sign in enumerate(text) if not sign.isspace()} <= held
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)


@pytest.fixture(scope="module", params=[TokenSettings, SentenceSettings, RecursiveSettings, SectionSettings])
def byte_pair_chunker(request):
    return request.param(size=7, overlap=2, tokenizer="cl100k").build(RESOURCES)


@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
def test_byte_pair_tokens_lose_nothing_either(byte_pair_chunker, text: str) -> None:
    chunks = byte_pair_chunker.chunk(document(text))
    held = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert {at for at, sign in enumerate(text) if not sign.isspace()} <= held


@pytest.mark.parametrize("kind", [TokenSettings, SentenceSettings, RecursiveSettings, SectionSettings])
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, size=st.integers(5, 40))
def test_no_chunk_is_longer_than_size(kind, text: str, size: int) -> None:
    # A word of the regular expression may hold many characters but counts once, so every piece can be made to fit.
    for chunk in kind(size=size, overlap=0).build(RESOURCES).chunk(document(text)):
        assert len(re.findall(r"\w+|[^\w\s]", chunk.text)) <= size


def test_token_windows_step_by_size_less_overlap() -> None:
    chunks = TokenSettings(size=4, overlap=1).build(RESOURCES).chunk(document("a b c d e f g"))
    assert [chunk.text for chunk in chunks] == ["a b c d", "d e f g"]


def test_cl100k_counts_as_tiktoken_does() -> None:
    text = "The nightjar's talon reads 1234567 eggs.\n\n" * 5
    chunks = TokenSettings(size=10, overlap=0, tokenizer="cl100k").build(RESOURCES).chunk(document(text))
    # "The night jar 's tal on reads  123 456": ten tokens of cl100k_base.
    assert chunks[0].text.startswith("The nightjar's talon reads 123")
    assert len(chunks) == pytest.approx(len(text.split()) * 2 / 10, abs=5)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(1, 30), st.floats(0, 0.99))
def test_recursive_cuts_as_langchain_does(text: str, size: int, share: float) -> None:
    splitters = pytest.importorskip("langchain_text_splitters")
    overlap = int(share * size)
    theirs = splitters.RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap).split_text(text)
    ours = RecursiveSettings(size=size, overlap=overlap, unit="characters").build(RESOURCES).chunk(document(text))
    assert [chunk.text for chunk in ours] == [part.strip() for part in theirs if part.strip()]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(5, 30), st.floats(0, 0.9))
def test_sentence_cuts_as_llama_index_does(text: str, size: int, share: float) -> None:
    splitters = pytest.importorskip("llama_index.core.node_parser")
    overlap = int(share * size)
    splitter = splitters.SentenceSplitter(
        chunk_size=size,
        chunk_overlap=overlap,
        paragraph_separator="\n\n",
        tokenizer=lambda part: re.findall(r"\w+|[^\w\s]", part),
    )
    ours = SentenceSettings(size=size, overlap=overlap).build(RESOURCES).chunk(document(text))
    assert [chunk.text for chunk in ours] == [part for part in splitter.split_text(text) if part]


def test_sentences_are_kept_whole() -> None:
    text = "Hold the pin. Wait for the lamp. Close the plate. Open a hollow."
    chunks = SentenceSettings(size=9, overlap=0).build(RESOURCES).chunk(document(text))
    assert [chunk.text for chunk in chunks] == ["Hold the pin. Wait for the lamp.", "Close the plate. Open a hollow."]


SHEET = """# N4

It weighs 142 kg.

# N6

It weighs 214 kg.

| Code | Meaning | First action |
|---|---|---|
| E-104 | plate open | ask the courier |
| E-117 | tilt | send two engineers |
| E-131 | supply dip | ask the host |
"""


def test_sections_are_not_mixed_and_carry_their_heading() -> None:
    chunks = SectionSettings(size=500).build(RESOURCES).chunk(document(SHEET))
    assert [chunk.heading for chunk in chunks] == [("N4",), ("N6",)]
    assert "214" not in chunks[0].text and "E-131" in chunks[1].text
    assert (chunks[0].ref, chunks[0].title) == ("A-1", "A title")


def test_a_bare_heading_goes_with_what_follows() -> None:
    chunks = SectionSettings().build(RESOURCES).chunk(document("# Top\n\n# N4\n\nIt weighs 142 kg.\n\n# N6\n\nHeavy."))
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["# Top", "# N6"]


def test_tables_are_cut_between_rows_and_name_their_columns() -> None:
    chunks = SectionSettings(size=24).build(RESOURCES).chunk(document(SHEET))
    rows = [chunk for chunk in chunks if "E-131" in chunk.text]
    assert len(rows) == 1 and rows[0].text.splitlines()[-1] == "| E-131 | supply dip | ask the host |"
    assert rows[0].heading == ("N6", "Code | Meaning | First action")
    header = next(chunk for chunk in chunks if "Meaning" in chunk.text)
    assert "E-104" in header.text, "the header row stands with its first row"
    without = SectionSettings(size=24, table_header=False).build(RESOURCES).chunk(document(SHEET))
    assert {chunk.heading for chunk in without} == {("N4",), ("N6",)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["para graph.\n\n", "# Head\n\n", "word " * 9 + "\n\n"]), max_size=12).map("".join),
    st.integers(3, 30),
)
def test_no_section_chunk_holds_text_of_two_sections(text: str, size: int) -> None:
    source = document(text)
    for chunk in SectionSettings(size=size).build(RESOURCES).chunk(source):
        body = re.sub(r"^# .*$", "", text[chunk.start : chunk.end], flags=re.MULTILINE)
        offsets = [chunk.start + match.start() for match in re.finditer(r"^(?!#)\S", chunk.text, re.MULTILINE)]
        owners = {next((s.start for s in source.sections if s.start <= at < s.end), -1) for at in offsets}
        assert len(owners) <= 1 or not body.strip()


def test_document_is_one_chunk_and_an_empty_one_none() -> None:
    assert [chunk.text for chunk in DocumentSettings().build(RESOURCES).chunk(document(" a\n\nb \n"))] == ["a\n\nb"]
    for kind in (TokenSettings, SentenceSettings, RecursiveSettings, SectionSettings, DocumentSettings):
        assert kind().build(RESOURCES).chunk(document(" \n ")) == []


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ({"kind": "token", "size": 0}, "greater than or equal to 1"),
        ({"kind": "section", "size": 50, "overlap": 50}, "overlap (50) must be smaller than size (50)"),
        ({"kind": "recursive", "overlap": -1}, "greater than or equal to 0"),
        ({"kind": "recursive", "separators": ["", " "]}, "the empty separator must be the last"),
        ({"kind": "token", "siez": 3}, "did you mean 'size'"),
        ("tokne", "did you mean 'token'"),
    ],
)
def test_impossible_settings_are_config_errors(chunk: object, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        validate({"chunk": chunk}, Config, "x.yaml")


def test_a_bare_name_is_a_chunker_with_its_defaults() -> None:
    assert validate({"chunk": "section"}, Config, "x.yaml").chunk == SectionSettings()


class _Wrong:
    def __init__(self, *chunks: Chunk) -> None:
        self._chunks = list(chunks)

    def chunk(self, document: Document) -> list[Chunk]:
        return self._chunks


def test_a_chunker_with_wrong_offsets_is_found_out() -> None:
    with pytest.raises(StageError, match="correct the chunker's offsets"):
        chunk_corpus([document("abc")], _Wrong(Chunk("a.md", 0, 2, "bc")))
    with pytest.raises(StageError, match="came twice"):
        chunk_corpus([document("abc")], _Wrong(Chunk("a.md", 0, 1, "a"), Chunk("a.md", 0, 1, "a")))


def test_chunks_survive_saving(tmp_path) -> None:
    chunks = chunk_corpus([document(SHEET), document("Ünï 日本", "b/c.md")], SectionSettings(size=24).build(RESOURCES))
    save_chunks(tmp_path / "deep" / "chunks.parquet", chunks)
    assert load_chunks(tmp_path / "deep" / "chunks.parquet") == chunks
    save_chunks(tmp_path / "none.parquet", [])
    assert load_chunks(tmp_path / "none.parquet") == []


def test_loading_what_is_no_file_of_chunks_says_so(tmp_path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_chunks(tmp_path / "absent.parquet")
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a file of chunks"):
        load_chunks(tmp_path / "bad.parquet")
