"""What users liked and did not: thumbs up and down, or pairs of answers, read from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..core.chat.types import Message
from ..core.components import Model
from ..core.errors import DataError
from .examples import normalise

__all__ = ["Preference", "PreferenceRow", "PreferenceSettings", "load_preferences", "preference_method"]


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


def load_preferences(path: Path, held_out: Sequence[str] = ()) -> list[PreferenceRow]:
    """Reads preferences.

    Args:
        path: A JSONL file; see `PreferenceSettings.data`.
        held_out: Texts of the dev and test questions, none of which may be trained on.

    Raises:
        DataError: The file cannot be read, holds no rows, or rows that cannot be used (all are listed).
    """
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
