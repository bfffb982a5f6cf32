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

__all__ = ["NearIndex", "near_duplicates", "normal_form"]

_BANDS, _ROWS = 20, 3
_CROWDED, _NEIGHBOURS = 20, 10
_TYPO = 70.0  # likeness from which two words are spellings or forms of one
_CONTENT = 4  # letters from which a word may be what a question is about


def normal_form(text: str) -> str:
    """The words of a text in lower case, blanks between them: marks and case make no difference."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def near_duplicates(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs of texts that are nearly the same, those that are the same included.

    Texts whose numbers or codes differ (`E-417`, `E-418`), or of which each has a word of its own (`the pump`, `the
    kettle`), are not near-duplicates, however alike.

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
    numbers = [_numbers(text) for text in unique]
    for a, b in _candidates(unique):
        if numbers[a] != numbers[b]:
            continue
        score = fuzz.token_sort_ratio(unique[a], unique[b], score_cutoff=threshold)
        if score >= threshold and score > 0 and _one_subject(unique[a], unique[b]):
            i, j = sorted((places[unique[a]][0], places[unique[b]][0]))
            found.append((i, j, round(float(score), 2)))
    return sorted(found)


class NearIndex:
    """Texts that come one after another, each compared with those before it."""

    def __init__(self, threshold: float) -> None:
        """Makes an empty index.

        Args:
            threshold: Least likeness, as for `near_duplicates`; above 100 nothing is a duplicate.
        """
        self._threshold = threshold
        self._texts: dict[str, str] = {}
        self._bands: dict[tuple[int, bytes], list[str]] = defaultdict(list)

    def add(self, text: str) -> None:
        """Adds a text."""
        form = normal_form(text)
        if form and form not in self._texts:
            self._texts[form] = text
            for key in _bands(form):
                self._bands[key].append(form)

    def nearest(self, text: str) -> str | None:
        """The likest of the texts that are nearly the same; None where there is none."""
        from rapidfuzz import fuzz

        form = normal_form(text)
        if self._threshold > 100 or not form:
            return None
        if form in self._texts:
            return self._texts[form]
        others = {other for key in _bands(form) for other in self._bands.get(key, ())[-_CROWDED:]}
        numbers = _numbers(form)
        scores = [(fuzz.token_sort_ratio(form, other), other) for other in others if _numbers(other) == numbers]
        near = [(score, other) for score, other in scores if score >= self._threshold and _one_subject(form, other)]
        return self._texts[max(near)[1]] if near else None


def _one_subject(first: str, second: str) -> bool:
    """False where each text has a word of four letters or more that is like no word of the other."""
    from rapidfuzz import fuzz

    words = set(first.split()), set(second.split())

    def own(mine: set[str], others: set[str]) -> bool:
        rest = [word for word in mine - others if len(word) >= _CONTENT]
        return any(all(fuzz.ratio(word, other) < _TYPO for other in others - mine) for word in rest)

    return not (own(*words) and own(*reversed(words)))


def _numbers(form: str) -> frozenset[str]:
    return frozenset(word for word in form.split() if any(c.isdigit() for c in word))


def _bands(form: str) -> list[tuple[int, bytes]]:
    signature = _signatures([form])[0]
    return [(band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS)]


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
