"""No reranking."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...core.components import Resources, Settings

__all__ = ["NoRerankerSettings"]


class NoRerankerSettings(Settings):
    """Leaves the order of retrieval as it is."""

    cost: ClassVar[str] = "none"

    kind: Literal["none"] = "none"

    def build(self, resources: Resources) -> None:
        """There is nothing to make."""
        return None
