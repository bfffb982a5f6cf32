"""Contrastive training: what is chosen, what is kept, and that a kill changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_training import PAIRS, margin, settings, vectors
from pydantic import ValidationError
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, StageError
from ragladder.core.progress import Reporter
from ragladder.embeddings.encode import SentenceTransformerSettings
from ragladder.embeddings.mine import HardNegativeSettings, MiningCorpus
from ragladder.embeddings.train import Encode, train_embedder


def test_training_raises_the_dev_score_and_saves_a_plain_model(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from sentence_transformers import SentenceTransformer

    result = train_embedder(tiny_model, PAIRS, margin, settings(), tmp_path, Resources())
    assert capfd.readouterr() == ("", "")
    assert result.best_score > result.base_score + 0.05
    assert [alpha for alpha, _ in result.candidates] == [0, 0.5, 0.75, 1]
    assert result.best_score == max(score for _, score in result.candidates)
    assert [row.step for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert [row.dev is not None for row in result.history] == [False, False, True] * 2
    assert (result.pairs, result.with_negatives, result.precision) == (12, 0, "fp32")
    plain = SentenceTransformer(result.folder, device="cpu")
    np.testing.assert_allclose(
        plain.encode([p.query for p in PAIRS], show_progress_bar=False), vectors(result.folder), atol=1e-6
    )
    assert plain.max_seq_length == 64
    assert "finetuned by ragladder" in (tmp_path / "model" / "README.md").read_text()
    assert json.loads((tmp_path / "training.json").read_text())["alpha"] == result.alpha
    assert not (tmp_path / "checkpoints").exists()


def test_a_training_that_does_not_pay_gives_the_base_back(tiny_model: Path, tmp_path: Path) -> None:
    base = vectors(str(tiny_model))

    def likeness_to_base(encode: Encode) -> float:
        return float((encode([p.query for p in PAIRS], "query") * base).sum())

    result = train_embedder(tiny_model, PAIRS, likeness_to_base, settings(), tmp_path, Resources())
    assert result.alpha == 0
    assert result.best_score == result.base_score
    np.testing.assert_allclose(vectors(result.folder), base, atol=1e-6)


def test_the_best_epoch_is_kept_and_patience_stops(tiny_model: Path, tmp_path: Path) -> None:
    given = iter([0.0, 0.5, 0.9, 0.4, 0.3, 0.1])
    wanted = settings(epochs=5, patience=2, wise_ft=[0.5])
    result = train_embedder(tiny_model, PAIRS, lambda encode: next(given), wanted, tmp_path, Resources())
    assert [row.dev for row in result.history if row.dev is not None] == [0.5, 0.9, 0.4, 0.3]
    assert (result.best_epoch, result.alpha, result.best_score) == (2, 1, 0.9)
    assert result.stopped_early


def test_the_same_seed_gives_the_same_model_and_leaves_the_callers_draws_alone(
    tiny_model: Path, tmp_path: Path
) -> None:
    import torch

    state = torch.random.get_rng_state()
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = train_embedder(
            tiny_model, PAIRS, margin, settings(epochs=1, seed=seed, wise_ft=[]), tmp_path / name, Resources()
        )
        runs.append(vectors(result.folder))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_killed_training_goes_on_to_the_result_of_an_unbroken_one(tiny_model: Path, tmp_path: Path) -> None:
    wanted = settings(epochs=3)
    whole = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "whole", Resources())
    calls = []

    def killed_in_the_third_epoch(encode: Encode) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return margin(encode)

    with pytest.raises(KeyboardInterrupt):
        train_embedder(tiny_model, PAIRS, killed_in_the_third_epoch, wanted, tmp_path / "b", Resources())
    assert not (tmp_path / "b" / "model").exists()
    # A checkpoint that a kill left half-written has no mark.
    (tmp_path / "b" / "checkpoints" / "checkpoint-9").mkdir()
    scored = []
    again = train_embedder(
        tiny_model, PAIRS, lambda e: scored.append(1) or margin(e), wanted, tmp_path / "b", Resources()
    )
    assert len(scored) == 1 + 1 + 2, "the base, the third epoch and two mixtures"
    assert again.history == whole.history
    assert again.candidates == whole.candidates
    np.testing.assert_array_equal(vectors(again.folder), vectors(whole.folder))


def test_a_killed_training_keeps_the_batch_size_that_auto_came_to(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ragladder.embeddings import _run

    found = iter((4, 6, 4))  # a double of a device with other memory free at each start
    monkeypatch.setattr(_run, "auto_batch_size", lambda recipe, batches: next(found))
    wanted = settings(batch_size="auto")

    def killed(epoch: int, score: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "a", Resources(), on_epoch=killed)
    again = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "a", Resources())
    fresh = [train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / name, Resources()) for name in "bc"]
    assert [one.batch_size for one in (again, *fresh)] == [4, 6, 4]
    assert again.history == fresh[1].history


def test_checkpoints_of_other_settings_are_not_resumed(tiny_model: Path, tmp_path: Path) -> None:
    calls = []

    def stop(encode: Encode) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return margin(encode)

    with pytest.raises(KeyboardInterrupt):
        train_embedder(tiny_model, PAIRS, stop, settings(), tmp_path, Resources())
    changed = settings(learning_rate=1e-3)
    result = train_embedder(tiny_model, PAIRS, margin, changed, tmp_path, Resources())
    fresh = train_embedder(tiny_model, PAIRS, margin, changed, tmp_path / "fresh", Resources())
    assert result.history == fresh.history


def test_frozen_layers_do_not_change(tiny_model: Path, tmp_path: Path) -> None:
    from ragladder.embeddings.models import load_model

    given = iter([0.0, 1.0])
    wanted = settings(epochs=1, freeze_layers=1, wise_ft=[])
    result = train_embedder(tiny_model, PAIRS, lambda encode: next(given), wanted, tmp_path, Resources())
    before, after = load_model(tiny_model).state_dict(), load_model(Path(result.folder)).state_dict()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if "embeddings." in name or "layer.0." in name]
    half = wanted.model_copy(update={"freeze_layers": "half"})
    given = iter([0.0, 1.0])
    same = train_embedder(tiny_model, PAIRS, lambda encode: next(given), half, tmp_path / "half", Resources())
    assert same.trained_parameters == result.trained_parameters
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        train_embedder(tiny_model, PAIRS, margin, settings(freeze_layers=3), tmp_path, Resources())
    with pytest.raises(ConfigError, match="freeze_layers is 2, .* nothing is left to train"):
        train_embedder(tiny_model, PAIRS, margin, settings(freeze_layers=2), tmp_path, Resources())


def test_a_loss_that_is_no_number_stops_with_an_error(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][:] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="the loss is nan at step 1; no epoch was finished. Lower learning_rate"):
        train_embedder(broken, PAIRS, lambda encode: 0.5, settings(), tmp_path / "out", Resources())


def test_a_loss_that_diverges_keeps_the_last_good_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from ragladder.embeddings import _trainer

    build_loss = _trainer.build_loss

    class Diverging(torch.nn.Module):
        """A double of a loss that is no number from the fifth step on."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__()
            self.loss = build_loss(*arguments, **named)
            self.steps = 0

        def forward(self, features: Any, labels: Any) -> Any:
            self.steps += 1
            return self.loss(features, labels) * (torch.nan if self.steps >= 5 else 1)

    monkeypatch.setattr(_trainer, "build_loss", Diverging)
    good = tmp_path / "checkpoints" / "checkpoint-3"
    with pytest.raises(StageError, match=f"nan at step 5; the last good checkpoint is {good} .epoch 1."):
        train_embedder(tiny_model, PAIRS, margin, settings(epochs=4), tmp_path, Resources())
    assert all(np.isfinite(value).all() for value in vectors(str(good)))


def test_hard_negatives_are_mined_and_no_pair_is_lost(tiny_model: Path, tmp_path: Path) -> None:
    texts = tuple(p.positive for p in PAIRS)
    # One question may have no negatives at all.
    corpus = MiningCorpus(texts, {"q0": frozenset(texts)})
    hard = {"hard_negatives": HardNegativeSettings(relative_margin=None), "epochs": 1}
    result = train_embedder(tiny_model, PAIRS, margin, settings(**hard), tmp_path, Resources(), mining=corpus)
    assert (result.pairs, result.with_negatives) == (12, 11)
    with pytest.raises(ConfigError, match="no candidates"):
        train_embedder(tiny_model, PAIRS, margin, settings(**hard), tmp_path, Resources())


def test_prefixes_are_trained_with_and_saved(tiny_model: Path, tmp_path: Path) -> None:
    embedder = SentenceTransformerSettings(query_prefix="where ", max_length=16)
    wanted = settings(epochs=1, wise_ft=[])
    with_prefix = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "a", Resources(), embedder=embedder)
    without = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources())
    assert with_prefix.history[0].loss != without.history[0].loss
    saved = SentenceTransformerSettings(model=with_prefix.folder).build(Resources())
    assert saved.prefix("query") == "where "
    assert saved.model.max_seq_length == 16


def test_unusable_input_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 training pairs"):
        train_embedder(tiny_model, PAIRS[:1], margin, settings(), tmp_path, Resources())
    with pytest.raises(StageError, match="dev evaluation gave nan"):
        train_embedder(tiny_model, PAIRS, lambda encode: float("nan"), settings(), tmp_path, Resources())
    with pytest.raises(ValidationError, match="between 0 and 1"):
        settings(wise_ft=[1.5])


def test_lora_trains_few_weights_and_saves_a_plain_model(tiny_model: Path, tmp_path: Path) -> None:
    wanted = settings(method="lora", learning_rate=2e-2, wise_ft=[])
    result = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path, Resources())
    full = train_embedder(tiny_model, PAIRS, margin, settings(epochs=1), tmp_path / "full", Resources())
    assert result.alpha == 1 and result.best_score > result.base_score + 0.02
    assert result.trained_parameters < full.trained_parameters
    assert not list(Path(result.folder).rglob("adapter*"))
    saved = SentenceTransformerSettings(model=result.folder).build(Resources())
    assert margin(saved.encode) == pytest.approx(result.best_score, abs=1e-5)


def test_a_killed_lora_training_goes_on_to_the_same_result(tiny_model: Path, tmp_path: Path) -> None:
    wanted = settings(method="lora", learning_rate=1e-2, wise_ft=[])
    whole = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "whole", Resources())

    def killed(epoch: int, score: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources(), on_epoch=killed)
    again = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources())
    assert again.history == whole.history
    np.testing.assert_array_equal(vectors(again.folder), vectors(whole.folder))


def test_lora_on_layers_that_are_not_there_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    wanted = settings(method="lora", lora={"target_modules": ["nowhere"]})
    with pytest.raises(ConfigError, match="target_modules nowhere"):
        train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path, Resources())


def test_negatives_are_mined_again_and_a_kill_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    corpus = MiningCorpus((*(p.positive for p in PAIRS), "hold the button", "press the lamp"), {})
    hard = {"num_negatives": 2, "relative_margin": None, "remine": True}
    wanted = settings(hard_negatives=hard, epochs=3, wise_ft=[])
    whole = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "a", Resources(), mining=corpus)
    once = settings(hard_negatives={**hard, "remine": False}, epochs=3, wise_ft=[])
    fixed = train_embedder(tiny_model, PAIRS, margin, once, tmp_path / "c", Resources(), mining=corpus)
    per_epoch = len(whole.history) // 3
    assert [r.loss for r in whole.history[:per_epoch]] == [r.loss for r in fixed.history[:per_epoch]]
    assert whole.history != fixed.history

    def killed(epoch: int, score: float) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources(), mining=corpus, on_epoch=killed)
    again = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources(), mining=corpus)
    assert again.history == whole.history


def test_out_of_memory_halves_the_batch_and_says_so(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from ragladder.embeddings import _run

    fit = _run.fit

    def small_memory(model: Any, setup: Any, leg: Any, watch: Any) -> None:
        """A double of a device whose memory holds two pairs."""
        if setup.batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        fit(model, setup, leg, watch)

    monkeypatch.setattr(_run, "fit", small_memory)
    log = tmp_path / "log"
    reporter = Reporter(quiet=True, log=log)
    wanted = settings(epochs=1, batch_size=8, wise_ft=[])
    result = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "a", Resources(), reporter)
    assert result.batch_size == 2
    assert "out of memory; starting again with batch_size 4" in log.read_text()
    monkeypatch.setattr(_run, "fit", lambda *rest: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(StageError, match="out of memory with 2 pairs a step; lower max_length"):
        train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources())


def test_a_static_model_is_trained_whole(tiny_model: Path, tmp_path: Path) -> None:
    from ragladder.embeddings.models import load_model
    from ragladder.embeddings.static import distill

    distill(load_model(tiny_model), tmp_path / "static", 8)
    wanted = settings(freeze_layers="half", learning_rate=None, epochs=3, wise_ft=[])
    result = train_embedder(tmp_path / "static", PAIRS, margin, wanted, tmp_path / "out", Resources())
    assert result.learning_rate == 1e-3
    assert result.best_score > result.base_score


def test_the_precision_of_a_launcher_is_not_taken_for_that_of_the_config(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(epochs=1, wise_ft=[])
    plain = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "a", Resources())
    # As `accelerate launch --mixed_precision bf16` sets it, or the file that `accelerate config` writes.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    launched = train_embedder(tiny_model, PAIRS, margin, wanted, tmp_path / "b", Resources())
    assert launched.history == plain.history
