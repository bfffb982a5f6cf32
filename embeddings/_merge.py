"""Weights of a finetuned model: mixed with the base's, and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.files import whole_folder
from ..core.quiet import quiet_libraries

__all__ = ["mix", "save_model"]


def mix(model: Any, base: dict[str, Any], best: dict[str, Any], alpha: float) -> None:
    """Gives a model the weights base + alpha (best - base), as WiSE-FT (Wortsman et al. 2022) does.

    Args:
        model: A plain `SentenceTransformer`.
        base: State dict of the base.
        best: Of the finetuned model, under the same names.
        alpha: Share of the finetuned weights.
    """
    import torch

    mixed = {
        name: torch.lerp(value, best[name].to(value.dtype), alpha) if value.is_floating_point() else best[name]
        for name, value in base.items()
    }
    model.load_state_dict(mixed)


def save_model(model: Any, target: Path, card: str) -> None:
    """Writes a model's folder with its card, whole or not at all."""
    with whole_folder(target, "replace") as temporary:
        with quiet_libraries():
            model.save_pretrained(str(temporary), create_model_card=False)
        (temporary / "README.md").write_text(card, encoding="utf-8")
