"""One training of an embedding model, from the base's score to the best weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..core.cache import digest
from ..core.components import Resources
from ..core.devices import fingerprint
from ..core.distributed import world_size
from ..core.errors import ConfigError, StageError
from ..core.files import write_atomic
from ..core.memory import out_of_memory
from ..core.progress import Reporter
from ._checkpoints import Progress, latest, remove_stale
from ._embedder import SentenceTransformerEmbedder
from ._lora import merged_weights
from ._ready import is_static, make_trainable, own_randomness, reading, resolve_precision
from ._trainer import Leg, Setup, TooLarge, fit
from ._trial import Batches, Recipe, auto_batch_size
from ._watch import Watch
from .encode import SentenceTransformerSettings
from .losses import check_pairs, teach
from .mine import MiningCorpus, fill_up, mine_negatives
from .models import load_cross_encoder, load_model, model_folder
from .pairs import Pair
from .train_settings import DISTILLATION, EmbedTrainSettings

__all__ = ["Fitted", "Run"]

VERSION = 2
"""Raised when the same settings give another model."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """How a training went.

    Attributes:
        progress: Losses and dev scores.
        folder: Of its checkpoints.
        batch_size: Pairs a step, after `auto` and after halving for memory.
        trained_parameters: Weights that were free to change.
    """

    progress: Progress
    folder: Path
    batch_size: int
    trained_parameters: int


class Run:
    """The model in training, and how it is scored."""

    def __init__(
        self,
        folder: Path,
        serving: SentenceTransformerSettings,
        settings: EmbedTrainSettings,
        evaluate: Callable[[Any], float],
        resources: Resources,
        reporter: Reporter,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> None:
        """Loads the base.

        Args:
            folder: Of the base model.
            serving: How the model encodes when it is used.
            settings: How to train.
            evaluate: Dev score of an `encode`.
            resources: The device.
            reporter: Where progress goes.
            on_epoch: Told of each epoch and its dev score.

        Raises:
            DataError: The model does not load, or gives no text vectors.
            ConfigError: The device does not compute in the precision asked for.
        """
        self.folder, self.settings, self.resources, self.reporter = folder, settings, resources, reporter
        self._evaluate, self._serving, self._on_epoch = evaluate, serving, on_epoch
        self.embedder: SentenceTransformerEmbedder = serving.build(resources)
        self.model = self.embedder.model
        if self.embedder.note:
            reporter.line(f"note: {self.embedder.note}")
        self.learning_rate = settings.resolved_learning_rate(is_static(self.model))
        self.precision: Literal["bf16", "fp32"] = resolve_precision(settings.dtype, resources.device)
        self.prefixes = (self.embedder.prefix("query"), self.embedder.prefix("document"))
        self._length = self.model.max_seq_length
        self.base = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def score(self, evaluate: Callable[[Any], float] | None = None) -> float:
        """Dev (or another) score of the model as it is, encoding as it will when it is used.

        Raises:
            StageError: It is no finite number.
        """
        was_training = self.model.training
        try:
            with own_randomness(self.resources.device), reading(self.model, self._length):
                value = float((evaluate or self._evaluate)(self.embedder.encode))
        finally:
            self.model.train(was_training)
        if not math.isfinite(value):
            raise StageError(f"train embedder: the dev evaluation gave {value}; it must give a finite number")
        return value

    def prepared(self, pairs: Sequence[Pair], mining: MiningCorpus | None) -> list[Pair]:
        """Pairs with their mined negatives and their teacher's scores, checked.

        Raises:
            ConfigError: Negatives are to be mined, but there is nothing to mine from.
            DataError: The loss cannot learn from the pairs.
        """
        found = list(pairs)
        if self.settings.hard_negatives is not None:
            if mining is None:
                raise ConfigError("hard_negatives is set, but no candidates were given to mine them from")
            found = self._mined(found, mining)
        if self.settings.loss in DISTILLATION and self.settings.teacher is not None:
            self.reporter.line(f"train embedder: {self.settings.teacher} scores {len(found)} pairs and their negatives")
            found = teach(found, load_cross_encoder(self.settings.teacher, self.resources))
        check_pairs(found, self.settings)
        return found

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

    def fitted(self, pairs: list[Pair], mining: MiningCorpus | None, checkpoints: Path) -> Fitted:
        """Trains with the batch size asked for, or with the largest half of it that fits into memory.

        Raises:
            StageError: The loss is not a finite number, or two pairs do not fit.
            ConfigError: The settings do not fit the model.
        """
        count, batch_size, folder = world_size(), self._first_batch_size(pairs, checkpoints), checkpoints
        while True:
            try:
                return self._fit(pairs, mining, batch_size, folder)
            except (RuntimeError, TooLarge) as error:
                if not isinstance(error, TooLarge) and not out_of_memory(error):
                    raise
                if batch_size < 4 or batch_size == count:
                    each = f" on {count} devices" if count > 1 else ""
                    raise StageError(
                        f"train embedder: out of memory with {batch_size} pairs a step{each}; lower max_length (now "
                        f"{self.settings.max_length}), or set mini_batch_size or gradient_checkpointing"
                    ) from error
            batch_size = max(batch_size // 2 // count, 1) * count
            self.reporter.line(f"train embedder: out of memory; starting again with batch_size {batch_size}")
            # A folder of its own, so that a resumed training finds the checkpoints of the size that fits.
            folder = checkpoints / f"batch-{batch_size}"
            self._renew()

    def _first_batch_size(self, pairs: list[Pair], checkpoints: Path) -> int:
        """As asked for; what `auto` came to is kept, as a training that was killed may find less memory free."""
        asked = self.settings.batch_size
        if asked != "auto":
            return asked
        note, training = checkpoints / "batch_size.json", self._identity(pairs, 0)
        known = json.loads(note.read_text()) if note.is_file() else {}
        if known.get("training") == training:
            return int(known["size"])
        size = auto_batch_size(self._recipe, Batches(pairs, self.settings))
        self.reporter.line(f"train embedder: batch_size auto is {size} here")
        write_atomic(note, json.dumps({"training": training, "size": size}).encode())
        return size

    def _fit(self, pairs: list[Pair], mining: MiningCorpus | None, batch_size: int, folder: Path) -> Fitted:
        trained = make_trainable(self.model, self.settings)
        logs = folder.parent / f"{folder.name}-logs"
        setup = Setup(self._recipe, batch_size, self.learning_rate, folder, logs)
        identity = self._identity(pairs, batch_size)
        checkpoint, progress = self._resumed(folder, identity)
        watch = Watch(self.settings, self.learning_rate, progress, self.score, self.reporter, self._on_epoch)
        hard = self.settings.hard_negatives
        again = mining if hard is not None and hard.remine else None
        while progress.epochs() < self.settings.epochs and not progress.stopped:
            done = progress.epochs()
            if again is not None and checkpoint is not None and done:
                pairs = self._mined_again(pairs, again, checkpoint)
            fit(self.model, setup, Leg(pairs, checkpoint, None if again is None else done + 1), watch)
            checkpoint, _ = latest(folder, identity)
        return Fitted(progress, folder, batch_size, trained)

    @property
    def _recipe(self) -> Recipe:
        return Recipe(self.folder, self._guide, self.settings, self.precision, self.prefixes, self.resources.device)

    @cached_property
    def _guide(self) -> Path | None:
        """The guide of gist: as named, else the untrained base."""
        if self.settings.loss != "gist":
            return None
        return model_folder(self.settings.guide, self.resources) if self.settings.guide else self.folder

    def _identity(self, pairs: Sequence[Pair], batch_size: int) -> str:
        """Digest of all that determines the weights; what only chooses among them is left out."""
        settings = self.settings.model_dump(mode="json", exclude={"wise_ft", "max_share", "report_to", "batch_size"})
        guide = self.settings.guide and self._guide and fingerprint(self._guide)
        parts = [settings, batch_size, self.learning_rate, self.precision, list(self.prefixes), guide]
        if world_size() > 1:
            parts.append(world_size())  # their random states are in the checkpoint
        return digest([*parts, fingerprint(self.folder), VERSION, [asdict(pair) for pair in pairs]])

    def _resumed(self, folder: Path, identity: str) -> tuple[Path | None, Progress]:
        """Where an earlier, killed call was; what is of no use any more is removed."""
        checkpoint, progress = latest(folder, identity)
        removed = remove_stale(folder, progress, checkpoint)
        if removed:
            self.reporter.line(f"train embedder: removed {removed} checkpoints, unfinished or of another training")
        if self._on_epoch:
            for epoch, value in enumerate((row[3] for row in progress.rows if row[3] is not None), 1):
                self._on_epoch(epoch, value)
        if checkpoint:
            self.reporter.line(f"train embedder: going on after epoch {progress.epochs()}")
        return checkpoint, progress

    def _mined_again(self, pairs: list[Pair], mining: MiningCorpus, checkpoint: Path) -> list[Pair]:
        """Negatives of the model in training."""
        current = load_model(checkpoint, self.resources.device).state_dict()
        self.model.load_state_dict(current)
        was_training = self.model.training
        try:
            with own_randomness(self.resources.device):
                return self.prepared([replace(pair, negatives=(), scores=()) for pair in pairs], mining)
        finally:
            self.model.train(was_training)

    def best_weights(self, fitted: Fitted) -> dict[str, Any]:
        """Weights of the best epoch, in the names of the base; the model is plain afterwards."""
        trained = load_model(fitted.folder / f"checkpoint-{fitted.progress.best_step}")
        if self.settings.method != "lora":
            return trained.state_dict()
        self._renew()
        return merged_weights(self.base, trained)

    def _renew(self) -> None:
        """A fresh base: adapters and frozen layers are gone."""
        self.embedder = self._serving.build(self.resources)
        self.model = self.embedder.model
