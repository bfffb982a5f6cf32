"""Small words that sentences are put together from."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, more: str = "") -> str:
    """A number and its noun: `1 question`, `1,200 questions`.

    Args:
        count: How many.
        one: The noun for one of them.
        more: For several; by default `one` with an s.
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"
