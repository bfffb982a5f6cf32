"""What is found out before a training: steps, time and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from embed_training import PAIRS, margin, settings
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.embeddings.probe import estimate_embedding
from ragladder.embeddings.train import train_embedder


def test_the_estimate_counts_the_steps_and_weights_of_the_training(tiny_model: Path, tmp_path: Path) -> None:
    wanted = settings(wise_ft=[])
    found = estimate_embedding(tiny_model, PAIRS, wanted, Resources(), price_per_hour=3600)
    result = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path, Resources())
    assert (found.steps, found.trained_parameters) == (len(result.history), result.trained_parameters)
    assert found.money == pytest.approx(found.seconds, abs=0.1)
    assert found.seconds_per_step > 0 and found.batch_size == 4
    with pytest.raises(DataError, match="1 training pairs"):
        estimate_embedding(tiny_model, PAIRS[:1], wanted, Resources())


@pytest.mark.parametrize("loss", ["multiple_negatives", "triplet", "cosent", "gist"])
def test_rows_with_unlike_numbers_of_negatives_are_counted_as_they_are_trained_on(
    tiny_model: Path, tmp_path: Path, loss: str
) -> None:
    negatives = ("the grey cat", "a blue dog")
    pairs = [replace(pair, negatives=negatives[: place % 3]) for place, pair in enumerate(PAIRS)]
    if loss == "triplet":  # the estimate cannot know which pairs will be left without a negative
        pairs = [pair for pair in pairs if pair.negatives]
    mini = {"mini_batch_size": 4} if loss == "gist" else {}
    wanted = settings(loss=loss, wise_ft=[], epochs=1, **mini)
    found = estimate_embedding(tiny_model, pairs, wanted, Resources())
    result = train_embedder(tiny_model, pairs, margin, wanted, tmp_path, Resources())
    assert found.steps == len(result.history)


def test_gradient_checkpointing_is_measured_and_trains_the_same(tiny_model: Path, tmp_path: Path) -> None:
    frugal = settings(gradient_checkpointing=True, wise_ft=[], epochs=1, freeze_layers="half")
    assert estimate_embedding(tiny_model, PAIRS, frugal, Resources()).seconds > 0
    losses = []
    for name, wanted in (("a", frugal), ("b", frugal.model_copy(update={"gradient_checkpointing": False}))):
        result = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / name, Resources())
        losses.append([row.loss for row in result.history])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
