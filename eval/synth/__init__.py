"""Synthetic questions: written from documents by an LLM or by patterns, with verbatim evidence, then filtered."""

from __future__ import annotations

from .asking import Asker, CallCounts, Prompt, Reply, read_json
from .filters import Retrieve
from .report import FILTERS, FilterCount, KindCount, SynthReport
from .settings import KINDS, Kind, SynthBudget, SynthFilters, SynthSettings, SynthSplit
from .synthesise import SynthResult, synthesise

__all__ = [
    "FILTERS",
    "KINDS",
    "Asker",
    "CallCounts",
    "FilterCount",
    "Kind",
    "KindCount",
    "Prompt",
    "Reply",
    "Retrieve",
    "SynthBudget",
    "SynthFilters",
    "SynthReport",
    "SynthResult",
    "SynthSettings",
    "SynthSplit",
    "read_json",
    "synthesise",
]
