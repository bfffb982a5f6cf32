"""Embedders and the cache in front of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from ragladder.core.cache import VectorCache
from ragladder.core.components import Resources
from ragladder.core.devices import bundled_embedding_model
from ragladder.core.errors import DataError, StageError
from ragladder.embeddings.encode import (
    CachedEmbedder,
    EmbedSection,
    SentenceTransformerSettings,
    StaticSettings,
    unit_vectors,
)

TEXTS = ["hold the button", "where is my parcel", "the battery of the robot is amber", "reset"]


def st_settings(folder: Path, **values: object) -> SentenceTransformerSettings:
    return SentenceTransformerSettings.model_validate({"model": str(folder), **values})


class Counting:
    """An embedder that remembers what it was asked; vectors depend on prefix and text alone."""

    dimension = 3

    def __init__(self, query_prefix: str = "", fail_after: int | None = None, nan: bool = False) -> None:
        self.query_prefix, self.seen, self.fail_after, self.nan = query_prefix, [], fail_after, nan

    def variant(self, role: str) -> str:
        return self.query_prefix if role == "query" else ""

    def encode(self, texts: list[str], role: str) -> np.ndarray:
        if self.fail_after is not None and len(self.seen) >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += texts
        rows = [[len(t) + 1.0, sum(map(ord, self.variant(role) + t)) % 101 + 1.0, 1.0] for t in texts]
        return np.array(rows) * (np.nan if self.nan else 1)


def test_vectors_are_unit_float32_and_do_not_depend_on_the_batch_size(tiny_model: Path) -> None:
    one = st_settings(tiny_model, batch_size=1).build(Resources())
    four = st_settings(tiny_model, batch_size=4).build(Resources())
    vectors = four.encode(TEXTS, "document")
    assert vectors.shape == (4, four.dimension) == (4, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(one.encode(TEXTS, "document"), vectors, atol=1e-5)
    assert four.source == str(tiny_model)
    assert four.encode([], "query").shape == (0, 32)


def test_prefixes_stand_before_the_text_of_their_role_only(tiny_model: Path) -> None:
    embedder = st_settings(tiny_model, query_prefix="reset ").build(Resources())
    plain = st_settings(tiny_model).build(Resources())
    np.testing.assert_allclose(embedder.encode(["door"], "query"), plain.encode(["reset door"], "query"), atol=1e-6)
    np.testing.assert_allclose(embedder.encode(["door"], "document"), plain.encode(["door"], "document"), atol=1e-6)


def test_the_models_own_prompt_is_used_unless_a_prefix_is_set(tiny_model: Path, tmp_path: Path) -> None:
    embedder = st_settings(tiny_model).build(Resources())
    embedder.model.prompts = {"query": "code ", "document": ""}
    assert embedder.prefix("query") == "code "
    assert embedder.prefix("document") == ""


def test_bf16_and_truncation_keep_unit_length_and_direction(tiny_model: Path) -> None:
    full = st_settings(tiny_model).build(Resources()).encode(TEXTS, "document")
    half = st_settings(tiny_model, dtype="bf16").build(Resources()).encode(TEXTS, "document")
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
    assert (full * half).sum(axis=1).min() > 0.99
    short = st_settings(tiny_model, truncate_dim=8).build(Resources())
    assert short.dimension == 8
    expected = full[:, :8] / np.linalg.norm(full[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(short.encode(TEXTS, "document"), expected, atol=1e-5)


def test_max_length_cuts_and_is_checked_against_the_model(tiny_model: Path) -> None:
    cut = st_settings(tiny_model, max_length=8).build(Resources())
    tail = cut.encode(["a b c d e f g h", "a b c d e f x y"], "document")
    np.testing.assert_allclose(tail[0], tail[1], atol=1e-6)
    with pytest.raises(DataError, match="takes 64 tokens at most"):
        st_settings(tiny_model, max_length=65).build(Resources())
    with pytest.raises(DataError, match="gives 32 dimensions"):
        st_settings(tiny_model, truncate_dim=33).build(Resources())


def test_identity_is_of_the_weights_and_leaves_out_what_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    one = st_settings(tiny_model).identity(Resources())
    assert one == st_settings(copy, batch_size=7).identity(Resources())
    for changed in ({"dtype": "bf16"}, {"backend": "onnx"}, {"normalize": False}, {"document_prefix": "p "}):
        assert one != st_settings(copy, **changed).identity(Resources())
    (copy / "config.json").write_text("{}")
    assert one != st_settings(copy).identity(Resources())


def test_a_model_that_is_nowhere_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    resources = Resources(base_dir=tmp_path)
    with pytest.raises(DataError, match="'nobody/nothing' on the model hub .*HF_HUB_OFFLINE is set"):
        st_settings(Path("nobody/nothing")).build(resources)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no sentence-transformers model can be loaded"):
        st_settings(Path("empty")).build(resources)


def test_the_section_takes_names_and_refuses_misspelt_keys() -> None:
    section = TypeAdapter(EmbedSection)
    assert isinstance(section.validate_python("static"), StaticSettings)
    assert section.validate_python({"kind": "sentence_transformer", "model": "x"}).model == "x"
    with pytest.raises(ValidationError, match="modle"):
        section.validate_python({"kind": "static", "modle": "x"})
    with pytest.raises(ValidationError, match="did you mean 'static'"):
        section.validate_python("statik")


def test_static_is_distilled_once_and_loads_as_a_plain_model(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    resources = Resources(cache_dir=tmp_path)
    settings_ = StaticSettings(model=str(tiny_model), dimension=16)
    first = settings_.build(resources)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("static-")
    stamp = (folder / "modules.json").stat().st_mtime_ns
    vectors = settings_.build(resources).encode(TEXTS, "document")
    assert (folder / "modules.json").stat().st_mtime_ns == stamp
    assert list(tmp_path.iterdir()) == [folder]
    assert vectors.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, first.encode(TEXTS, "document"))
    plain = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(plain, vectors, atol=1e-6)
    # An average knows no order of words, and nothing of an empty text.
    both = first.encode(["reset the door", "door the reset", ""], "query")
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)
    assert not both[2].any()
    with pytest.raises(DataError, match="gives 32 dimensions"):
        StaticSettings(model=str(tiny_model), dimension=33).build(resources)


def test_static_weights_frequent_tokens_down(tiny_model: Path, tmp_path: Path) -> None:
    model = StaticSettings(model=str(tiny_model), dimension=16).build(Resources(cache_dir=tmp_path)).model
    flat = StaticSettings(model=str(tiny_model), dimension=16, sif_coefficient=None)
    table = model[0].embedding.weight.detach().numpy()
    even = flat.build(Resources(cache_dir=tmp_path)).model[0].embedding.weight.detach().numpy()
    kept = np.linalg.norm(even, axis=1) > 0
    ratio = np.linalg.norm(table, axis=1)[kept] / np.linalg.norm(even, axis=1)[kept]
    assert (np.diff(ratio) > 0).all()
    vocabulary = model[0].tokenizer.get_vocab()
    assert all(not table[vocabulary[token]].any() for token in ("[CLS]", "[SEP]", "[PAD]", "[unused0]"))
    assert table[vocabulary["[UNK]"]].any()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=6), max_size=12), st.lists(st.text(max_size=6), max_size=12))
def test_the_cache_gives_what_the_embedder_gives_and_encodes_a_text_once(
    tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str]
) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, {"w": 1}, VectorCache(tmp_path_factory.mktemp("cache")))
    for texts in (first, second):
        expected = unit_vectors(Counting().encode(texts, "document"), "x") if texts else np.zeros((0, 3))
        np.testing.assert_allclose(cached.encode(texts, "document"), expected, rtol=1e-6)
    assert sorted(inner.seen) == sorted(set(first + second))


def test_the_cache_outlives_the_process_and_tells_identities_and_prefixes_apart(tmp_path: Path) -> None:
    def run(identity: dict[str, object], prefix: str, role: str) -> list[str]:
        inner = Counting(prefix)
        embedder = CachedEmbedder(inner, {**identity, "query_prefix": prefix}, VectorCache(tmp_path))
        missing = embedder.missing(["x", "y", "x"], role)
        embedder.encode(["x", "y", "x"], role)
        assert len(inner.seen) == missing
        return inner.seen

    assert sorted(run({"w": 1}, "", "document")) == ["x", "y"]
    assert run({"w": 1}, "", "query") == []
    assert run({"w": 1}, "q: ", "document") == [], "another query prefix leaves the documents' vectors valid"
    assert sorted(run({"w": 1}, "q: ", "query")) == ["x", "y"]
    assert sorted(run({"w": 2}, "", "document")) == ["x", "y"]


def test_a_kill_loses_one_segment_at_most(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(5000)]
    killed = Counting(fail_after=4500)
    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(killed, {}, VectorCache(tmp_path)).encode(texts, "document")
    again = Counting()
    CachedEmbedder(again, {}, VectorCache(tmp_path)).encode(texts, "document")
    assert 0 < len(again.seen) <= 5000 - 4000


def test_bad_vectors_are_refused_and_not_cached(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="1 of 1 vectors hold NaN"):
        CachedEmbedder(Counting(nan=True), {}, VectorCache(tmp_path)).encode(["x"], "query")
    assert CachedEmbedder(Counting(), {}, VectorCache(tmp_path)).missing(["x"], "query") == 1

    class Short(Counting):
        dimension = 4

    with pytest.raises(StageError, match=r"shape \(1, 3\)"):
        CachedEmbedder(Short(), {}, VectorCache(tmp_path)).encode(["x"], "query")


@pytest.mark.skipif(bundled_embedding_model() is None, reason="all-MiniLM-L6-v2 is not installed")
def test_the_installed_minilm_knows_paraphrases() -> None:
    embedder = SentenceTransformerSettings().build(Resources())
    queries = embedder.encode(["How do I restart the machine?"], "query")
    documents = embedder.encode(["Reboot the device by holding its button.", "The invoice is due in May."], "document")
    near, far = (queries @ documents.T)[0]
    assert near > 0.4 > 0.2 > far
