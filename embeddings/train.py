"""Finetunes an embedding model on training pairs with a contrastive loss, and keeps what is best on dev.

Candidates are the untrained base, the best epoch, and mixtures of both (WiSE-FT, Wortsman et al. 2022): a training that
does not pay ends with the base.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.cache import digest, write_atomic
from ..core.components import Resources
from ..core.devices import fingerprint
from ..core.errors import ConfigError, DataError, StageError
from ..core.progress import Reporter
from ._card import model_card
from ._embedder import Role, SentenceTransformerEmbedder
from ._library import check_pooling, load_cross_encoder, load_model, model_folder, position_limit
from ._lora import attach_lora, merged_weights
from ._memory import auto_batch_size, out_of_memory, peak_memory_mb, reset_peak
from ._merge import mix, save_model
from ._result import HistoryRow, TrainResult
from ._trainer import Progress, Setup, fit, freeze_lower, latest, own_randomness, remove_stale, resolve_precision
from .encode import SentenceTransformerSettings
from .losses import build_loss, check_pairs, teach, training_rows, usable
from .mine import MiningCorpus, fill_up, mine_negatives
from .pairs import Pair
from .train_settings import DISTILLATION, EmbedTrainSettings, EncoderLoraSettings

__all__ = [
    "DevEvaluator",
    "EmbedTrainSettings",
    "Encode",
    "GeneralCheck",
    "EncoderLoraSettings",
    "HistoryRow",
    "TrainResult",
    "train_embedder",
]

Encode = Callable[[Sequence[str], Role], np.ndarray]
"""Texts and their role to unit vectors."""
DevEvaluator = Callable[[Encode], float]
"""The score, higher being better, of a model on the dev questions; the ladder decides which."""

VERSION = 2
"""Raised when the same settings give another model."""


@dataclass(frozen=True)
class GeneralCheck:
    """A set that is not trained for, and how much of it may be lost.

    Attributes:
        evaluate: Score of a model there, higher being better.
        max_loss: A model that loses more is not taken; None only measures.
    """

    evaluate: DevEvaluator
    max_loss: float | None = None


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
    general: GeneralCheck | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
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
        general: On what forgetting is measured.
        on_epoch: Told of each epoch and its dev score, those before a kill too; what it raises ends the training.

    Raises:
        ConfigError: The settings do not fit the model or the device.
        DataError: There is no such model, or the loss cannot learn from the pairs.
        StageError: The loss or a dev score is not a finite number, or two pairs do not fit into memory.
    """
    if not settings.hard_negatives:
        check_pairs(pairs, settings.model_copy(update={"teacher": "given"}) if settings.teacher else settings)
    elif len(pairs) < 2:
        raise DataError(f"train embedder: {len(pairs)} training pairs; a contrastive loss needs two at the least")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "train embedder: started on several processes (torchrun or accelerate launch), but it trains on one "
            "device; start it plainly, with CUDA_VISIBLE_DEVICES for the GPU"
        )
    if resources.device.startswith("cuda:") and resources.device != "cuda:0":
        raise ConfigError(
            f"training runs on the first GPU, not on {resources.device}; set CUDA_VISIBLE_DEVICES and use cuda"
        )
    started = time.monotonic()
    reporter = reporter or Reporter(quiet=True)
    folder = model_folder(str(base_folder), resources)
    serving = (embedder or SentenceTransformerSettings()).on_torch().model_copy(update={"model": str(folder)})
    out_dir, kept = Path(out_dir), Path(checkpoints or Path(out_dir) / "checkpoints")
    with own_randomness(resources.device):
        run = _Run(folder, serving, settings, dev_evaluator, resources, reporter, general, on_epoch)
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
        general: GeneralCheck | None,
        on_epoch: Callable[[int, float], None] | None,
    ) -> None:
        self.folder, self.settings, self.resources, self.reporter = folder, settings, resources, reporter
        self._on_epoch = on_epoch
        self._evaluate, self._serving, self._general = evaluate, serving, general
        self.embedder: SentenceTransformerEmbedder = serving.build(resources)
        self.model = self.embedder.model
        check_pooling(self.model, folder, reporter)
        self.static = self.model.transformers_model is None
        self.learning_rate = settings.resolved_learning_rate(self.static)
        self._length = self.model.max_seq_length
        self.prefixes = (self.embedder.prefix("query"), self.embedder.prefix("document"))
        self.precision = resolve_precision(settings.dtype, resources.device)

    def train(self, pairs: list[Pair], mining: MiningCorpus | None, target: Path, kept: Path) -> TrainResult:
        """All of it, from the base's score to the saved model."""
        reset_peak(self.resources.device)
        base = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        base_score = self.score()
        self.reporter.line(f"train embedder: {len(pairs)} pairs, {self.precision}; untrained base {base_score:.4f}")
        given = self._prepared(pairs, mining)
        pairs = usable(given, self.settings)
        if len(pairs) < len(given):
            self.reporter.line(
                f"train embedder: {len(given) - len(pairs)} pairs have no negative, so {self.settings.loss} learns "
                "nothing from them"
            )
        progress, folder, batch_size, trained = self._fitted(pairs, mining, base, kept)
        best = self._best(folder / f"checkpoint-{progress.best_step}", base)
        alpha, candidates, general = self._choose(base, best, base_score, progress.best_score)
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
            unused=len(given) - len(pairs),
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            peak_memory_mb=peak_memory_mb(self.resources.device),
            general=general,
        )
        # So that the folder by itself encodes as it was scored.
        for name, prefix in zip(("query", "document"), self.prefixes, strict=True):
            if prefix:
                self.model.prompts[name] = prefix
        save_model(self.model, target, model_card(self.folder.name, self.settings, result))
        self.reporter.line(
            f"train embedder: dev {base_score:.4f} -> {result.best_score:.4f} (alpha {alpha:g}): {target}"
        )
        return result

    def _fitted(
        self, pairs: list[Pair], mining: MiningCorpus | None, base: dict[str, Any], kept: Path
    ) -> tuple[Progress, Path, int, int]:
        """Trains with the batch size asked for, or with the largest half of it that fits into memory.

        Returns:
            How it went, the folder of its checkpoints, the batch size, and how many weights were free to change.
        """
        asked = self.settings.batch_size
        batch_size = auto_batch_size(self, pairs) if asked == "auto" else asked
        folder = kept
        while True:
            try:
                progress, trained = self._fit(pairs, mining, batch_size, folder)
                return progress, folder, batch_size, trained
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if batch_size < 4:
                    raise StageError(
                        f"train embedder: out of memory with {batch_size} pairs a step; lower max_length (now "
                        f"{self.settings.max_length}), or set mini_batch_size or gradient_checkpointing"
                    ) from error
            batch_size //= 2
            self.reporter.line(f"train embedder: out of memory; starting again with batch_size {batch_size}")
            # A folder of its own, so that a resumed training finds the checkpoints of the size that fits.
            folder = kept / f"batch-{batch_size}"
            self._renew()
            self.model.load_state_dict(base)

    def _fit(
        self, pairs: list[Pair], mining: MiningCorpus | None, batch_size: int, folder: Path
    ) -> tuple[Progress, int]:
        if self.settings.method == "lora":
            attach_lora(self.model, self.settings.lora)
        layers = self.settings.freeze_layers
        freeze_lower(self.model, 0 if self.static and layers == "half" else layers)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        logs = folder.parent / f"{folder.name}-logs"
        how = (self.settings, batch_size, self.learning_rate, self.precision, self.prefixes)
        setup = Setup(*how, self.resources.device, folder, logs)
        guide = self._guide()
        identity = self._identity(pairs, batch_size)
        checkpoint, progress = latest(folder, identity)
        removed = remove_stale(folder, progress, checkpoint)
        if removed:
            self.reporter.line(f"train embedder: removed {removed} checkpoints, unfinished or of another training")
        for epoch, value in enumerate((row[3] for row in progress.rows if row[3] is not None), 1):
            if self._on_epoch:
                self._on_epoch(epoch, value)
        if checkpoint:
            self.reporter.line(f"train embedder: going on after epoch {progress.epochs()}")
        hard = self.settings.hard_negatives
        again = hard is not None and hard.remine and mining is not None
        while progress.epochs() < self.settings.epochs and not progress.stopped:
            done = progress.epochs()
            if again and mining is not None:
                pairs = self._mined_again(pairs, mining, checkpoint if done else None)
            with self._training_length():
                rows = training_rows(pairs, self.settings)
                loss = build_loss(self.model, self.settings, guide)
                until = done + 1 if again else None
                steps = (progress, checkpoint, self.reporter, until, self._on_epoch)
                fit(self.model, rows, loss, setup, self.score, *steps)
            checkpoint, _ = latest(folder, identity)
        return progress, trained

    def _best(self, checkpoint: Path, base: dict[str, Any]) -> dict[str, Any]:
        """Weights of the best epoch, in the names of the base; the model is plain afterwards."""
        trained = load_model(checkpoint)
        if self.settings.method != "lora":
            return trained.state_dict()
        self._renew()
        return merged_weights(base, trained)

    def _renew(self) -> None:
        """A fresh base: adapters and frozen layers are gone."""
        self.embedder = self._serving.build(self.resources)
        self.model = self.embedder.model

    def _choose(
        self, base: dict[str, Any], best: dict[str, Any], base_score: float, best_score: float
    ) -> tuple[float, dict[float, float], tuple[tuple[float, float], ...]]:
        """WiSE-FT's share with the best dev score; the model has its weights afterwards.

        Returns:
            The share, the dev score of every share, and the scores on the general set of those that were looked at.
        """
        candidates = {0.0: base_score, 1.0: best_score}
        for alpha in self.settings.wise_ft:
            mix(self.model, base, best, alpha)
            candidates[alpha] = self.score()
        # Of equals the one nearer to the base, which has forgotten less.
        ranked = sorted(sorted(candidates), key=lambda share: -candidates[share])
        general: dict[float, float] = {}
        if self._general is None or ranked[0] == 0:
            mix(self.model, base, best, ranked[0])
            return ranked[0], candidates, ()
        for alpha in (0.0, *ranked):
            mix(self.model, base, best, alpha)
            if alpha not in general:
                general[alpha] = self.score(self._general.evaluate)
                self.reporter.line(f"train embedder: general set, alpha {alpha:g}: {general[alpha]:.4f}")
                if alpha == 0:
                    continue
            limit = self._general.max_loss
            if limit is None or general[alpha] >= general[0.0] - limit:
                return alpha, candidates, tuple(general.items())
        raise AssertionError("the base loses nothing against itself")

    def score(self, evaluate: DevEvaluator | None = None) -> float:
        """Dev (or another) score of the model as it is, encoding as it will when it is used."""
        was_training, length = self.model.training, self.model.max_seq_length
        self._read(self._length)
        try:
            with own_randomness(self.resources.device):
                value = float((evaluate or self._evaluate)(self.embedder.encode))
        finally:
            self._read(length)
            self.model.train(was_training)
        if not math.isfinite(value):
            raise StageError(f"train embedder: the dev evaluation gave {value}; it must give a finite number")
        return value

    @contextmanager
    def _training_length(self) -> Iterator[None]:
        wanted = self.settings.max_length
        if wanted is not None:
            limit = position_limit(self.model)
            self._read(wanted if limit is None else min(wanted, limit))
        try:
            yield
        finally:
            self._read(self._length)

    def _read(self, tokens: int | None) -> None:
        """Sets how many tokens of a text are read; a static model reads all, and has no such setting."""
        if not self.static:
            self.model.max_seq_length = tokens

    def _prepared(self, pairs: list[Pair], mining: MiningCorpus | None) -> list[Pair]:
        """Pairs with their mined negatives and their teacher's scores, checked."""
        hard = self.settings.hard_negatives
        if hard is not None:
            if mining is None:
                raise ConfigError("hard_negatives is set, but no candidates were given to mine them from")
            pairs = self._mined(pairs, mining)
        if self.settings.loss in DISTILLATION and self.settings.teacher is not None:
            self.reporter.line(f"train embedder: {self.settings.teacher} scores {len(pairs)} pairs and their negatives")
            pairs = teach(pairs, load_cross_encoder(self.settings.teacher, self.resources))
        check_pairs(pairs, self.settings)
        return pairs

    def _mined(self, pairs: list[Pair], mining: MiningCorpus) -> list[Pair]:
        hard = self.settings.hard_negatives
        if hard is None:
            return pairs
        judge = load_cross_encoder(hard.cross_encoder, self.resources) if hard.cross_encoder else None
        mined = mine_negatives(pairs, mining, self.model, hard, *self.prefixes, cross_encoder=judge)
        self.reporter.line(mined.summary())
        if not hard.remine:
            return list(mined.pairs)
        # Each epoch must have the same number of rows and columns, or a resumed training loses count of its steps.
        return fill_up(mined.pairs, mining, hard.num_negatives, self.settings.seed)

    def _mined_again(self, pairs: list[Pair], mining: MiningCorpus, checkpoint: Path | None) -> list[Pair]:
        """Negatives of the model in training; the first epoch has those of the base already."""
        if checkpoint is None:
            return pairs
        current = load_model(checkpoint, self.resources.device).state_dict()
        self.model.load_state_dict(current)
        was_training = self.model.training
        try:
            with own_randomness(self.resources.device):
                return self._prepared([replace(pair, negatives=(), scores=()) for pair in pairs], mining)
        finally:
            self.model.train(was_training)

    def _guide(self) -> Any:
        if self.settings.loss != "gist":
            return None
        name = self.settings.guide
        folder = model_folder(name, self.resources) if name else self.folder
        guide = load_model(folder, self.resources.device)
        guide.requires_grad_(False)
        return guide

    def _identity(self, pairs: Sequence[Pair], batch_size: int) -> str:
        """Digest of all that determines the weights; what only chooses among them is left out."""
        settings = self.settings.model_dump(mode="json", exclude={"wise_ft", "report_to", "batch_size"})
        guide = self.settings.guide and fingerprint(model_folder(self.settings.guide, self.resources))
        parts = [settings, batch_size, self.learning_rate, self.precision, list(self.prefixes), guide]
        return digest([*parts, fingerprint(self.folder), VERSION, [asdict(pair) for pair in pairs]])
