"""What a loader gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.types import Question

__all__ = ["Imported"]


@dataclass(frozen=True)
class Imported:
    """Questions in our types, and the documents that they are about.

    Attributes:
        questions: In the source's order.
        documents: Text by document id, to be written as files; empty where the source has none.
        notes: What was left out or done on the way, with counts, a sentence each.
    """

    questions: tuple[Question, ...]
    documents: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
