"""Token vectors of texts longer than a model's window, and vectors without normalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError
from ragladder.embeddings.encode import SentenceTransformerEmbedder, SentenceTransformerSettings, StaticSettings
from ragladder.rag.late import TokenEmbedder

WORDS = [
    "locker",
    "depot",
    "parcel",
    "battery",
    "robot",
    "button",
    "amber",
    "lamp",
    "courier",
    "van",
    "the",
    "is",
    "of",
]


def built(folder: Path, **values: object) -> SentenceTransformerEmbedder:
    return SentenceTransformerSettings.model_validate({"model": str(folder), **values}).build(Resources())


def test_a_text_that_fits_gives_what_the_network_gives(tiny_model: Path) -> None:
    import torch

    embedder = built(tiny_model)
    assert isinstance(embedder, TokenEmbedder)
    text = "hold the button until the lamp turns amber"
    ((vectors, offsets),) = embedder.token_vectors([text], 8)
    model = embedder.model
    with torch.inference_mode():
        features = model[0](model.preprocess([text]))
    whole = features["token_embeddings"][0].numpy()
    np.testing.assert_allclose(vectors, whole[1:-1], atol=1e-5)
    assert [text[a:b] for a, b in offsets] == text.split()
    pooled = whole.mean(axis=0)
    np.testing.assert_allclose(embedder.encode([text], "document")[0], pooled / np.linalg.norm(pooled), atol=1e-5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=60), max_size=4), st.integers(0, 5), st.integers(1, 5))
def test_long_texts_go_through_in_windows_that_leave_no_token_out(
    tiny_model: Path, texts: list[list[str]], overlap: int, batch_size: int
) -> None:
    embedder = built(tiny_model, max_length=16, batch_size=batch_size)
    joined = [" ".join(words) for words in texts]
    found = list(embedder.token_vectors(joined, overlap))
    assert len(found) == len(texts)
    for text, words, (vectors, offsets) in zip(joined, texts, found, strict=True):
        assert vectors.shape == (len(words), 32) and vectors.dtype == np.float32
        assert [text[a:b] for a, b in offsets] == words
        # Each token's vector is that of one of the windows that hold it, computed alone.
        size, step = 14, 14 - overlap
        starts = {*range(0, max(len(words) - size, 0), step), max(len(words) - size, 0)} if words else set()
        windows = {s: next(iter(embedder.token_vectors([" ".join(words[s : s + size])], 0)))[0] for s in starts}
        for at, vector in enumerate(vectors):
            near = [np.abs(w[at - s] - vector).max() for s, w in windows.items() if s <= at < s + len(w)]
            assert min(near) < 1e-4


def test_more_overlap_than_a_window_holds_is_an_error(tiny_model: Path) -> None:
    embedder = built(tiny_model, max_length=16, document_prefix="parcel: ")
    ((vectors, offsets),) = embedder.token_vectors(["hold the button"], 0)
    assert len(vectors) == len(offsets) == 3 and offsets[0].tolist() == [0, 4], "the prefix gives no vectors"
    with pytest.raises(ConfigError, match=r"context\.overlap is 12 tokens, but a window of the model holds 12"):
        list(built(tiny_model, max_length=14).token_vectors(["hold"], 12))


def test_models_whose_tokens_are_not_their_mean_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    embedder = built(tiny_model)
    embedder.model[1] = Pooling(32, "cls")
    with pytest.raises(DataError, match="pools by 'cls'"):
        list(embedder.token_vectors(["hold"], 0))
    static = StaticSettings(model=str(tiny_model), dimension=8).build(Resources(cache_dir=tmp_path))
    with pytest.raises(DataError, match="gives no token vectors"):
        list(static.token_vectors(["hold"], 0))


def test_vectors_keep_their_length_where_they_are_not_normalised(tiny_model: Path, tmp_path: Path) -> None:
    from ragladder.embeddings.models import load_model

    with pytest.raises(ConfigError, match="normalises its vectors itself"):
        built(tiny_model, normalize=False)
    model = load_model(tiny_model)
    del model[2]
    model.save_pretrained(str(tmp_path / "raw"), create_model_card=False)
    raw, unit = built(tmp_path / "raw", normalize=False), built(tiny_model)
    vectors = raw.encode(["hold the button", "reset"], "query")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.1
    np.testing.assert_allclose(vectors / lengths, unit.encode(["hold the button", "reset"], "query"), atol=1e-5)
