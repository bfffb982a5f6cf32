"""Filters by metadata, MMR and neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ragladder.core.errors import ConfigError, StageError
from ragladder.core.types import Chunk, Document, Hit
from ragladder.rag.retrieve import Corpus, RetrieveSettings, finish, mmr, search_depth

TEXT = "Alpha one. Beta two. Gamma three. Delta four."
CUTS = [(0, 10), (11, 20), (21, 33), (34, 45)]
HEADS = [("A",), ("A",), ("B",), ("B",)]


def corpus() -> Corpus:
    names = ["guides/a.md", "guides/b.pdf", "notes/c.md"]
    facts: list[dict[str, str]] = [{"tag": "x", "year": "2024"}, {"tag": "y"}, {}]
    documents = {
        name: Document(name, TEXT, name.upper(), f"R{n}", metadata=fact)
        for n, (name, fact) in enumerate(zip(names, facts, strict=True))
    }
    chunks = [
        Chunk(name, start, end, TEXT[start:end], documents[name].ref, documents[name].title, head)
        for name in names
        for (start, end), head in zip(CUTS, HEADS, strict=True)
    ]
    return Corpus(chunks, documents)


def passing(**patterns: Any) -> list[str]:
    mask = corpus().allowed(RetrieveSettings(filter=patterns).filter)
    assert mask is not None
    return list(dict.fromkeys(chunk.doc_id for chunk, kept in zip(corpus().chunks, mask, strict=True) if kept))


def test_filters_by_path_format_and_metadata() -> None:
    assert passing(path="guides/*") == ["guides/a.md", "guides/b.pdf"]
    assert passing(format="md") == ["guides/a.md", "notes/c.md"]
    assert passing(format=["md", "pdf"], path="guides/*") == ["guides/a.md", "guides/b.pdf"]
    assert passing(tag="x") == ["guides/a.md"] and passing(tag=["x", "y"]) == ["guides/a.md", "guides/b.pdf"]
    assert passing(year=2024) == ["guides/a.md"], "a number in YAML is the text it looks like"
    assert passing(tag="?", format="pdf") == ["guides/b.pdf"]
    assert passing(ref="R2") == ["notes/c.md"] and passing(title="*B.PDF") == ["guides/b.pdf"]
    assert corpus().allowed({}) is None


def test_filters_that_cannot_be_meant_are_said() -> None:
    with pytest.raises(ConfigError, match=r"no document has a 'tga' \(did you mean 'tag'\?\)"):
        passing(tga="x")
    with pytest.raises(ConfigError, match="none of the 3 documents matches format: docx"):
        passing(format="docx")
    mask = corpus().allowed({"format": ["docx"]}, may_be_empty=True)
    assert mask is not None and not mask.any()
    for wrong in ({"tag": []}, {"tag": {"a": 1}}, {"tag": [True]}, "x"):
        with pytest.raises(ValidationError):
            RetrieveSettings.model_validate({"filter": wrong})


def test_impossible_settings_are_said() -> None:
    with pytest.raises(ValidationError, match="share of dense, BM25 having the rest; got 3 weights"):
        RetrieveSettings.model_validate({"mode": "hybrid", "weight": [0.2, 0.3, 0.5]})
    with pytest.raises(ValidationError, match="mmr compares vectors"):
        RetrieveSettings(mode="bm25", mmr=0.5)
    with pytest.raises(ValidationError):
        RetrieveSettings(mmr=1.5)


@pytest.mark.parametrize(("fetch_k", "depth"), [(1, 100), (100, 100), (101, 200), (200, 200), (350, 400), (1000, 1600)])
def test_a_search_is_as_deep_as_its_step(fetch_k: int, depth: int) -> None:
    assert search_depth(fetch_k) == depth


def slow_mmr(relevance: list[float], vectors: np.ndarray, share: float) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < len(relevance):
        values = {
            at: share * relevance[at]
            - (1 - share) * max([0.0, *(float(vectors[at] @ vectors[other]) for other in chosen)])
            for at in range(len(relevance))
            if at not in chosen
        }
        chosen.append(max(values, key=lambda at: (round(values[at], 9), -at)))
    return chosen


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 7), st.integers(0, 999), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_mmr_is_its_definition(count: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(1, count, 4))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    relevance = np.sort(rng.random(count))[::-1]
    padded = np.append(relevance, -np.inf)[None]
    values, order = mmr(padded, np.concatenate([vectors, vectors[:, :1]], axis=1), share)
    assert order[0].tolist() == [*slow_mmr(relevance.tolist(), vectors[0], share), -1]
    assert np.isneginf(values[0, -1]) and (np.diff(values[0, :-1]) <= 1e-9).all()


def rows(*places: int) -> list[list[Hit]]:
    return [[Hit(corpus().chunks[at], 1.0 - n / 10) for n, at in enumerate(places)]]


def test_mmr_leaves_near_duplicates_to_later_and_1_changes_nothing() -> None:
    vectors = np.eye(12, dtype=np.float32)
    vectors[1] = vectors[0]
    hits = rows(0, 1, 5)
    relevant = finish(hits, RetrieveSettings(mmr=1.0), corpus(), None, vectors)
    assert [hit.chunk for hit in relevant[0]] == [hit.chunk for hit in hits[0]]
    diverse = finish(hits, RetrieveSettings(mmr=0.5), corpus(), None, vectors)
    assert [hit.chunk.id for hit in diverse[0]] == [hits[0][place].chunk.id for place in (0, 2, 1)]
    assert [hit.score for hit in diverse[0]] == sorted((hit.score for hit in diverse[0]), reverse=True)
    assert finish([[], []], RetrieveSettings(mmr=0.5), corpus(), None, vectors) == [[], []]
    with pytest.raises(ConfigError, match="needs the chunks' vectors"):
        finish(hits, RetrieveSettings(mmr=0.5), corpus())
    with pytest.raises(StageError, match="not one that it was shown"):
        finish([[Hit(Chunk("new", 0, 1, "x"), 1.0)]], RetrieveSettings(mmr=0.5), corpus(), None, vectors)


def texts(hits: list[list[Hit]]) -> list[tuple[str, str]]:
    return [(hit.chunk.doc_id, hit.chunk.text) for hit in hits[0]]


def test_neighbours_are_joined_within_their_section() -> None:
    chosen = RetrieveSettings(neighbours=1, top_k=1)
    done = finish(rows(1, 9), chosen, corpus())
    assert texts(done)[0] == ("guides/a.md", "Alpha one. Beta two.")
    assert done[0][0].score == 1.0
    whole = finish(rows(1), chosen.model_copy(update={"neighbours_within": "document"}), corpus())
    assert texts(whole) == [("guides/a.md", "Alpha one. Beta two. Gamma three.")]
    assert finish(rows(1, 9), RetrieveSettings(), corpus()) == rows(1, 9)


def test_hits_side_by_side_become_one_passage_and_the_next_move_up() -> None:
    chosen = RetrieveSettings(neighbours=2, neighbours_within="document", top_k=2)
    done = finish(rows(1, 2, 5), chosen, corpus())
    assert [doc for doc, _ in texts(done)] == ["guides/a.md", "guides/b.pdf"]
    assert texts(done)[0][1] == TEXT
    for hit in done[0]:
        document = corpus().documents[hit.chunk.doc_id]
        assert document.text[hit.chunk.start : hit.chunk.end] == hit.chunk.text


def test_neighbours_and_a_chunker_that_reads_larger_anyway_are_refused() -> None:
    class Hierarchical:
        def family(self, document: Document) -> Any: ...

    with pytest.raises(ConfigError, match="set neighbours to 0"):
        finish(rows(1), RetrieveSettings(neighbours=1), corpus(), Hierarchical())
