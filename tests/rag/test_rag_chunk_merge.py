"""Chunks that are found small and read large: windows, parents, auto-merging."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ragladder.core.components import Resources
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError, StageError
from ragladder.core.types import Chunk, Document, Hit
from ragladder.rag.chunk import (
    ChunkSection,
    HierarchicalSettings,
    SentenceWindowSettings,
    TokenSettings,
    chunk_corpus,
    merge_hits,
)

RESOURCES = Resources(env={})
WORDS = st.sampled_from(
    ["a", "bird.", "E-417,", "Nest. ", "Ünï!", "日本。", "\n", "\n\n", "\n# Head\n", "| x |\n", "\n- "]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=60).map(" ".join), st.text(max_size=80))
CHUNKERS = st.one_of(
    st.builds(SentenceWindowSettings, window=st.integers(0, 3), size=st.integers(4, 20)),
    st.builds(HierarchicalSettings, sizes=st.sampled_from([(20, 5), (30, 8, 3), (9, 1)]), read=st.just("parent")),
    st.builds(
        HierarchicalSettings, sizes=st.sampled_from([(20, 5), (30, 8, 3)]), merge_ratio=st.sampled_from([0, 0.3, 0.5])
    ),
)


class Config(BaseModel):
    chunk: ChunkSection = TokenSettings()


def document(text: str, doc_id: str = "a.md") -> Document:
    return Document(doc_id, text, "A title", "A-1")


def tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


@settings(max_examples=100, deadline=None)
@given(TEXTS, CHUNKERS)
def test_offsets_are_exact_and_no_character_is_lost(text: str, chosen) -> None:
    chunks = chunk_corpus([document(text)], chosen.build(RESOURCES))
    held = [at for chunk in chunks for at in range(chunk.start, chunk.end)]
    assert {at for at, sign in enumerate(text) if not sign.isspace()} <= set(held)
    assert held == sorted(set(held)), "in order, and nothing twice"
    smallest = chosen.size if isinstance(chosen, SentenceWindowSettings) else chosen.sizes[-1]
    assert all(tokens(chunk.text) <= smallest for chunk in chunks)


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, CHUNKERS, st.integers(1, 6), st.randoms(use_true_random=False))
def test_merged_hits_hold_what_was_found_and_nothing_twice(one: str, two: str, chosen, top_k: int, random) -> None:
    documents = {"a": document(one, "a"), "b": document(two, "b")}
    chunker = chosen.build(RESOURCES)
    chunks = chunk_corpus(documents.values(), chunker)
    random.shuffle(chunks)
    found = [Hit(chunk, 1.0 - at / 100) for at, chunk in enumerate(chunks[:12])]
    [merged] = merge_hits([found], chunker, documents, top_k)
    spans = [(hit.chunk.doc_id, hit.chunk.start, hit.chunk.end) for hit in merged]
    for hit in merged:
        assert documents[hit.chunk.doc_id].text[hit.chunk.start : hit.chunk.end] == hit.chunk.text
    for hit in found:
        holders = [s for s in spans if s[0] == hit.chunk.doc_id and s[1] <= hit.chunk.start and hit.chunk.end <= s[2]]
        assert len(holders) == 1, "each hit is read, once"
    for doc_id, start, end in spans:
        assert not any(d == doc_id and start < e and s < end for d, s, e in spans if (d, s, e) != (doc_id, start, end))
    assert [hit.score for hit in merged] == sorted((hit.score for hit in merged), reverse=True)
    assert not found or (merged[0].score == found[0].score and len(merged) <= len(found))


SIX = "One is here. Two is here. Three is here. Four is here. Five is here. Six is here."


def hits(chunks: list[Chunk], *places: int) -> list[Hit]:
    return [Hit(chunks[at], 1.0 - rank / 10) for rank, at in enumerate(places)]


def read(chunker, found: list[Hit], text: str, top_k: int = 5) -> list[tuple[str, float]]:
    [merged] = merge_hits([found], chunker, {"a.md": document(text)}, top_k)
    return [(hit.chunk.text, hit.score) for hit in merged]


def test_a_window_is_the_sentences_round_the_one_found() -> None:
    chunker = SentenceWindowSettings(window=1).build(RESOURCES)
    chunks = chunker.chunk(document(SIX))
    assert [chunk.text for chunk in chunks][:2] == ["One is here.", "Two is here."] and len(chunks) == 6
    assert read(chunker, hits(chunks, 0), SIX) == [("One is here. Two is here.", 1.0)]
    assert read(chunker, hits(chunks, 4, 1), SIX) == [
        ("Four is here. Five is here. Six is here.", 1.0),
        ("One is here. Two is here. Three is here.", 0.9),
    ]


def test_windows_that_overlap_are_read_as_one() -> None:
    chunker = SentenceWindowSettings(window=1).build(RESOURCES)
    chunks = chunker.chunk(document(SIX))
    assert read(chunker, hits(chunks, 1, 5, 3), SIX) == [(SIX, 1.0)]
    # Below top_k nothing makes a better window grow: Four is read alone.
    assert read(chunker, hits(chunks, 1, 3), SIX, top_k=1) == [
        ("One is here. Two is here. Three is here.", 1.0),
        ("Four is here.", 0.9),
    ]


def test_sentences_end_at_items_rows_and_paragraphs() -> None:
    text = "# Codes\nThe codes are\n- E-1 open\n- E-2 shut\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nThe end. Really."
    chunks = SentenceWindowSettings().build(RESOURCES).chunk(document(text))
    assert [chunk.text for chunk in chunks] == [
        "# Codes\nThe codes are", "- E-1 open", "- E-2 shut", "| a | b |", "|---|---|", "| 1 | 2 |", "The end.",
        "Really.",
    ]  # fmt: skip


EIGHT = "\n\n".join(f"w{n} x y z" for n in range(8))


def test_a_parent_is_read_in_place_of_its_child() -> None:
    chunker = HierarchicalSettings(sizes=(9, 5), read="parent").build(RESOURCES)
    chunks = chunker.chunk(document(EIGHT))
    assert [chunk.text for chunk in chunks] == EIGHT.split("\n\n")
    assert read(chunker, hits(chunks, 3, 0, 2), EIGHT) == [
        ("w2 x y z\n\nw3 x y z", 1.0),
        ("w0 x y z\n\nw1 x y z", 0.9),
    ]


def test_auto_merging_goes_up_where_enough_was_found() -> None:
    chunker = HierarchicalSettings(sizes=(17, 9, 5)).build(RESOURCES)
    chunks = chunker.chunk(document(EIGHT))
    whole = EIGHT.split("\n\n")
    assert read(chunker, hits(chunks, 3, 0), EIGHT) == [(whole[3], 1.0), (whole[0], 0.9)], "half is not more than half"
    pair = "\n\n".join(whole[2:4])
    assert read(chunker, hits(chunks, 3, 7, 2), EIGHT) == [(pair, 1.0), (whole[7], 0.9)]
    assert read(chunker, hits(chunks, 3, 7, 2), EIGHT, top_k=2) == [(whole[3], 1.0), (whole[7], 0.9), (whole[2], 0.8)]
    four = "\n\n".join(whole[:4])
    assert read(chunker, hits(chunks, 3, 2, 0, 1), EIGHT) == [(four, 1.0)], "two levels up"


def test_a_deeper_hit_that_is_read_anyway_is_left_out() -> None:
    chunker = HierarchicalSettings(sizes=(9, 5), read="parent").build(RESOURCES)
    chunks = chunker.chunk(document(EIGHT))
    assert [text[:2] for text, _ in read(chunker, hits(chunks, 0, 1, 4), EIGHT, top_k=1)] == ["w0", "w4"]


def test_other_chunkers_and_documents_that_are_missing() -> None:
    plain = TokenSettings(size=4, overlap=0).build(RESOURCES)
    found = hits(plain.chunk(document(SIX)), 0, 1)
    assert merge_hits([found, []], plain, {}, 5) == [found, []]
    with pytest.raises(StageError, match=r"the document a\.md of a hit is not in the corpus"):
        merge_hits([found], SentenceWindowSettings().build(RESOURCES), {}, 5)


@pytest.mark.parametrize("sizes", [(5, 5), (4, 8), (5,), (5, 0)])
def test_impossible_sizes_are_config_errors(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"smaller than the one before|at least 2 items"):
        validate({"chunk": {"kind": "hierarchical", "sizes": list(sizes)}}, Config, "x.yaml")
