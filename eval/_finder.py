"""Finds the documents that hold a passage whose document is not known."""

from __future__ import annotations

from collections.abc import Mapping

from .gold import SHORTEST_LOOSE, _fold  # the same normal form, so that what is found here is located later

__all__ = ["PassageFinder"]


class PassageFinder:
    """Looks a passage up in all documents: exactly, else on letters and digits alone."""

    def __init__(self, documents: Mapping[str, str]) -> None:
        """Takes text by document id."""
        self._texts = dict(sorted(documents.items()))
        self._folded: dict[str, str] | None = None

    def documents(self, passage: str) -> list[str]:
        """Ids of the documents that hold it, sorted; those that hold it exactly, where there are any."""
        exact = [doc_id for doc_id, text in self._texts.items() if passage in text]
        needle = _fold(passage)[0]
        if exact or len(needle) < SHORTEST_LOOSE:
            return exact
        if self._folded is None:
            self._folded = {doc_id: _fold(text)[0] for doc_id, text in self._texts.items()}
        return [doc_id for doc_id, text in self._folded.items() if needle in text]
