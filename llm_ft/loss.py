"""The loss of completions: what training minimises off CUDA, and what forgetting and the cost estimate measure by."""

from __future__ import annotations

import inspect
from typing import Any

from .tokens import IGNORED

__all__ = ["completion_loss"]


def completion_loss(model: Any, inputs: Any) -> tuple[Any, int, int]:
    """Loss of a batch, with the output layer run only where some row of the batch has a label.

    Args:
        model: A causal language model, with or without an adapter.
        inputs: `input_ids`, `labels` (-100 where there is none) and what else `forward` takes, shape (rows, tokens).

    Returns:
        The summed cross entropy of the labels; how many of them were the most likely token; how many there are.
    """
    from torch.nn.functional import cross_entropy

    following = inputs["labels"][:, 1:]
    places = (following != IGNORED).any(0).nonzero()[:, 0]
    fields = {name: value for name, value in inputs.items() if name != "labels"}
    mask = fields.get("attention_mask")
    if mask is not None and bool(mask[:, 0].all()):
        # padded on the right: no token sees the padding behind it, and attention without a mask is a quarter faster
        del fields["attention_mask"]
    base = getattr(model, "module", model)  # several processes wrap it
    base = base.get_base_model() if hasattr(base, "get_base_model") else base
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        logits = model(**fields, use_cache=False, logits_to_keep=places).logits.float()
    else:
        logits = model(**fields, use_cache=False).logits[:, places].float()
    wanted = following[:, places]
    loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    right = (logits.argmax(-1) == wanted).sum()  # an ignored label equals no token
    return loss, int(right), int((wanted != IGNORED).sum())
