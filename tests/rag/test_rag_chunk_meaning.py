"""Chunkers that embed pieces: where they cut, that they encode once, and that offsets are exact."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ragladder.core.components import Resources
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError, DataError
from ragladder.core.types import Document
from ragladder.rag.chunk import (
    ChunkSection,
    ClusterSemanticSettings,
    SemanticSettings,
    TokenSettings,
    chunk_corpus,
)
from ragladder.rag.chunk.cluster import ClusterSemanticChunker, best_segments
from ragladder.rag.chunk.semantic import SemanticChunker

RESOURCES = Resources(env={})
WORDS = st.sampled_from(
    ["a", "bird.", "E-417,", "Nest. ", "Ünï!", "日本。", "\n", "\n\n", "\n# Head\n", "| x |\n", "\n- "]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=60).map(" ".join), st.text(max_size=80))


class Config(BaseModel):
    chunk: ChunkSection = TokenSettings()


class HashVectors:
    """Stands for an embedding model: a text's vector is made from its hash, or from the topic that it names."""

    def __init__(self, topics: Sequence[str] = ()) -> None:
        self._topics = topics
        self.prepared: list[str] = []

    def prepare(self, texts: Sequence[str]) -> None:
        self.prepared += texts

    def get(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self._one(text) for text in texts], dtype=np.float32).reshape(len(texts), -1)

    def _one(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4], "big")
        vector = np.random.default_rng(seed).normal(size=8) * (0.05 if self._topics else 1)
        for place, topic in enumerate(self._topics):
            vector[place] += text.count(topic)
        return vector / np.linalg.norm(vector)


def document(text: str) -> Document:
    return Document("a.md", text, "A title", "A-1")


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["semantic", "cluster"]), st.integers(8, 30), st.integers(0, 2))
def test_offsets_are_exact_and_no_character_is_lost(text: str, kind: str, size: int, reach: int) -> None:
    if kind == "semantic":
        semantic = SemanticSettings(size=size, buffer_size=reach, breakpoint_percentile_threshold=40)
        chunker = SemanticChunker(semantic, HashVectors())
    else:
        chunker = ClusterSemanticChunker(ClusterSemanticSettings(size=size, piece_size=4), HashVectors())
    chunks = chunk_corpus([document(text)], chunker)
    held = [at for chunk in chunks for at in range(chunk.start, chunk.end)]
    assert {at for at, sign in enumerate(text) if not sign.isspace()} <= set(held)
    assert held == sorted(set(held)), "in order, and nothing twice"
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert len(re.findall(r"\w+|[^\w\s]", chunk.text)) <= size


TOPICS = (
    "The nest is steel. The nest has doors. A nest weighs much. "
    "Bills come monthly. Bills list parcels. Pay bills by card."
)


def test_semantic_cuts_where_the_topic_changes() -> None:
    chunker = SemanticChunker(
        SemanticSettings(buffer_size=0, breakpoint_percentile_threshold=80), HashVectors(["nest", "ills"])
    )
    first, second = chunker.chunk(document(TOPICS))
    assert first.text.endswith("weighs much.") and second.text.startswith("Bills come")


def test_cluster_joins_what_is_alike() -> None:
    chunker = ClusterSemanticChunker(ClusterSemanticSettings(size=40, piece_size=7), HashVectors(["nest", "ills"]))
    first, second = chunker.chunk(document(TOPICS))
    assert first.text.endswith("weighs much") and "Bills come" in second.text


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["One.", "Two!", "A bird", "e.g. this", "is.", "\n\n"]), max_size=30), st.integers(0, 2)
)
def test_semantic_cuts_as_llama_index_does(words: list[str], reach: int) -> None:
    parsers = pytest.importorskip("llama_index.core.node_parser")
    from llama_index.core import Document as TheirDocument
    from llama_index.core.base.embeddings.base import BaseEmbedding

    text = " ".join(words)
    vectors = HashVectors()

    class Embedding(BaseEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            return vectors.get([text])[0].tolist()

        _get_query_embedding = _get_text_embedding

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    chunker = SemanticChunker(
        SemanticSettings(buffer_size=reach, breakpoint_percentile_threshold=70, size=9999), vectors
    )

    def sentences(part: str) -> list[str]:
        return [part[a:b] for a, b in chunker._finder.spans(part)]

    parser = parsers.SemanticSplitterNodeParser(
        embed_model=Embedding(), buffer_size=reach, breakpoint_percentile_threshold=70, sentence_splitter=sentences
    )
    theirs = [node.text.strip() for node in parser.get_nodes_from_documents([TheirDocument(text=text)])]
    assert [chunk.text for chunk in chunker.chunk(document(text))] == [part for part in theirs if part]


def _value(vectors: np.ndarray, cuts: Sequence[int]) -> float:
    similar = vectors @ vectors.T
    similar = similar - similar[np.triu_indices(len(vectors), k=1)].mean()
    parts = itertools.pairwise([0, *cuts, len(vectors)])
    return sum(similar[a:b, a:b][np.triu_indices(b - a, k=1)].sum() for a, b in parts)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(1, 9), st.integers(0, 10_000))
def test_no_segmentation_holds_more_similarity(count: int, longest: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    segments = best_segments(vectors, longest)
    assert segments[0][0] == 0 and segments[-1][1] == count
    assert all(a < b <= a + longest for a, b in segments)
    every = (
        cuts
        for number in range(count)
        for cuts in itertools.combinations(range(1, count), number)
        if all(b - a <= longest for a, b in itertools.pairwise([0, *cuts, count]))
    )
    best = max(_value(vectors, cuts) for cuts in every)
    assert _value(vectors, [a for a, _ in segments[1:]]) == pytest.approx(best, abs=1e-9)


def test_few_pieces_are_no_special_case() -> None:
    assert best_segments(np.zeros((0, 3)), 4) == []
    assert best_segments(np.ones((1, 3)), 4) == [(0, 1)]
    assert ClusterSemanticChunker(ClusterSemanticSettings(), HashVectors()).chunk(document(" \n ")) == []
    assert SemanticChunker(SemanticSettings(), HashVectors()).chunk(document(" \n ")) == []


@pytest.mark.parametrize("kind", ["semantic", "cluster"])
def test_all_pieces_are_asked_for_at_once(kind: str) -> None:
    vectors = HashVectors()
    asked: list[str] = []
    get = vectors.get
    vectors.get = lambda texts: (asked.extend(texts), get(texts))[1]
    chunkers = {
        "semantic": lambda: SemanticChunker(SemanticSettings(), vectors),
        "cluster": lambda: ClusterSemanticChunker(ClusterSemanticSettings(piece_size=5), vectors),
    }
    chunk_corpus([document(TOPICS), Document("b.md", TOPICS[::-1], "b", "b")], chunkers[kind]())
    assert asked and vectors.prepared == asked


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    """A static embedding model of a few words: loads in no time."""
    tokenizers = pytest.importorskip("tokenizers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = {word: at for at, word in enumerate(["[UNK]", "nest", "bills", "the", "doors", "pay"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).normal(size=(len(words), 4)).astype(np.float32)
    folder = tmp_path_factory.mktemp("model") / "static"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save(str(folder))
    return folder


def test_pieces_are_encoded_once_for_all_sizes(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    resources = Resources(cache_dir=tmp_path / "cache", env={})
    first = ClusterSemanticSettings(model=str(tiny_model), size=20, piece_size=5)
    chunks = chunk_corpus([document(TOPICS)], first.build(resources))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(kept) == 1
    monkeypatch.setattr("ragladder.rag.chunk._meaning._load", lambda *_: pytest.fail("the model was loaded again"))
    assert chunk_corpus([document(TOPICS)], first.build(resources)) == chunks
    larger = ClusterSemanticSettings(model=str(tiny_model), size=60, piece_size=5)
    assert len(chunk_corpus([document(TOPICS)], larger.build(resources))) < len(chunks)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == kept


def test_identity_is_the_weights_and_not_their_place(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    one, two = (SemanticSettings(model=str(folder), batch_size=8) for folder in (tiny_model, copy))
    assert one.identity(RESOURCES) == SemanticSettings(model=str(copy)).identity(RESOURCES) == two.identity(RESOURCES)
    assert one.identity(RESOURCES) != SemanticSettings(model=str(copy), buffer_size=2).identity(RESOURCES)
    (copy / "modules.json").write_text("[]")
    assert one.identity(RESOURCES) != two.identity(RESOURCES)


def test_a_model_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    for kind in (SemanticSettings, ClusterSemanticSettings):
        with pytest.raises(DataError, match="no such folder"):
            kind(model="./nowhere").build(Resources(base_dir=tmp_path, env={}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    chunker = SemanticSettings(model="broken").build(Resources(base_dir=tmp_path, cache_dir=tmp_path / "c", env={}))
    with pytest.raises(DataError, match="cannot be loaded as an embedding model"):
        chunker.chunk(document(TOPICS))


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ({"kind": "cluster_semantic", "size": 40, "piece_size": 50}, "piece_size (50) must not be above size (40)"),
        ({"kind": "semantic", "breakpoint_percentile_threshold": 101}, "less than or equal to 100"),
        ({"kind": "semantic", "overlap": 3}, "overlap"),
    ],
)
def test_impossible_settings_are_config_errors(chunk: object, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        validate({"chunk": chunk}, Config, "x.yaml")
