"""What an adapter makes a model forget, measured on prompts that have nothing to do with the documents.

The base answers general prompts; then both read these answers. The loss of the adapted model on them, minus that of
the base, is the distance it has moved (in nats a token); the share of tokens it would have written the same says how
much of it a reader notices. Small moves are no harm by themselves; a large one on a task that you need is (Biderman et
al. 2024, "LoRA Learns Less and Forgets Less").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ..core.chat import ChatRequest, LocalChatSettings, Message
from ..core.components import Model, Resources
from ..core.errors import DataError
from ..core.quiet import quiet_libraries
from .model import check_adapter, load_base
from .settings import LoraSettings
from .tokens import Encoded, Encoder

__all__ = ["GENERAL_PROMPTS", "Forgetting", "ForgettingSettings", "general_prompts", "measure_forgetting"]

GENERAL_PROMPTS = (
    "Explain in two sentences why the sky is blue.",
    "Write a polite email that moves a meeting from Monday to Tuesday.",
    "List five fruits, separated by commas.",
    "What is 17 plus 26? Explain each step.",
    "Translate into French: Good morning, where is the station?",
    "Write a Python function that reverses a string.",
    "Summarise in one sentence: The committee met twice and agreed to repair the bridge before winter.",
    "Give three tips for sleeping better.",
    "What is the capital of Japan, and on which island does it lie?",
    "Turn this into a question: The museum opens at nine.",
    "Write a short poem about rain.",
    "Which is heavier, a kilogram of iron or a kilogram of feathers? Why?",
    "Correct the grammar: She don't have no time yesterday.",
    "Describe how to boil an egg.",
    "Is this review positive or negative: The food was cold and the waiter rude.",
    "Continue the story: The door opened, and nobody was there.",
)
"""Everyday tasks without passages, the same for every model."""


class ForgettingSettings(Model):
    """Measures what the adapter forgets. Costs one answer of the base a prompt, and reading it twice."""

    prompts: str | None = None
    """Text file with a prompt a line, for tasks that your model must keep; none takes 16 everyday ones."""
    max_tokens: int = Field(default=48, ge=4)
    """Length of the answers that are compared."""
    warn_above: float = Field(default=0.5, gt=0)
    """A loss that rises by more nats a token than this is warned of."""


class Forgetting(Model):
    """How far an adapter moved a model on general prompts."""

    prompts: int
    """How many were compared; those that the base answers with nothing are left out."""
    base_loss: float
    """Mean loss of the base on a token of its own answers."""
    adapter_loss: float
    """That of the base with the adapter, on the same answers."""
    same_tokens: float
    """Share of these tokens that the adapted model ranks first too."""

    @property
    def rise(self) -> float:
        """What the adapter adds to the loss."""
        return self.adapter_loss - self.base_loss

    def sentence(self) -> str:
        """The result in words."""
        return (
            f"on {self.prompts} general prompts the loss of the base's own answers goes from {self.base_loss:.3f} to "
            f"{self.adapter_loss:.3f} nats a token; {self.same_tokens:.0%} of the tokens stay the model's first choice"
        )


def general_prompts(settings: ForgettingSettings, resources: Resources) -> tuple[str, ...]:
    """The prompts of the settings.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    if settings.prompts is None:
        return GENERAL_PROMPTS
    path = resources.path(settings.prompts)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"forgetting.prompts: {path} cannot be read: {error}") from None
    if not lines:
        raise DataError(f"forgetting.prompts: {path} holds no prompts")
    return tuple(lines)


def measure_forgetting(
    base_folder: Path,
    adapter: Path,
    prompts: Sequence[str],
    settings: ForgettingSettings,
    resources: Resources,
    answers: Sequence[str] | None = None,
) -> Forgetting:
    """Compares base and adapted model on answers to general prompts.

    Args:
        base_folder: The base model.
        adapter: An adapter of it.
        prompts: From `general_prompts`.
        settings: Length of the answers.
        resources: The device.
        answers: What both read, one a prompt; None has the base answer, greedily.

    Raises:
        DataError: The files do not fit, or the base answers no prompt.
    """
    import torch
    from peft import PeftModel

    check_adapter(base_folder, adapter)
    asked = [(Message("user", prompt),) for prompt in prompts]
    if answers is None:
        answers = _base_answers(base_folder, asked, settings, resources)
    encoder = Encoder.from_folder(Path(base_folder))
    rows = [encoder.encode(messages, text) for messages, text in zip(asked, answers, strict=True) if text]
    if not rows:
        raise DataError("forgetting: the base answers none of the general prompts, so nothing can be compared")
    with quiet_libraries(), torch.inference_mode():
        base = load_base(Path(base_folder), LoraSettings(dtype="float32"), resources.device).to(resources.device)
        before = _totals(base, rows, resources.device)
        after = _totals(PeftModel.from_pretrained(base, str(adapter)).eval(), rows, resources.device)
    return Forgetting(
        prompts=len(rows),
        base_loss=before[0] / before[2],
        adapter_loss=after[0] / after[2],
        same_tokens=after[1] / after[2],
    )


def _base_answers(
    base_folder: Path, asked: Sequence[tuple[Message, ...]], settings: ForgettingSettings, resources: Resources
) -> list[str]:
    """Empty where the base writes nothing, or failed."""
    chat = LocalChatSettings(model=str(Path(base_folder).absolute()), dtype="float32").build(resources)
    done = chat.complete([ChatRequest(messages, max_tokens=settings.max_tokens) for messages in asked])
    return [one.text if one.status == "ok" else "" for one in done]


def _totals(model: Any, rows: Sequence[Encoded], device: str) -> tuple[float, int, int]:
    """Summed loss, tokens ranked first, and tokens."""
    import torch

    from .loss import completion_loss

    model.eval()
    loss, right, count = 0.0, 0, 0
    for row in rows:
        inputs = {
            "input_ids": torch.tensor([row.input_ids], device=device),
            "labels": torch.tensor([row.labels], device=device),
        }
        one = completion_loss(model, inputs)
        loss, right, count = loss + float(one[0]), right + one[1], count + one[2]
    return loss, right, count
