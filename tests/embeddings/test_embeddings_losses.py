"""Losses: what each trains on, what it refuses, and that each makes the right passage nearer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError
from ragladder.embeddings.losses import check_pairs, teach, training_rows, usable
from ragladder.embeddings.pairs import Pair
from ragladder.embeddings.train import EmbedTrainSettings, Encode, train_embedder

NAMES = ["locker", "depot", "parcel", "battery", "robot", "invoice", "door", "code"]
PAIRS = [
    Pair(f"q{n}", f"how long {word}", f"the amber {word} is on", f"c{n}", (f"wait until {NAMES[n - 1]} turns",))
    for n, word in enumerate(NAMES)
]
PLAIN = [Pair(p.question_id, p.query, p.positive, p.chunk_id) for p in PAIRS]
QUICK = {"epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "dtype": "fp32", "patience": None, "freeze_layers": 0}


def settings(**values: object) -> EmbedTrainSettings:
    return EmbedTrainSettings.model_validate({**QUICK, "wise_ft": [], **values})


def margin(encode: Encode) -> float:
    """How much nearer the right passage is than the negative."""
    queries = encode([p.query for p in PAIRS], "query")
    right = encode([p.positive for p in PAIRS], "document")
    wrong = encode([p.negatives[0] for p in PAIRS], "document")
    return float(np.mean((queries * (right - wrong)).sum(axis=1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "symmetric"},
        {"loss": "gist"},
        {"loss": "gist", "mini_batch_size": 2},
        {"mini_batch_size": 2},
        {"matryoshka_dims": [8, 16]},
        {"loss": "triplet"},
        {"loss": "cosent"},
        {"loss": "angle"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_loss_brings_the_right_passage_nearer(tiny_model: Path, tmp_path: Path, changes: dict) -> None:
    result = train_embedder(tiny_model, PAIRS, margin, settings(**changes, epochs=3), tmp_path, Resources())
    assert result.best_score > result.base_score + 0.01
    assert result.with_negatives == len(PAIRS)


@pytest.fixture(scope="module")
def tiny_teacher(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of two layers with random weights."""
    import torch
    from ragladder.core.quiet import quiet_libraries
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("teacher")
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(1)
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
        config = BertConfig.from_pretrained(tiny_model)
        config.num_labels = 1
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("loss", ["margin_mse", "distill_kl"])
def test_distillation_learns_the_teachers_margins(
    tiny_model: Path, tiny_teacher: Path, tmp_path: Path, loss: str
) -> None:
    from ragladder.embeddings.models import load_cross_encoder

    teacher = load_cross_encoder(str(tiny_teacher), Resources())
    taught = teach(PAIRS, teacher)
    assert all(len(pair.scores) == 2 for pair in taught)
    assert teach(taught, None) == taught, "scores that are there are kept"
    wanted = settings(loss=loss, teacher=str(tiny_teacher), epochs=4, batch_size=8)
    result = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path, Resources())
    assert result.history[-1].loss < result.history[0].loss


@pytest.mark.parametrize("loss", ["multiple_negatives", "symmetric", "gist", "margin_mse", "distill_kl"])
def test_several_negatives_a_pair_are_learnt_from(tiny_model: Path, tmp_path: Path, loss: str) -> None:
    many = [Pair(p.question_id, p.query, p.positive, p.chunk_id, (*p.negatives, f"a {p.chunk_id} cat")) for p in PAIRS]
    changes: dict = {"epochs": 1, "mini_batch_size": 4} if loss == "gist" else {"epochs": 1}
    if loss in ("margin_mse", "distill_kl"):
        many = [replace(pair, scores=(2.0, 0.5, -1.0)) for pair in many]
    result = train_embedder(tiny_model, many, margin, settings(loss=loss, **changes), tmp_path, Resources())
    assert result.with_negatives == len(PAIRS)
    assert result.best_score > result.base_score


def test_rows_hold_what_the_loss_reads() -> None:
    scored = [Pair("q", "a", "b", "c", (), (0.3,)), Pair("r", "d", "e", "f", ("g",))]
    (rows,) = training_rows(scored, settings(loss="cosent")).values()
    assert [tuple(row.values()) for row in rows] == [("a", "b", 0.3), ("d", "e", 1.0), ("d", "g", 0.0)]
    (rows,) = training_rows([Pair("r", "d", "e", "f", ("g", "h"))], settings(loss="triplet")).values()
    assert [row["negative_1"] for row in rows] == ["g", "h"]
    groups = training_rows([*PAIRS, *PLAIN], settings())
    assert {name: len(rows) for name, rows in groups.items()} == {"negatives_0": 8, "negatives_1": 8}
    assert len(usable([*PAIRS, *PLAIN], settings(loss="triplet"))) == 8


@pytest.mark.parametrize(
    ("pairs", "changes", "said"),
    [
        (PLAIN[:1], {}, "1 training pairs; a contrastive loss needs two"),
        (PLAIN, {"loss": "triplet"}, "0 of them with a negative, which the loss triplet needs"),
        ([Pair("q", f"a {n}", "same", "c") for n in range(4)], {}, "the passages of all 4 pairs are the same"),
        ([Pair("q", "same", f"a {n}", "c") for n in range(4)], {}, "the questions of all 4 pairs are the same"),
        (PLAIN, {"loss": "cosent"}, "all pairs have the same"),
        (PAIRS, {"loss": "margin_mse"}, "name a cross-encoder as `teacher`"),
        ([Pair("q", "a", "b", "c", (), (0.1,)), *PLAIN], {}, "takes every pair as a good one"),
        ([Pair("q", "a", "b", "c", ("d", "e")), *PLAIN], {"loss": "gist"}, "gist takes one negative a pair"),
    ],
)
def test_pairs_that_teach_nothing_are_refused(pairs: list[Pair], changes: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_pairs(pairs, settings(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "triplet", "mini_batch_size": 4}, "mini_batch_size is for"),
        ({"guide": "x"}, "guide is for the loss gist"),
        ({"teacher": "x"}, "teacher is for distill_kl and margin_mse"),
        ({"mini_batch_size": 4, "gradient_checkpointing": True}, "exclude each other"),
        ({"matryoshka_dims": [0]}, "at least 1"),
        ({"loss": "gist", "hard_negatives": {"num_negatives": 2}}, "gist takes one negative a pair"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**changes)


def test_a_dimension_that_the_model_lacks_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="64 is more than the 32 dimensions"):
        train_embedder(tiny_model, PAIRS, margin, settings(matryoshka_dims=[64]), tmp_path, Resources())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"mini_batch_size": 2},
            "multiple_negatives with mini_batch_size 2 does not suit this model: .*StaticEmbedding",
        ),
        ({"loss": "gist"}, "the loss gist does not suit this model: "),
    ],
)
def test_a_loss_that_does_not_suit_a_static_model_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict, said: str
) -> None:
    from ragladder.embeddings.models import load_model
    from ragladder.embeddings.static import distill

    distill(load_model(tiny_model), tmp_path / "static", 8)
    with pytest.raises(ConfigError, match=said):
        train_embedder(tmp_path / "static", PAIRS, margin, settings(**changes), tmp_path / "out", Resources())
