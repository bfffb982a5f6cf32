"""Finds the documents that hold passages whose document is not known.

Many passages are looked up in one pass: from each a stretch of letters and digits is taken, each document's stretches
are compared with all of them at once by a rolling hash (Karp and Rabin, 1987), and what agrees is compared in full. So
the time grows with the text and the passages, not with their product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .gold import SHORTEST_LOOSE, fold  # the same normal form, so that what is found here is located later

__all__ = ["PassageFinder"]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_POWERS = np.cumprod(np.full(SHORTEST_LOOSE, _FACTOR, dtype=np.uint64))  # overflow of the 64 bits is meant


class PassageFinder:
    """Looks passages up in all documents: exactly, else on letters and digits alone."""

    def __init__(self, documents: Mapping[str, str], passages: Iterable[str] = ()) -> None:
        """Takes text by document id.

        Args:
            documents: Where to look.
            passages: Those that will be asked for; they are looked up together, in one pass. Others can be asked for
                as well, each at the cost of a pass.
        """
        self._texts = dict(sorted(documents.items()))
        self._found: dict[str, list[str]] = {}
        self._look_up(passages)

    def documents(self, passage: str) -> list[str]:
        """Ids of the documents that hold it, sorted; those that hold it exactly, where there are any."""
        if passage not in self._found:
            self._look_up([passage])
        return self._found[passage]

    def _look_up(self, passages: Iterable[str]) -> None:
        needles = {passage: fold(passage)[0] for passage in passages}
        # too short for a stretch, so compared with each document: such passages are rare
        short = [passage for passage, needle in needles.items() if len(needle) < SHORTEST_LOOSE]
        by_hash: dict[int, list[str]] = {}
        for passage, needle in needles.items():
            if len(needle) >= SHORTEST_LOOSE:
                hashes = _hashes(needle)
                by_hash.setdefault(int(hashes[len(hashes) // 2]), []).append(passage)
        anchors = np.array(sorted(by_hash), dtype=np.uint64)
        exact: dict[str, list[str]] = {passage: [] for passage in needles}
        loose: dict[str, list[str]] = {passage: [] for passage in needles}
        for doc_id, text in self._texts.items() if needles else ():
            for passage in short:
                if passage in text:
                    exact[passage].append(doc_id)
            if not len(anchors):
                continue
            folded = fold(text)[0]
            for passage in (passage for anchor in _shared(anchors, folded) for passage in by_hash[anchor]):
                if passage in text:
                    exact[passage].append(doc_id)
                elif needles[passage] in folded:
                    loose[passage].append(doc_id)
        self._found.update({passage: exact[passage] or loose[passage] for passage in needles})


def _shared(anchors: np.ndarray, folded: str) -> list[int]:
    """Those of the sorted anchors that a normal form holds; the work hardly grows with their number."""
    if len(folded) < SHORTEST_LOOSE:
        return []
    hashes = _hashes(folded)
    places = np.minimum(np.searchsorted(anchors, hashes), len(anchors) - 1)
    return np.unique(hashes[anchors[places] == hashes]).tolist()


def _hashes(folded: str) -> np.ndarray:
    """A hash of each stretch of `SHORTEST_LOOSE` letters, uint64; the text has at least one."""
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    count = len(codes) - SHORTEST_LOOSE + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for place, power in enumerate(_POWERS):
        hashes += codes[place : place + count] * power
    return hashes ^ (hashes >> np.uint64(29))
