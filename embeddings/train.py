"""Finetunes an embedding model on training pairs with a contrastive loss, and keeps what is best on dev.

Candidates are the untrained base, the best epoch, and mixtures of both (WiSE-FT, Wortsman et al. 2022): a training that
does not pay ends with the base.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from ..core.cache import digest, write_atomic
from ..core.components import Model, Resources
from ..core.devices import fingerprint
from ..core.errors import ConfigError, DataError, StageError
from ..core.progress import Reporter
from ..core.quiet import quiet_libraries
from ._card import model_card
from ._embedder import Role, SentenceTransformerEmbedder
from ._library import load_model, model_folder, position_limit
from ._trainer import fit, freeze_lower, latest, own_randomness, remove_stale, resolve_precision
from .encode import SentenceTransformerSettings
from .mine import HardNegativeSettings, MiningCorpus, mine_negatives
from .pairs import Pair

__all__ = ["DevEvaluator", "EmbedTrainSettings", "Encode", "HistoryRow", "TrainResult", "train_embedder"]

Encode = Callable[[Sequence[str], Role], np.ndarray]
"""Texts and their role to unit vectors."""
DevEvaluator = Callable[[Encode], float]
"""The score, higher being better, of a model on the dev questions; the ladder decides which."""

VERSION = 1
"""Raised when the same settings give another model."""


class EmbedTrainSettings(Model):
    """How an embedding model is finetuned."""

    loss: Literal["multiple_negatives"] = "multiple_negatives"
    """MultipleNegativesRankingLoss (InfoNCE): each query against the positives of the whole batch. Needs pairs only."""
    scale: float = Field(default=20.0, gt=0)
    """1/temperature of the loss: larger looks more at the hardest negatives."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the pairs; time grows in proportion, dev is scored after each."""
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    """Peak of the optimizer's step: higher learns faster and forgets more of what the base knows."""
    batch_size: int = Field(default=32, ge=2)
    """Pairs a step, hence negatives a query: larger is harder and better up to a point, and takes more memory."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it falls to 0 over the rest."""
    max_length: int | None = Field(default=256, ge=8)
    """Tokens of a text read in training (not in encoding); null: the model's limit. Time and memory grow with it."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 computes in half the bits (weights stay fp32): .6 of the time where the device has it; auto: bf16 there."""
    freeze_layers: Annotated[int, Field(ge=0)] | Literal["half"] = "half"
    """The token embeddings and so many lower layers stay as they are; half of them saves about half of the time."""
    hard_negatives: HardNegativeSettings | None = None
    """Mine negatives with the base model first; null: in-batch negatives alone, which is much cheaper."""
    patience: int | None = Field(default=2, ge=1)
    """Stop after so many epochs without a new best dev score; null: never."""
    wise_ft: tuple[float, ...] = (0.5, 0.75)
    """Shares of the finetuned weights in mixtures with the base, tried on dev; each costs one dev evaluation."""
    seed: int = 0
    """Order of the pairs and dropout; the spread over a few seeds shows how much of a gain is luck."""

    @field_validator("wise_ft")
    @classmethod
    def _between(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < alpha < 1 for alpha in value):
            raise ValueError("shares must lie between 0 and 1 (both ends are always tried)")
        return tuple(sorted(set(value)))


class HistoryRow(Model):
    """One training step."""

    step: int
    """From 1 on."""
    epoch: float
    """Passes over the pairs done by then."""
    loss: float
    """Of this batch."""
    dev: float | None
    """Dev score, at the end of an epoch."""


class TrainResult(Model):
    """What a training gave."""

    folder: str
    """The model that is best on dev, as a SentenceTransformer folder."""
    base_score: float
    """Dev score of the untrained base."""
    best_score: float
    """Dev score of the model in `folder`: chosen on dev, so a little too good to be true."""
    alpha: float
    """Share of the finetuned weights in it: 0 is the base itself, 1 the best epoch."""
    candidates: tuple[tuple[float, float], ...]
    """(alpha, dev score) of all that were compared."""
    best_epoch: int
    """The epoch whose weights were mixed."""
    stopped_early: bool
    """True where patience ended the training."""
    history: tuple[HistoryRow, ...]
    """Every step."""
    seconds: float
    """Wall-clock time of this call; a resumed training counts what it still had to do."""
    pairs: int
    """Pairs trained on."""
    with_negatives: int
    """Those with at least one hard negative."""
    precision: Literal["fp32", "bf16"]
    """What `dtype` came to."""
    trained_parameters: int
    """Weights that were free to change."""


def train_embedder(
    base_folder: str | Path,
    pairs: Sequence[Pair],
    dev_evaluator: DevEvaluator,
    settings: EmbedTrainSettings,
    out_dir: Path,
    resources: Resources,
    reporter: Reporter | None = None,
    *,
    embedder: SentenceTransformerSettings | None = None,
    mining: MiningCorpus | None = None,
    checkpoints: Path | None = None,
) -> TrainResult:
    """Finetunes a model; called again after a kill it goes on from the last finished epoch, to the same result.

    Args:
        base_folder: The base model: a folder or a name as in a config.
        pairs: Training pairs.
        dev_evaluator: Scores a model on dev; asked for the base, after each epoch, and for each mixture.
        settings: How to train.
        out_dir: Gets `model/` and `training.json`.
        resources: Device and folders.
        reporter: Where progress goes.
        embedder: How the model encodes when it is used (prefixes, max_length, dtype); scored on dev like that. Its
            `model` is not read.
        mining: Candidates for hard negatives; needed where `settings.hard_negatives` is set.
        checkpoints: Where to keep checkpoints; `out_dir/checkpoints` by default. Removed when the training is done.

    Raises:
        ConfigError: The settings do not fit the model or the device.
        DataError: There is no such model, or there are fewer than two pairs.
        StageError: The loss or a dev score is not a finite number.
    """
    if len(pairs) < 2:
        raise DataError(f"train embedder: {len(pairs)} training pairs; a contrastive loss needs two at the least")
    if resources.device.startswith("cuda:") and resources.device != "cuda:0":
        raise ConfigError(
            f"training runs on the first GPU, not on {resources.device}; set CUDA_VISIBLE_DEVICES and use cuda"
        )
    started = time.monotonic()
    reporter = reporter or Reporter(quiet=True)
    folder = model_folder(str(base_folder), resources)
    serving = (embedder or SentenceTransformerSettings()).model_copy(update={"model": str(folder)})
    out_dir, kept = Path(out_dir), Path(checkpoints or Path(out_dir) / "checkpoints")
    with own_randomness(resources.device):
        run = _Run(folder, serving, settings, dev_evaluator, resources, reporter)
        result = run.train(list(pairs), mining, out_dir / "model", kept)
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
    write_atomic(out_dir / "training.json", result.model_dump_json(indent=1).encode())
    shutil.rmtree(kept, ignore_errors=True)
    return result


class _Run:
    """One call of `train_embedder`: the model, and how it is scored."""

    def __init__(
        self,
        folder: Path,
        serving: SentenceTransformerSettings,
        settings: EmbedTrainSettings,
        evaluate: DevEvaluator,
        resources: Resources,
        reporter: Reporter,
    ) -> None:
        self.folder, self.settings, self.resources, self.reporter = folder, settings, resources, reporter
        self._evaluate = evaluate
        self.embedder: SentenceTransformerEmbedder = serving.build(resources)
        self.model = self.embedder.model
        self._length = self.model.max_seq_length
        self.prefixes = (self.embedder.prefix("query"), self.embedder.prefix("document"))
        self.precision = resolve_precision(settings.dtype, resources.device)

    def train(self, pairs: list[Pair], mining: MiningCorpus | None, target: Path, kept: Path) -> TrainResult:
        """All of it, from the base's score to the saved model."""
        base = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        base_score = self.score()
        self.reporter.line(f"train embedder: {len(pairs)} pairs, {self.precision}; untrained base {base_score:.4f}")
        pairs = self._with_negatives(pairs, mining)
        freeze_lower(self.model, self.settings.freeze_layers)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        checkpoint, progress = latest(kept, self._identity(pairs))
        removed = remove_stale(kept, progress, checkpoint)
        if removed:
            self.reporter.line(f"train embedder: removed {removed} checkpoints, unfinished or of another training")
        if checkpoint:
            self.reporter.line(f"train embedder: going on after epoch {progress.epochs()}")
        if progress.epochs() < self.settings.epochs and not progress.stopped:
            with self._training_length():
                arguments = (self.precision, self.prefixes, self.score, kept, progress, checkpoint)
                fit(self.model, pairs, self.settings, *arguments, self.resources.device, self.reporter)
        best = load_model(kept / f"checkpoint-{progress.best_step}").state_dict()
        candidates = {0.0: base_score, 1.0: progress.best_score}
        for alpha in self.settings.wise_ft:
            self._mix(base, best, alpha)
            candidates[alpha] = self.score()
        # Of equals the one nearer to the base, which has forgotten less.
        alpha = max(sorted(candidates), key=lambda share: candidates[share])
        self._mix(base, best, alpha)
        rows = tuple(HistoryRow(step=s, epoch=e, loss=loss, dev=dev) for s, e, loss, dev in progress.rows)
        result = TrainResult(
            folder=str(target),
            base_score=base_score,
            best_score=candidates[alpha],
            alpha=alpha,
            candidates=tuple(sorted(candidates.items())),
            best_epoch=next(round(row.epoch) for row in rows if row.step == progress.best_step),
            stopped_early=progress.stopped,
            history=rows,
            seconds=0.0,
            pairs=len(pairs),
            with_negatives=sum(bool(pair.negatives) for pair in pairs),
            precision="bf16" if self.precision == "bf16" else "fp32",
            trained_parameters=trained,
        )
        self._save(target, result)
        self.reporter.line(
            f"train embedder: dev {base_score:.4f} -> {result.best_score:.4f} (alpha {alpha:g}): {target}"
        )
        return result

    def score(self) -> float:
        """Dev score of the model as it is, encoding as it will when it is used."""
        was_training, length = self.model.training, self.model.max_seq_length
        self.model.max_seq_length = self._length
        try:
            with own_randomness(self.resources.device):
                value = float(self._evaluate(self.embedder.encode))
        finally:
            self.model.max_seq_length = length
            self.model.train(was_training)
        if not math.isfinite(value):
            raise StageError(f"train embedder: the dev evaluation gave {value}; it must give a finite number")
        return value

    @contextmanager
    def _training_length(self) -> Iterator[None]:
        wanted = self.settings.max_length
        if wanted is not None:
            limit = position_limit(self.model)
            self.model.max_seq_length = wanted if limit is None else min(wanted, limit)
        try:
            yield
        finally:
            self.model.max_seq_length = self._length

    def _with_negatives(self, pairs: list[Pair], mining: MiningCorpus | None) -> list[Pair]:
        if self.settings.hard_negatives is None:
            return pairs
        if mining is None:
            raise ConfigError("hard_negatives is set, but no candidates were given to mine them from")
        mined = mine_negatives(pairs, mining, self.model, self.settings.hard_negatives, *self.prefixes)
        self.reporter.line(mined.summary())
        return list(mined.pairs)

    def _identity(self, pairs: Sequence[Pair]) -> str:
        """Digest of all that determines the weights; what only chooses among them is left out."""
        settings = self.settings.model_dump(mode="json", exclude={"wise_ft"})
        parts = [settings, self.precision, list(self.prefixes), fingerprint(self.folder), VERSION]
        return digest([*parts, [asdict(pair) for pair in pairs]])

    def _mix(self, base: dict[str, Any], best: dict[str, Any], alpha: float) -> None:
        """WiSE-FT: base + alpha (best - base), weight by weight."""
        import torch

        mixed = {
            name: torch.lerp(value, best[name].to(value.dtype), alpha) if value.is_floating_point() else best[name]
            for name, value in base.items()
        }
        self.model.load_state_dict(mixed)

    def _save(self, target: Path, result: TrainResult) -> None:
        """Writes the model's folder, whole or not at all."""
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        # So that the folder by itself encodes as it was scored.
        for name, prefix in zip(("query", "document"), self.prefixes, strict=True):
            if prefix:
                self.model.prompts[name] = prefix
        try:
            with quiet_libraries():
                self.model.save_pretrained(str(temporary), create_model_card=False)
            (temporary / "README.md").write_text(model_card(self.folder.name, self.settings, result), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
