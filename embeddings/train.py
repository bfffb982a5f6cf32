"""Finetunes an embedding model on training pairs with a contrastive loss, and keeps what is best on dev.

Candidates are the untrained base, the best epoch, and mixtures of both (WiSE-FT, Wortsman et al. 2022): a training that
does not pay ends with the base.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..core.components import Resources
from ..core.distributed import world_size
from ..core.errors import ConfigError, DataError
from ..core.files import write_atomic
from ..core.progress import Reporter
from ._card import model_card
from ._choice import Choice, GeneralCheck, choose
from ._embedder import Role
from ._loggers import made_loggers
from ._memory import peak_memory_mb, reset_peak
from ._merge import save_model
from ._ready import own_randomness
from ._result import HistoryRow, TrainResult
from ._run import Fitted, Run
from .encode import SentenceTransformerSettings
from .losses import check_pairs, usable
from .mine import MiningCorpus
from .models import model_folder
from .pairs import Pair
from .train_settings import EmbedTrainSettings, EncoderLoraSettings

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
        checkpoints: Where to keep checkpoints, for the caller to remove once the result is safe; None keeps them in
            `out_dir/checkpoints` until the training is done.
        general: On what forgetting is measured.
        on_epoch: Told of each epoch and its dev score, those before a kill too; what it raises ends the training.

    Raises:
        ConfigError: The settings do not fit the model or the device.
        DataError: There is no such model, or the loss cannot learn from the pairs.
        StageError: The loss or a dev score is not a finite number, or two pairs do not fit into memory.
    """
    _check_start(pairs, settings, resources.device)
    started = time.monotonic()
    reporter = reporter or Reporter(quiet=True)
    folder = model_folder(str(base_folder), resources)
    serving = (embedder or SentenceTransformerSettings()).on_torch().model_copy(update={"model": str(folder)})
    out_dir, own = Path(out_dir), Path(out_dir) / "checkpoints"
    with own_randomness(resources.device):
        run = Run(folder, serving, settings, dev_evaluator, resources, reporter, on_epoch)
        result = _trained(run, pairs, mining, general, out_dir / "model", checkpoints or own)
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
    write_atomic(out_dir / "training.json", result.model_dump_json(indent=1).encode())
    shutil.rmtree(own, ignore_errors=True)
    return result


def _check_start(pairs: Sequence[Pair], settings: EmbedTrainSettings, device: str) -> None:
    """What can be told before a model is loaded."""
    if not settings.hard_negatives:
        check_pairs(pairs, settings)
    elif len(pairs) < 2:
        raise DataError(f"train embedder: {len(pairs)} training pairs; a contrastive loss needs two at the least")
    _check_processes(device, settings.batch_size, len(pairs))
    made_loggers(settings.report_to, Path())  # now, not after the mining
    if device.startswith("cuda:") and device != "cuda:0":
        raise ConfigError(f"training runs on the first GPU, not on {device}; set CUDA_VISIBLE_DEVICES and use cuda")


def _check_processes(device: str, batch_size: int | str, pairs: int) -> None:
    """Refuses processes of torchrun that cannot share this training out."""
    count = world_size()
    if count == 1:
        return
    if device not in ("cpu", "cuda", "cuda:0"):
        raise ConfigError(f"train embedder: several processes train on GPUs or CPUs, not on {device}")
    if isinstance(batch_size, int) and batch_size % count:
        raise ConfigError(
            f"train embedder: batch_size {batch_size} cannot be shared out among {count} processes; take a multiple "
            f"of {count}"
        )
    if pairs < 2 * count:
        raise ConfigError(
            f"train embedder: {pairs} pairs are too few for {count} processes, which need two each; start it plainly"
        )


def _trained(
    run: Run,
    pairs: Sequence[Pair],
    mining: MiningCorpus | None,
    general: GeneralCheck | None,
    target: Path,
    checkpoints: Path,
) -> TrainResult:
    """All of it, from the base's score to the saved model."""
    reset_peak(run.resources.device)
    base_score = run.score()
    several = f", {world_size()} processes" if world_size() > 1 else ""
    run.reporter.line(f"train embedder: {len(pairs)} pairs, {run.precision}{several}; untrained base {base_score:.4f}")
    given = run.prepared(pairs, mining)
    used = usable(given, run.settings)
    if len(used) < len(given):
        run.reporter.line(
            f"train embedder: {len(given) - len(used)} pairs have no negative, so {run.settings.loss} learns nothing "
            "from them"
        )
    fitted = run.fitted(used, mining, checkpoints)
    best, ends = run.best_weights(fitted), (base_score, fitted.progress.best_score)
    choice = choose(run, best, ends, general)
    result = _result(run, given, used, fitted, choice, target)
    # So that the folder by itself encodes as it was scored.
    for name, prefix in zip(("query", "document"), run.prefixes, strict=True):
        if prefix:
            run.model.prompts[name] = prefix
    save_model(run.model, target, model_card(run.folder.name, run.settings, result))
    run.reporter.line(f"train embedder: dev {base_score:.4f} -> {result.best_score:.4f}; kept {result.kept()}")
    return result


def _result(
    run: Run, given: Sequence[Pair], used: Sequence[Pair], fitted: Fitted, choice: Choice, target: Path
) -> TrainResult:
    progress = fitted.progress
    rows = tuple(HistoryRow(step=s, epoch=e, loss=loss, dev=dev) for s, e, loss, dev in progress.rows)
    return TrainResult(
        folder=str(target),
        base_score=choice.candidates[0.0],
        best_score=choice.score,
        alpha=choice.alpha,
        candidates=tuple(sorted(choice.candidates.items())),
        best_epoch=next(round(row.epoch) for row in rows if row.step == progress.best_step),
        stopped_early=progress.stopped,
        history=rows,
        seconds=0.0,
        pairs=len(used),
        with_negatives=sum(bool(pair.negatives) for pair in used),
        precision=run.precision,
        trained_parameters=fitted.trained_parameters,
        unused=len(given) - len(used),
        batch_size=fitted.batch_size,
        learning_rate=run.learning_rate,
        peak_memory_mb=peak_memory_mb(run.resources.device),
        general=tuple(choice.general.items()),
        max_loss=choice.max_loss,
        max_share=run.settings.max_share,
        processes=world_size(),
    )
