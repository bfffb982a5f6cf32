"""Preference tuning by TRL, from thumbs up and down or from pairs of answers, on top of an adapter or of the base.

DPO (Rafailov et al. 2023) learns from pairs: of two answers to one prompt, which was liked. KTO (Ethayarajh et al.
2024) learns from single answers with a thumb up or down. Both are held near the model they start from, by `beta`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.cache import digest
from ..core.components import Model, Resources
from ..core.devices import fingerprint
from ..core.distributed import together
from ..core.errors import DataError
from ..core.files import write_atomic
from ..core.progress import Reporter, Task
from ..core.quiet import quiet_libraries
from ._run import resume_point, run_trainer, save_adapter
from .model import add_adapter, check_adapter, check_device, compute_dtype, load_base
from .preference_data import Preference, PreferenceSettings, preference_method
from .settings import LoraSettings
from .tokens import Encoder

__all__ = ["PreferenceResult", "train_preferences"]

VERSION = 1  # part of the checkpoints' name: raised when the same settings give another adapter


class PreferenceResult(Model):
    """A preference-tuned adapter."""

    method: Literal["dpo", "kto"]
    """Which was used."""
    rows: int
    """Preferences trained on."""
    too_long: int
    """Preferences left out because a prompt with an answer exceeds `max_length`."""
    steps: int
    """Updates of the weights."""
    loss: tuple[float, ...]
    """Train loss, in order of step."""
    margin: float | None
    """Mean reward of liked answers minus that of others at the end, in the units of `beta`; above 0 is learnt."""
    notes: tuple[str, ...]
    """What had to be decided, as sentences."""


def train_preferences(
    base_folder: Path,
    adapter: Path | None,
    preferences: Sequence[Preference],
    settings: PreferenceSettings,
    lora: LoraSettings,
    out_dir: Path,
    resources: Resources,
    reporter: Reporter,
) -> PreferenceResult:
    """Tunes an adapter to preferences; started again after a kill it goes on from its last checkpoint.

    There are about four checkpoints an epoch. Several processes (`torchrun`) tune together, as in `train_lora`.

    Args:
        base_folder: The base model; not changed.
        adapter: The adapter to start from, which stays as it is; None starts a new one on the base.
        preferences: Prompts and answers.
        settings: See `PreferenceSettings`.
        lora: Rank and targets of a new adapter, number type, `max_length` and seed.
        out_dir: Gets `adapter/` and `preference.json`, and `checkpoints-…/` while tuning runs.
        resources: The device.
        reporter: Where progress goes.

    Raises:
        DataError: The data does not fit the method, none of it fits the window, or the adapter is of another base.
        StageError: The loss is not a number, or memory ran out.
    """
    check_device(lora, resources.device)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    base, out = Path(base_folder), Path(out_dir)
    job = _prepare(base, adapter, preferences, settings, lora, resources)
    for note in job.notes:
        reporter.line(f"{job.method.upper()}: {note}")
    checkpoints, last = resume_point(out, job.key, job.method.upper(), reporter)
    here = Resources(device=resources.device, env={})  # no credentials between processes
    trainer = together(_run, base, adapter, job, settings, lora, checkpoints, last, here, reporter)
    result = _result(trainer, job)
    save_adapter(trainer.model, out / "adapter", base)
    write_atomic(out / "preference.json", result.model_dump_json(indent=1).encode())
    shutil.rmtree(checkpoints, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Job:
    """Rows as TRL reads them; `key` is of all that determines the adapter."""

    method: Literal["dpo", "kto"]
    tokenizer: Any
    rows: list[dict[str, Any]]
    too_long: int
    notes: tuple[str, ...]
    key: str


def _prepare(
    base: Path,
    adapter: Path | None,
    preferences: Sequence[Preference],
    settings: PreferenceSettings,
    lora: LoraSettings,
    resources: Resources,
) -> _Job:
    method = preference_method(preferences, settings.method)
    encoder = Encoder.from_folder(base)
    rows, too_long = _rows(encoder, preferences, method, encoder.limit(lora.max_length))
    if not rows:
        raise DataError(f"preference tuning: no preference fits {encoder.limit_words(lora.max_length)}")
    if adapter is not None:
        check_adapter(base, adapter)
    notes = (*encoder.notes, *((f"{too_long} preferences exceed max_length and are left out",) if too_long else ()))
    key = digest(
        {
            "version": VERSION,
            "base": fingerprint(base),
            "adapter": None if adapter is None else fingerprint(adapter),
            "settings": settings.model_dump(mode="json", exclude={"data"}),
            "lora": lora.model_dump(mode="json"),
            "dtype": compute_dtype(lora, resources.device),
            "rows": rows,
        }
    )
    return _Job(method, encoder.tokenizer, rows, too_long, notes, key)


def _run(
    base: Path,
    adapter: Path | None,
    job: _Job,
    settings: PreferenceSettings,
    lora: LoraSettings,
    checkpoints: Path,
    last: Path | None,
    resources: Resources,
    reporter: Reporter,
) -> Any:
    """Tunes, from the last whole checkpoint where there is one."""
    from ._preference_trainer import Watcher, build_trainer

    def build() -> Any:
        model = _model(base, adapter, lora, resources)
        return build_trainer(job.method, model, job.tokenizer, job.rows, settings, lora, checkpoints, resources)

    def watch(trainer: Any, task: Task, _: Reporter) -> None:
        trainer.add_callback(Watcher(task))

    return run_trainer(build, watch, job.method.upper(), checkpoints, last, resources.device, reporter)


def _result(trainer: Any, job: _Job) -> PreferenceResult:
    log = trainer.state.log_history
    margins = [entry["rewards/margins"] for entry in log if "rewards/margins" in entry]
    return PreferenceResult(
        method=job.method,
        rows=len(job.rows),
        too_long=job.too_long,
        steps=trainer.state.global_step,
        loss=tuple(entry["loss"] for entry in log if "loss" in entry),
        margin=margins[-1] if margins else None,
        notes=job.notes,
    )


def _model(base: Path, adapter: Path | None, lora: LoraSettings, resources: Resources) -> Any:
    from peft import PeftModel

    if adapter is None:
        return add_adapter(load_base(base, lora, resources.device), lora)
    with quiet_libraries():
        return PeftModel.from_pretrained(load_base(base, lora, resources.device), str(adapter), is_trainable=True)


def _rows(
    encoder: Encoder, preferences: Sequence[Preference], method: str, most: int
) -> tuple[list[dict[str, Any]], int]:
    """Rows as TRL reads them, and how many are too long: messages where the model has a chat template, else text."""
    chat, rows, too_long = bool(encoder.tokenizer.chat_template), [], 0
    for one in preferences:
        answers = [text for text in (one.chosen, one.rejected) if text is not None]
        if any(len(encoder.encode(one.messages, text).input_ids) > most for text in answers):
            too_long += 1
            continue
        turns = [{"role": message.role, "content": message.content} for message in one.messages]
        prompt: Any = turns if chat else "\n\n".join(message.content for message in one.messages)

        def said(text: str) -> Any:
            return [{"role": "assistant", "content": text.strip()}] if chat else " " + text.strip()

        if method == "dpo":
            rows.append({"prompt": prompt, "chosen": said(one.chosen or ""), "rejected": said(one.rejected or "")})
        else:
            sides = ((one.chosen, True), (one.rejected, False))
            rows += [{"prompt": prompt, "completion": said(t), "label": up} for t, up in sides if t is not None]
    return rows, too_long
