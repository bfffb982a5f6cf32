"""The rungs, cheapest first. Each proposes one candidate pipeline, chosen on dev; the gate judges it on test."""

from __future__ import annotations

from .base import Proposal, RungContext, Trial
from .embedding import propose_embedding
from .llm import propose_llm
from .llm_prompts import propose_prompt
from .retrieval import propose_retrieval

__all__ = [
    "Proposal",
    "RungContext",
    "Trial",
    "propose_embedding",
    "propose_llm",
    "propose_prompt",
    "propose_retrieval",
]
