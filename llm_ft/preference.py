"""Preference tuning by TRL, from thumbs up and down or from pairs of answers, on top of an adapter or of the base.

DPO (Rafailov et al. 2023) learns from pairs: of two answers to one prompt, which was liked. KTO (Ethayarajh et al.
2024) learns from single answers with a thumb up or down. Both are held near the model they start from, by `beta`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..core.cache import digest, write_atomic
from ..core.chat.types import Message
from ..core.components import Model, Resources
from ..core.devices import fingerprint
from ..core.distributed import is_main, together
from ..core.errors import DataError
from ..core.progress import Reporter
from ..core.quiet import quiet_libraries
from .model import add_adapter, check_adapter, check_device, compute_dtype, load_base
from .settings import LoraSettings
from .tokens import Encoder
from .train import last_checkpoint, memory_errors, save_adapter

__all__ = [
    "Preference",
    "PreferenceResult",
    "PreferenceSettings",
    "PreferenceRow",
    "load_preferences",
    "preference_method",
    "train_preferences",
]

VERSION = 1  # part of the checkpoints' name: raised when the same settings give another adapter


class PreferenceSettings(Model):
    """Preference tuning after LoRA training, from what users liked. Costs one more training."""

    data: str = Field(min_length=1)
    """JSONL, one of two forms: `{"question", "chosen", "rejected"}` for pairs, or `{"question", "answer", "liked"}`
    with true or false for thumbs. A question of dev or test is refused."""
    method: Literal["auto", "dpo", "kto"] = "auto"
    """`dpo` needs pairs, `kto` takes thumbs (and pairs, as a thumb up and one down); `auto` goes by the data."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held near the one it starts from; lower follows the preferences more closely, and
    forgets more."""
    learning_rate: float = Field(default=5e-6, gt=0, lt=1)
    """Peak rate: far below that of LoRA training, or the answers fall apart. Small models take more."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data."""
    batch_size: int = Field(default=4, ge=2)
    """Rows in one forward pass; KTO compares the rows of a batch, so larger is steadier."""


class PreferenceRow(Model):
    """One line of the data."""

    question: str = Field(min_length=1)
    """What was asked."""
    chosen: str | None = None
    """The answer that was liked."""
    rejected: str | None = None
    """The answer that was not."""


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with an answer that was liked, one that was not, or both."""

    messages: tuple[Message, ...]
    chosen: str | None
    rejected: str | None


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


def load_preferences(path: Path, held_out: Sequence[str] = ()) -> list[PreferenceRow]:
    """Reads preferences.

    Args:
        path: A JSONL file; see `PreferenceSettings.data`.
        held_out: Texts of the dev and test questions, none of which may be trained on.

    Raises:
        DataError: The file cannot be read, holds no rows, or rows that cannot be used (all are listed).
    """
    from .examples import normalise

    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"preference.data: {path} cannot be read: {error}") from None
    held = {normalise(text) for text in held_out}
    rows, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _row(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if normalise(row.question) in held:
            problems.append(f"{path}:{number}: '{row.question}' is a question of the dev or test split")
        rows.append(row)
    if problems:
        raise DataError("preferences that cannot be used:\n  " + "\n  ".join(problems[:20]))
    if not rows:
        raise DataError(f"preference.data: {path} holds no preferences")
    return rows


def _row(data: Any) -> PreferenceRow:
    if not isinstance(data, dict) or not str(data.get("question") or "").strip():
        raise ValueError("it has no question")
    keys = set(data) - {"question"}
    if keys == {"chosen", "rejected"} and all(str(data[k] or "").strip() for k in keys):
        if data["chosen"] == data["rejected"]:
            raise ValueError("chosen and rejected are the same")
        return PreferenceRow(question=data["question"], chosen=data["chosen"], rejected=data["rejected"])
    if keys == {"answer", "liked"} and str(data["answer"] or "").strip() and isinstance(data["liked"], bool):
        side = "chosen" if data["liked"] else "rejected"
        return PreferenceRow.model_validate({"question": data["question"], side: data["answer"]})
    raise ValueError('needs "chosen" and "rejected", or "answer" and "liked" (true or false), beside "question"')


def preference_method(rows: Sequence[PreferenceRow] | Sequence[Preference], wanted: str) -> Literal["dpo", "kto"]:
    """Which method the data is for.

    Raises:
        DataError: DPO is asked for without pairs, or all thumbs point the same way.
    """
    pairs = all(row.chosen is not None and row.rejected is not None for row in rows)
    if wanted == "dpo" and not pairs:
        raise DataError("preference.method: dpo needs a chosen and a rejected answer in every row; use kto for thumbs")
    if wanted == "dpo" or (wanted == "auto" and pairs):
        return "dpo"
    for side in ("chosen", "rejected"):
        if not any(getattr(row, side) is not None for row in rows):
            missing = "up" if side == "chosen" else "down"
            raise DataError(f"preference.data: no thumb points {missing}: KTO learns from both kinds")
    return "kto"


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
        reporter.line(f"{job.method}: {note}")
    checkpoints = out / f"checkpoints-{job.key[:12]}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    last = last_checkpoint(checkpoints)
    if last is not None:
        reporter.line(f"{job.method}: tuning goes on from {last.name}")
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

    reporter = reporter if is_main() else Reporter(quiet=True)
    model = _model(base, adapter, lora, resources)
    steps = -(-len(job.rows) // settings.batch_size) * settings.epochs
    with quiet_libraries(), memory_errors(resources.device), reporter.task(job.method.upper(), steps, "steps") as task:
        trainer = build_trainer(job.method, model, job.tokenizer, job.rows, settings, lora, checkpoints, resources)
        trainer.add_callback(Watcher(task))
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return trainer


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
