"""What is kept of a training: the base, the best epoch or a mixture, and what a set of another field allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embed_training import PAIRS, margin, settings, vectors
from ragladder.core.components import Resources
from ragladder.embeddings.train import DevEvaluator, Encode, GeneralCheck, TrainResult, train_embedder


@pytest.fixture
def likeness(tiny_model: Path) -> DevEvaluator:
    """A double of a general set: how near the vectors of a model are to the base's."""
    base = vectors(str(tiny_model))

    def score(encode: Encode) -> float:
        return float((encode([p.query for p in PAIRS], "query") * base).sum(axis=1).mean())

    return score


def trained(model: Path, out: Path, general: GeneralCheck | None = None) -> TrainResult:
    return train_embedder(model, PAIRS, margin, settings(), out, Resources(), general=general)


def test_what_is_forgotten_is_measured_and_may_be_limited(
    tiny_model: Path, tmp_path: Path, likeness: DevEvaluator
) -> None:
    free = trained(tiny_model, tmp_path / "a")
    measured = trained(tiny_model, tmp_path / "b", GeneralCheck(likeness))
    assert measured.alpha == free.alpha > 0
    assert [alpha for alpha, _ in measured.general] == [0, free.alpha]
    assert measured.kept() == free.kept()
    strict = trained(tiny_model, tmp_path / "c", GeneralCheck(likeness, max_loss=0.0, tries=0))
    assert (strict.alpha, strict.best_score) == (0, strict.base_score)
    np.testing.assert_allclose(vectors(strict.folder), vectors(str(tiny_model)), atol=1e-6)
    lost = dict(measured.general)[0.0] - dict(measured.general)[free.alpha]
    said = f"the base itself; a share of {free.alpha:g} is better on dev by {free.best_score - free.base_score:.4f}, "
    said += f"but loses {lost:.4f} on the general set, where at most 0 may be lost"
    assert strict.kept() == said
    assert said in " ".join((Path(strict.folder) / "README.md").read_text().split())


def test_no_more_than_the_largest_share_is_kept(tiny_model: Path, tmp_path: Path, likeness: DevEvaluator) -> None:
    wanted = settings().model_copy(update={"max_share": 0.3, "wise_ft": (0.1,)})
    free = trained(tiny_model, tmp_path / "a")
    assert free.alpha > 0.3
    found = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources())
    scores = dict(found.candidates)
    assert set(scores) == {0, 0.1, 0.3, 1} and found.alpha == 0.3
    assert scores[1] == dict(free.candidates)[1] > found.best_score == scores[0.3]
    assert "may be kept" in found.kept()


def test_smaller_shares_are_tried_where_the_given_ones_forget_too_much(
    tiny_model: Path, tmp_path: Path, likeness: DevEvaluator
) -> None:
    every = trained(tiny_model, tmp_path / "a", GeneralCheck(likeness, max_loss=0.0, tries=0))
    general = dict(every.general)
    assert every.alpha == 0 and set(general) == {0, 0.5, 0.75, 1}
    # What half of the weights loses is more than may be lost.
    may_lose = (general[0.0] - general[0.5]) / 2
    found = trained(tiny_model, tmp_path / "b", GeneralCheck(likeness, max_loss=may_lose))
    assert len(found.candidates) == 4 + 3
    assert 0 < found.alpha < 0.5
    after = dict(found.general)
    assert after[0.0] - after[found.alpha] <= may_lose
    allowed = [score for alpha, score in found.candidates if after.get(alpha, -1) >= after[0.0] - may_lose]
    assert found.best_score == max(allowed) > found.base_score
    assert "is better on dev by" in found.kept()
