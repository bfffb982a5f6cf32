"""LoRA on the encoder of a sentence transformer: put on, and taken back into plain weights."""

from __future__ import annotations

from typing import Any

from ..core.errors import ConfigError

__all__ = ["attach_lora", "merged_weights"]

_NAME = "default"


def attach_lora(model: Any, settings: Any) -> None:
    """Puts adapters on the encoder's linear layers; from then on only they are trained.

    Args:
        model: A `SentenceTransformer`.
        settings: `EncoderLoraSettings`.

    Raises:
        ConfigError: The model has no encoder to put them on, or none of its layers is named so.
    """
    from peft import LoraConfig

    if model.transformers_model is None or not model.has_peft_compatible_model():
        raise ConfigError("method lora: this model has no transformer that takes adapters; use method full")
    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
        base_model_name_or_path=model.transformers_model.config._name_or_path,
    )
    try:
        model.add_adapter(config, _NAME)
    except ValueError as error:
        shown = targets if isinstance(targets, str) else ", ".join(targets)
        raise ConfigError(f"method lora: target_modules {shown}: {str(error).splitlines()[0]}") from None


def merged_weights(base: dict[str, Any], trained: Any) -> dict[str, Any]:
    """The base's weights with the update of every adapter added.

    Args:
        base: State dict of the model without adapters.
        trained: The `SentenceTransformer` with adapters.
    """
    from peft.tuners.lora import LoraLayer

    merged = dict(base)
    for name, module in trained.named_modules():
        if isinstance(module, LoraLayer):
            weight = base[f"{name}.weight"]
            layer: Any = module
            merged[f"{name}.weight"] = weight + layer.get_delta_weight(_NAME).detach().to(weight)
    return merged
