"""The training loop: sentence-transformers' trainer, on one device or on one of several processes.

Several processes (see core/distributed.py) share out each batch of the config: each computes its part, negatives and
gradients are exchanged, and the step is the one that a single device makes of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.distributed import hold_to_config, local_rank, together, world_size
from ..core.errors import StageError
from ..core.memory import out_of_memory
from ..core.quiet import quiet_libraries
from ._loggers import made_loggers
from ._ready import make_trainable, own_randomness, reading, separate_columns, training_length
from ._trial import Batches, Recipe, Trial
from ._watch import Follower, Parted, Watch, Watcher, everywhere
from .losses import LABEL, build_loss, training_rows
from .models import load_model
from .pairs import Pair
from .train_settings import IN_BATCH

__all__ = ["Leg", "Setup", "TooLarge", "fit"]


class TooLarge(Exception):
    """A batch does not fit into the memory of one of several processes; nothing was trained."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What stays the same through a training.

    Attributes:
        recipe: What determines a step.
        batch_size: Pairs a step of all processes together; resolved.
        learning_rate: Resolved.
        folder: Of the checkpoints.
        logs: Where loggers that write files put them.
    """

    recipe: Recipe
    batch_size: int
    learning_rate: float
    folder: Path
    logs: Path


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of a training: all of it, or an epoch where negatives are mined again after each.

    Attributes:
        pairs: Usable ones.
        checkpoint: Where to go on from; None starts with the model as it is.
        until: Pauses after this epoch; None trains to the end.
    """

    pairs: list[Pair]
    checkpoint: Path | None = None
    until: int | None = None


class _LeadersOwn:
    """Model and watch of the leader; on its way to a helper it becomes empty, as each has its own."""

    def __init__(self, model: Any = None, watch: Watch | None = None) -> None:
        self.model, self.watch = model, watch

    def __reduce__(self) -> Any:
        return (_LeadersOwn, ())


def fit(model: Any, setup: Setup, leg: Leg, watch: Watch) -> None:
    """Trains a model in place, together with the other processes where there are several.

    Args:
        model: A `SentenceTransformer` that was made trainable.
        setup: How to train.
        leg: On what, from where, up to where.
        watch: Notes losses, scores dev, marks checkpoints.

    Raises:
        StageError: The loss is not a finite number, or one of several processes ran out of memory in mid-training.
        TooLarge: The batch does not fit into the memory of one of several processes.
        ConfigError: A logger is unknown or not installed.
    """
    watch.until, watch.folder = leg.until, setup.folder
    loggers = made_loggers(setup.recipe.settings.report_to, setup.logs)
    with watch.shown("train embedder", "steps", loggers):
        together(_fit, setup, leg, _LeadersOwn(model, watch))


def _fit(setup: Setup, leg: Leg, own: _LeadersOwn) -> None:
    """What every process does of a fit."""
    model, watch, recipe = own.model, own.watch or Follower(), setup.recipe
    if model is None:
        # Where to, the trainer knows: each process has a device of its own.
        model = load_model(recipe.base)
        make_trainable(model, recipe.settings)
    with quiet_libraries(), reading(model, training_length(model, recipe.settings)), separate_columns():
        if not _fits_everywhere(model, setup, leg):
            if own.model is None:
                return  # the leader says so
            raise TooLarge
        trainer = _trainer(model, setup, leg, watch)
        try:
            trainer.train(resume_from_checkpoint=str(leg.checkpoint) if leg.checkpoint else None)
        except Parted:
            return
        except RuntimeError as error:
            if world_size() == 1 or not out_of_memory(error):
                raise
            raise _out_in_the_middle(setup) from error


def _fits_everywhere(model: Any, setup: Setup, leg: Leg) -> bool:
    """Whether each of several processes has the memory for its part of a batch of the longest texts.

    Found out before the first step: one that runs out later leaves the others waiting for its gradients.
    """
    count = world_size()
    if count == 1:
        return True  # the training itself tells
    recipe = replace(setup.recipe, device=_own_device(setup.recipe.device))
    with own_randomness(recipe.device):
        trial = Trial(recipe, model.to(recipe.device))
        fits = trial.fits(Batches(leg.pairs, recipe.settings).longest(setup.batch_size // count))
    return everywhere(fits)


def _own_device(device: str) -> str:
    """The device of this process: each of several has a GPU of its own."""
    return f"cuda:{local_rank()}" if device.startswith("cuda") and world_size() > 1 else device


def _out_in_the_middle(setup: Setup) -> StageError:
    count = world_size()
    return StageError(
        f"train embedder: out of memory with {setup.batch_size} pairs a step on {count} devices; lower batch_size "
        f"(a multiple of {count}) or max_length, or set mini_batch_size or gradient_checkpointing"
    )


class _Shares:
    """Batches cut into equal parts, which accelerate deals out to the processes in turn.

    What a batch has beyond a multiple of the processes is left out: fewer pairs than there are processes, in the last
    batch of an epoch. accelerate's own splitting drops whole batches that are not full, or repeats texts in them.
    """

    drop_last = False

    def __init__(self, whole: Any, count: int) -> None:
        self.sampler = whole  # under this name accelerate finds what to tell of a new epoch
        self._count = count

    def __len__(self) -> int:
        return self._count * len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.sampler:
            size = len(batch) // self._count
            for place in range(self._count if size else 0):
                yield batch[place * size : (place + 1) * size]


def _trainer(model: Any, setup: Setup, leg: Leg, watch: Watcher) -> Any:
    from sentence_transformers import SentenceTransformerTrainer
    from transformers import PrinterCallback

    count = world_size()

    class Trainer(SentenceTransformerTrainer):
        last_loss: Any = None

        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """Ours is written by `train_embedder`."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            found: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            self.last_loss = (found[0] if return_outputs else found).detach()
            return found

        def get_batch_sampler(
            self,
            dataset: Any,
            batch_size: int,
            drop_last: bool,
            valid_label_columns: list[str] | None = None,
            generator: Any = None,
            seed: int = 0,
        ) -> Any:
            whole = super().get_batch_sampler(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
            return whole if count == 1 or several else _Shares(whole, count)

        def get_multi_dataset_batch_sampler(
            self, dataset: Any, batch_samplers: list[Any], generator: Any = None, seed: int | None = 0
        ) -> Any:
            whole = super().get_multi_dataset_batch_sampler(dataset, batch_samplers, generator, seed)
            return whole if count == 1 else _Shares(whole, count)

    recipe = setup.recipe
    rows = training_rows(leg.pairs, recipe.settings)
    several = len(rows) > 1
    columns = sorted({name for dataset in rows.values() for name in dataset.column_names} - {LABEL})
    guide = load_model(recipe.guide, _own_device(recipe.device)).requires_grad_(False) if recipe.guide else None
    trainer = Trainer(
        model=model,
        args=_arguments(setup, columns),
        train_dataset=dict(rows) if several else next(iter(rows.values())),
        loss=build_loss(model, recipe.settings, guide, gather=count > 1),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_callback(trainer, watch, setup.folder))
    for logger in watch.loggers:
        trainer.add_callback(logger)
    return trainer


def _arguments(setup: Setup, columns: list[str]) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    recipe, settings = setup.recipe, setup.recipe.settings
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(setup.folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=setup.batch_size,
        learning_rate=setup.learning_rate,
        warmup_steps=settings.warmup_ratio,
        bf16=recipe.precision == "bf16",
        use_cpu=recipe.device == "cpu",
        # Rows of other losses share queries on purpose.
        batch_sampler=BatchSamplers.NO_DUPLICATES if settings.loss in IN_BATCH else BatchSamplers.BATCH_SAMPLER,
        prompts={name: recipe.prefixes[0 if name == "anchor" else 1] for name in columns},
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="epoch",
        # Losses are noted by the watch; the trainer's own notes are for its loggers.
        logging_strategy="steps" if settings.report_to else "no",
        logging_steps=10,
        logging_first_step=True,
        # Otherwise a NaN would be logged as 0 and trained on.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=recipe.device != "cpu",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
    )
    hold_to_config(arguments, recipe.precision == "bf16")
    return arguments


def _callback(trainer: Any, watch: Watcher, folder: Path) -> Any:
    """Passes the trainer's events on."""
    from transformers import TrainerCallback

    class Events(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.begun(state.max_steps, state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.stepped(state.global_step, state.epoch, trainer.last_loss)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if watch.epoch_ended(state.epoch, state.global_step):
                control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.saved(folder / f"checkpoint-{state.global_step}")

    return Events()
