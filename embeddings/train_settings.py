"""How an embedding model is finetuned: the settings of `train_embedder`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..core.components import Model
from .mine import HardNegativeSettings

__all__ = ["EmbedTrainSettings", "EncoderLoraSettings", "LossName"]

LossName = Literal["multiple_negatives", "symmetric", "gist", "triplet", "cosent", "angle", "margin_mse", "distill_kl"]

# Measured on COVID-QA with all-MiniLM-L6-v2; see docs/embedding-finetuning.md.
_LEARNING_RATES = {"full": 1e-4, "lora": 2e-4}
IN_BATCH = frozenset({"multiple_negatives", "symmetric", "gist"})
"""Losses that take the other pairs of the batch as negatives."""
NEEDS_NEGATIVES = frozenset({"triplet", "margin_mse", "distill_kl"})
"""Losses to which a pair without a negative says nothing."""
DISTILLATION = frozenset({"margin_mse", "distill_kl"})
"""Losses that learn the scores of a teacher."""
SCORED = frozenset({"cosent", "angle"})
"""Losses that learn an order of scored pairs."""
GIST_NEGATIVES = "gist takes one negative a pair unless mini_batch_size is set: set it, or num_negatives to 1"


class EncoderLoraSettings(Model):
    """LoRA on the encoder (Hu et al. 2021), merged into its weights when the training is done."""

    rank: int = Field(default=16, ge=1, le=512)
    """Of the update of a matrix: more learns more and forgets more; memory of the optimizer grows with it."""
    alpha: float = Field(default=32, gt=0)
    """The update is scaled by alpha/rank: keep it at twice the rank."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Share of an adapter's input that is dropped in training, against overfitting."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Which matrices get an adapter: all linear layers, or those whose name ends so, `query` and `value` say."""


class EmbedTrainSettings(Model):
    """How an embedding model is finetuned."""

    method: Literal["full", "lora"] = "full"
    """full: the weights themselves; lora: low-rank updates of them, with a fraction of the optimizer's memory. The
    result is a plain model either way."""
    lora: EncoderLoraSettings = EncoderLoraSettings()
    """Read where `method` is lora."""
    loss: LossName = "multiple_negatives"
    """multiple_negatives (InfoNCE): each query against the positives of the whole batch; needs pairs only. symmetric:
    also each positive against all queries. gist: leaves out negatives that a guide finds nearer than the positive.
    triplet: one positive, one negative, a margin. cosent, angle: the order of scored pairs. margin_mse, distill_kl: the
    scores of a `teacher`."""
    scale: float = Field(default=20.0, gt=0)
    """1/temperature of the loss: larger looks more at the hardest negatives."""
    mini_batch_size: int | None = Field(default=None, ge=1)
    """GradCache: the batch is computed so many pairs at a time, to the same gradient, in the memory of these, for
    one more forward pass. null: all at once. For multiple_negatives, symmetric and gist."""
    matryoshka_dims: tuple[int, ...] = ()
    """Trains these first dimensions as well as all, so that `truncate_dim` costs little; encodes once for all."""
    guide: str | None = None
    """Model that judges false negatives for gist: a folder or a hub name; null: the untrained base."""
    teacher: str | None = None
    """Cross-encoder whose scores margin_mse and distill_kl learn: a folder or a hub name. Scores every pair once."""
    triplet_margin: float = Field(default=0.2, gt=0, le=2)
    """For triplet: by how much the positive's cosine must exceed the negative's."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the pairs; time grows in proportion, dev is scored after each."""
    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    """Peak of the optimizer's step: higher learns faster and forgets more of what the base knows. null: 1e-4, with lora
    2e-4, for a static model 1e-3."""
    batch_size: Annotated[int, Field(ge=2)] | Literal["auto"] = 32
    """Pairs a step, hence negatives a query: larger is harder and better up to a point, and takes more memory. auto: 32
    on a CPU, the most that fit (up to 256) on a GPU. Where memory runs out it is halved, which is said. Processes of
    torchrun share it out among them."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it falls to 0 over the rest."""
    max_length: int | None = Field(default=256, ge=8)
    """Tokens of a text read in training (not in encoding); null: the model's limit. Time and memory grow with it."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 computes in half the bits (weights stay fp32): .6 of the time where the device has it; auto: bf16 there."""
    gradient_checkpointing: bool = False
    """Computes activations again on the way back: memory for one more forward pass; for large models."""
    freeze_layers: Annotated[int, Field(ge=0)] | Literal["half"] = "half"
    """The token embeddings and so many lower layers stay as they are; half of them saves about half of the time. A
    static model has no layers: half freezes nothing there."""
    hard_negatives: HardNegativeSettings | None = None
    """Mine negatives with the base model first; null: in-batch negatives alone, which is much cheaper."""
    patience: int | None = Field(default=2, ge=1)
    """Stop after so many epochs without a new best dev score; null: never."""
    wise_ft: tuple[float, ...] = (0.5, 0.75)
    """Shares of the finetuned weights in mixtures with the base, tried on dev; each costs one dev evaluation."""
    max_share: float = Field(default=1.0, gt=0, le=1)
    """The largest share that may be kept: 1 lets dev alone decide, which cannot see what is forgotten elsewhere; 0.5,
    the advice of WiSE-FT (Wortsman et al. 2022), gives up a little of the gain for most of what the base knew."""
    seed: int = 0
    """Order of the pairs and dropout; the spread over a few seeds shows how much of a gain is luck."""
    report_to: tuple[str, ...] = ()
    """Loggers of the trainer by name: tensorboard, mlflow, wandb, trackio ...; each must be installed."""

    @field_validator("wise_ft")
    @classmethod
    def _between(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < alpha < 1 for alpha in value):
            raise ValueError("shares must lie between 0 and 1 (both ends are always scored)")
        return tuple(sorted(set(value)))

    @field_validator("matryoshka_dims")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(dim < 1 for dim in value):
            raise ValueError("dimensions must be at least 1")
        return tuple(sorted(set(value), reverse=True))

    @model_validator(mode="after")
    def _fit_together(self) -> EmbedTrainSettings:
        if self.mini_batch_size is not None and self.loss not in IN_BATCH:
            raise ValueError(f"mini_batch_size is for {', '.join(sorted(IN_BATCH))}; the loss is {self.loss}")
        if self.mini_batch_size is not None and self.gradient_checkpointing:
            raise ValueError("mini_batch_size and gradient_checkpointing both save memory and exclude each other")
        if self.guide is not None and self.loss != "gist":
            raise ValueError(f"guide is for the loss gist; the loss is {self.loss}")
        hard = self.hard_negatives
        if self.loss == "gist" and self.mini_batch_size is None and hard is not None and hard.num_negatives > 1:
            raise ValueError(GIST_NEGATIVES)
        if self.teacher is not None and self.loss not in DISTILLATION:
            raise ValueError(f"teacher is for {' and '.join(sorted(DISTILLATION))}; the loss is {self.loss}")
        return self

    def resolved_learning_rate(self, static: bool = False) -> float:
        """The learning rate where none is set: by the method, and for a static model."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-3 if static else _LEARNING_RATES[self.method]

    def first_batch_size(self) -> int:
        """The batch size as a number, `auto` counted as on a CPU."""
        return 32 if self.batch_size == "auto" else self.batch_size
