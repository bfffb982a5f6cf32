"""A model made ready for training: precision, frozen layers, adapters, how many tokens it reads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

from ..core.errors import ConfigError
from ._lora import attach_lora
from .models import position_limit
from .train_settings import EmbedTrainSettings

__all__ = [
    "is_static",
    "make_trainable",
    "own_randomness",
    "reading",
    "resolve_precision",
    "separate_columns",
    "training_length",
]


def resolve_precision(dtype: str, device: str) -> Literal["bf16", "fp32"]:
    """`auto` becomes bf16 where the device computes in it, else fp32.

    Raises:
        ConfigError: bf16 is asked for on a GPU that lacks it.
    """
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if dtype == "bf16" and not able:
            raise ConfigError("dtype bf16: this GPU does not compute in bfloat16; use dtype: auto or fp32")
    elif kind == "cpu":
        # Without these instructions bf16 is emulated, and slower than fp32.
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        able = any(bool(features.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        able = False
    return "bf16" if dtype == "bf16" or (dtype == "auto" and able) else "fp32"


def is_static(model: Any) -> bool:
    """Whether a `SentenceTransformer` has no transformer: a table of token vectors, which reads texts whole."""
    return model.transformers_model is None


def make_trainable(model: Any, settings: EmbedTrainSettings) -> int:
    """Puts adapters on where they are asked for, and freezes the lower layers.

    Args:
        model: A fresh `SentenceTransformer`.
        settings: How it is trained.

    Returns:
        How many weights are free to change.

    Raises:
        ConfigError: The settings do not fit the model.
    """
    if settings.method == "lora":
        attach_lora(model, settings.lora)
    layers = settings.freeze_layers
    _freeze_lower(model, 0 if is_static(model) and layers == "half" else layers)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _freeze_lower(model: Any, layers: int | Literal["half"]) -> None:
    """Stops the token embeddings and the lowest layers from being trained; 0 freezes nothing."""
    if layers == 0:
        return
    import torch

    transformer = model.transformers_model
    modules = [] if transformer is None else list(transformer.modules())
    stack = max((m for m in modules if isinstance(m, torch.nn.ModuleList)), key=len, default=None)
    if stack is not None and layers == "half":
        layers = len(stack) // 2
    if transformer is None or stack is None or layers == "half" or len(stack) < layers:
        there = "no layers that can be told apart" if stack is None else f"{len(stack)} layers"
        raise ConfigError(f"freeze_layers is {layers}, but the model has {there}")
    embeddings = getattr(transformer, "embeddings", None) or transformer.get_input_embeddings()
    for module in [embeddings, *list(stack)[:layers]]:
        module.requires_grad_(False)
    # A pooler is read by nothing here.
    if not any(weights.requires_grad for name, weights in model.named_parameters() if "pooler" not in name):
        raise ConfigError(
            f"freeze_layers is {layers}, and the model has {len(stack)} layers, so nothing is left to train; lower it"
        )


def training_length(model: Any, settings: EmbedTrainSettings) -> int | None:
    """Tokens of a text that are read in training: as set, the model's limit where that is less."""
    if settings.max_length is None:
        return None if is_static(model) else model.max_seq_length
    limit = position_limit(model)
    return settings.max_length if limit is None else min(settings.max_length, limit)


@contextmanager
def reading(model: Any, tokens: int | None) -> Iterator[None]:
    """Inside the block the model reads so many tokens of a text; a static model reads all, and has no such setting."""
    if is_static(model):
        yield
        return
    before = model.max_seq_length
    model.max_seq_length = tokens
    try:
        yield
    finally:
        model.max_seq_length = before


def separate_columns() -> Any:
    """Keeps short queries from being padded to the length of chunks (new releases join both into one forward pass)."""
    try:
        from sentence_transformers.base.losses.merged_forward import column_merging_disabled
    except ImportError:  # older releases never join them
        return nullcontext()
    return column_merging_disabled()


@contextmanager
def own_randomness(device: str) -> Iterator[None]:
    """Gives the block's random draws back: the caller's generators stand afterwards where they stood before."""
    import numpy as np
    import torch

    devices = [torch.device(device).index or torch.cuda.current_device()] if device.startswith("cuda") else []
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
