"""What is put into decoding: sampling with a generator for each row of a batch, and an end at stop texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .types import ChatRequest

__all__ = ["gumbel_sampler", "stopper"]


def gumbel_sampler(requests: Sequence[ChatRequest]) -> Callable[[Any, Any], Any]:
    """A logits processor after which greedy choice is a draw from softmax(logits / temperature).

    It adds Gumbel noise, -log(-log u), to logits / temperature; the place of the maximum is then distributed as the
    softmax (Gumbel 1954; Maddison et al. 2014, "A* sampling"). Each row has its own generator, seeded by seed + repeat.

    Args:
        requests: One a row of the batch, all with a temperature above 0.
    """
    import torch

    generators = [torch.Generator().manual_seed((request.seed or 0) + request.repeat) for request in requests]
    temperatures = torch.tensor([request.temperature for request in requests])[:, None]

    def process(input_ids: Any, scores: Any) -> Any:
        uniform = torch.stack([torch.rand(scores.shape[1], generator=generator) for generator in generators])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / temperatures.to(scores.device) + noise.to(scores.device)

    return process


def stopper(tokenizer: Any, stops: Sequence[str], width: int) -> Callable[[Any, Any], Any]:
    """A stopping criterion that ends a row once its text holds a stop text.

    It looks at decoded text, since a stop text may begin or end inside a token.

    Args:
        tokenizer: Decodes.
        stops: Texts at which a row ends.
        width: Tokens of the padded prompt, which are not looked at.
    """
    import torch

    def ended(input_ids: Any, scores: Any) -> Any:
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in input_ids[:, width:].tolist()]
        found = [any(stop in text for stop in stops) for text in texts]
        return torch.tensor(found, dtype=torch.bool, device=input_ids.device)

    return ended
