"""What rerankers share: the text they read and the order they give."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.types import Chunk, Hit
from ..prompt import passage_heading

__all__ = ["reordered", "shown"]


def shown(chunk: Chunk, with_heading: bool) -> str:
    """A chunk's text, with its title and headings above it where wanted."""
    heading = passage_heading(chunk) if with_heading else ""
    return f"{heading}\n{chunk.text}" if heading else chunk.text


def reordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """Hits with new scores, best first; equal scores keep the order of retrieval."""
    ranking = sorted(range(len(hits)), key=lambda place: -scores[place])
    return [Hit(hits[place].chunk, float(scores[place])) for place in ranking]
