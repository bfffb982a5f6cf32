"""Settings of LoRA training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..core.components import Model

__all__ = ["LoraSettings"]


class LoraSettings(Model):
    """How the adapter is trained (LoRA, Hu et al. 2021). Names are those of peft and TRL."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update of each weight matrix. More can learn more and forgets more; memory and file grow with it."""
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank (by alpha / sqrt(rank) with `use_rslora`). Twice the rank is usual."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs set to zero while training, against overfitting (0.05 to 0.1 is usual); any value
    above 0 takes about a tenth more time on a CPU."""
    use_rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023): of use from rank 64 on; check what is forgotten."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024): a little better at low ranks, about a third slower."""
    quantize: Literal["none", "4bit"] = "none"
    """`4bit` keeps the base's weights in 4-bit NormalFloat while training (QLoRA, Dettmers et al. 2023): about a
    quarter of the memory of 16-bit weights, and slower steps. Needs a CUDA device and bitsandbytes. The adapter is then
    used on, and merged into, the weights as they are on disk."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Which layers get an adapter: every linear one but the output layer, or a list such as `[q_proj, v_proj]`."""
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    """Peak rate, about ten times that of full finetuning. Models below 100 M parameters take 1e-3 and more."""
    epochs: int = Field(default=2, ge=1)
    """Passes over the examples; time grows in proportion. Early stopping can end sooner."""
    batch_size: int = Field(default=4, ge=1)
    """Examples in one forward pass. Memory grows in proportion; LoRA learns best from small batches."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches added up before the weights move: a larger effective batch at no memory."""
    max_length: int = Field(default=2048, ge=16)
    """Most tokens of prompt and answer, or the model's own window where that is shorter. Longer examples are never cut:
    they are reported and left out."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it then falls linearly to zero."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number type of the computation; the adapter itself is float32. `auto` is bfloat16 where the device computes it
    natively (about half the time), else float32. On a CPU the base weights stay float32 either way."""
    patience: int = Field(default=1, ge=0)
    """Early stopping: epochs without a better dev loss before training ends. 0 never stops early; the adapter of the
    best epoch is kept in any case."""
    packing: bool = False
    """Joins short examples up to `max_length` tokens without padding; of use on a GPU with flash attention and many
    short examples. RAG prompts are long, so it gains little."""
    gradient_checkpointing: bool = False
    """Computes activations twice instead of keeping them: much less memory, about a third more time."""
    seed: int = 0
    """Seed of initial weights, dropout and order."""
