"""Near-duplicates among many short texts without comparing each with each.

MinHash signatures over letter triples, cut into bands (Broder, 1997; Leskovec et al., "Mining of Massive Datasets",
chapter 3), propose the pairs; rapidfuzz's similarity decides. In a crowded band, as templates make one, a text is
compared with its neighbours in sorted order only, so the work grows with n log n.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["near_duplicates", "normal_form"]

_BANDS, _ROWS = 20, 3
_CROWDED, _NEIGHBOURS = 20, 10


def normal_form(text: str) -> str:
    """The words of a text in lower case, blanks between them: marks and case make no difference."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def near_duplicates(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs of texts that are nearly the same, those that are the same included.

    Texts whose numbers or codes differ (`E-417`, `E-418`) are not near-duplicates, however alike.

    Args:
        texts: N texts.
        threshold: Least similarity, 0 to 100: rapidfuzz's `token_sort_ratio` of the normal forms.

    Returns:
        (i, j, similarity) with i < j, sorted. A text that stands several times is paired with its first place only.
    """
    from rapidfuzz import fuzz

    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        places[normal_form(text)].append(place)
    places.pop("", None)
    found = [(same[0], other, 100.0) for same in places.values() for other in same[1:]]
    unique = sorted(places)
    numbers = [frozenset(word for word in text.split() if any(c.isdigit() for c in word)) for text in unique]
    for a, b in _candidates(unique):
        if numbers[a] != numbers[b]:
            continue
        score = fuzz.token_sort_ratio(unique[a], unique[b], score_cutoff=threshold)
        if score >= threshold and score > 0:
            i, j = sorted((places[unique[a]][0], places[unique[b]][0]))
            found.append((i, j, round(float(score), 2)))
    return sorted(found)


def _candidates(unique: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of places that share a band, each once."""
    signatures = _signatures(unique)
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        part = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for place in range(len(unique)):
            buckets[part[place].tobytes()].append(place)
        for members in buckets.values():
            reach = len(members) if len(members) <= _CROWDED else _NEIGHBOURS
            for position, first in enumerate(members):
                for second in members[position + 1 : position + 1 + reach]:
                    if (first, second) not in seen:
                        seen.add((first, second))
                        yield first, second


def _signatures(texts: Sequence[str]) -> np.ndarray:
    """MinHash signatures, uint32, shape (texts, bands x rows)."""
    generator = np.random.default_rng(0)
    count = _BANDS * _ROWS
    factors = generator.integers(1, 2**63, size=(count, 1), dtype=np.uint64) | np.uint64(1)
    shifts = generator.integers(0, 2**63, size=(count, 1), dtype=np.uint64)
    signatures = np.empty((len(texts), count), dtype=np.uint32)
    for place, text in enumerate(texts):
        letters = np.frombuffer(f" {text} ".encode(), dtype=np.uint8).astype(np.uint64)
        triples = np.unique(letters[:-2] << np.uint64(16) | letters[1:-1] << np.uint64(8) | letters[2:])
        # multiply-shift hashing: overflow of the 64 bits is meant
        signatures[place] = ((factors * triples + shifts) >> np.uint64(32)).min(axis=1).astype(np.uint32)
    return signatures
