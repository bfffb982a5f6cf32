"""A causal attention that is faster than the built-in one for short sequences on a CPU; training only."""

from __future__ import annotations

from functools import cache

import torch
from transformers import AttentionInterface

NAME = "short_causal"
LONGEST = 1024


@cache
def causal_mask(length: int, dtype: torch.dtype) -> torch.Tensor:
    """Returns a mask to add to attention scores."""
    return torch.full((length, length), -1e4, dtype=dtype).triu(1)


def short_causal(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Computes causal attention over whole sequences; padding is not looked at."""
    batch, heads, length, size = query.shape
    if length > LONGEST:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
        return out.transpose(1, 2).contiguous(), None
    query, key, value = (x.to(value.dtype).reshape(batch * heads, length, size) for x in (query, key, value))
    scores = torch.baddbmm(causal_mask(length, query.dtype), query, key.transpose(1, 2), alpha=scaling)
    out = torch.bmm(scores.softmax(-1, dtype=query.dtype), value)
    return out.view(batch, heads, length, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, short_causal)
