"""No query transform."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...core.components import Resources, Settings

__all__ = ["NoTransformSettings"]


class NoTransformSettings(Settings):
    """Searches for the question as it was asked."""

    cost: ClassVar[str] = "none"

    kind: Literal["none"] = "none"

    def build(self, resources: Resources) -> None:
        """There is nothing to make."""
        return None
