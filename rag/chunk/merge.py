"""What is read in place of what was found: windows round sentences, and parents of chunks.

A chunker whose chunks are found small and read large has a method `family(document)`. `merge_hits` needs no more than
that, the hits and the documents; all offsets stay exact, so that what is read is scored like any chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import StageError
from ...core.types import Document, Hit
from ._spans import Span, as_chunks

__all__ = ["Family", "merge_hits", "stripped"]


@dataclass(frozen=True, slots=True)
class Family:
    """The larger stretches round the chunks of a document.

    Attributes:
        parents: Span of a chunk, or of a larger stretch, to that of the next larger one; none is its own parent.
        merge_ratio: Share of a stretch's children that must be exceeded among the hits before it takes their place,
            from the smallest stretches up; None replaces each hit by its parent, one level up, whatever else was found.
            The same for all documents of a chunker.
        children: Number of children of each larger stretch.
    """

    parents: Mapping[Span, Span]
    merge_ratio: float | None = None
    children: Mapping[Span, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Counts the children of each stretch."""
        object.__setattr__(self, "children", Counter(self.parents.values()))


def stripped(text: str, span: Span) -> Span:
    """The span without the white space at its ends, as chunks have it; an empty one for white space alone."""
    inside = text[span[0] : span[1]]
    start = span[0] + len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())


def merge_hits(
    hits: Sequence[Sequence[Hit]], chunker: Any, documents: Mapping[str, Document], top_k: int
) -> list[list[Hit]]:
    """Replaces hits by the larger stretches that are to be read.

    To be called on the ranking that is final (fused and reranked) before it is cut to `top_k`. The first `top_k` hits
    decide: their windows or parents take the place and the score of the best hit inside; windows that overlap become
    one. (llama-index gives a merged parent the mean of the scores.) Deeper hits move up where places became free; those
    inside of a stretch that is read anyway are left out.

    Args:
        hits: The hits of each question, best first.
        chunker: The chunker that made them; one without `family` leaves all as it is.
        documents: By id, at least those of the hits.
        top_k: Hits that are to be read.

    Returns:
        The hits of each question, best first.

    Raises:
        StageError: A hit is of a document that is not there.
    """
    if not hasattr(chunker, "family"):
        return [list(row) for row in hits]
    families: dict[str, Family] = {}
    for hit in (hit for row in hits for hit in row):
        doc_id = hit.chunk.doc_id
        if doc_id not in families:
            if doc_id not in documents:
                raise StageError(f"merge_hits: the document {doc_id} of a hit is not in the corpus; chunk it again")
            families[doc_id] = chunker.family(documents[doc_id])
    return [_merged(row, families, documents, top_k) for row in hits]


Place = tuple[str, Span]


def _merged(
    hits: Sequence[Hit], families: Mapping[str, Family], documents: Mapping[str, Document], top_k: int
) -> list[Hit]:
    found = [((hit.chunk.doc_id, (hit.chunk.start, hit.chunk.end)), hit.score) for hit in hits]
    grown = _united(_grown([place for place, _ in found[:top_k]], families))
    kept: dict[Place, float] = {}
    for position, (place, score) in enumerate(found):
        round_it = next((other for other in grown if _holds(other, place)), None)
        if round_it is not None:
            kept.setdefault(round_it, score)
        elif position >= top_k:
            [wider] = _grown([place], families)
            if any(_overlap(wider, other) for other in kept):
                wider = place  # read alone, so that better hits do not grow by what a worse one needs
            if not any(_holds(other, wider) for other in kept):
                kept[wider] = score
    return [_hit(place, score, documents) for place, score in kept.items()]


def _grown(places: Sequence[Place], families: Mapping[str, Family]) -> list[Place]:
    """The stretches that stand for these, in their order, each once."""
    current = list(dict.fromkeys(places))
    if current and families[current[0][0]].merge_ratio is None:
        return list(dict.fromkeys(_parent(place, families) for place in current))
    # Parents are strictly larger, so this ends.
    while merging := _ready(current, families):
        current = list(dict.fromkeys(merging.get(place, place) for place in current))
    return current


def _parent(place: Place, families: Mapping[str, Family]) -> Place:
    return place[0], families[place[0]].parents.get(place[1], place[1])


def _ready(places: Sequence[Place], families: Mapping[str, Family]) -> dict[Place, Place]:
    """Places whose parent has more than its ratio of children among them, with that parent."""
    up = {place: _parent(place, families) for place in places}
    among = Counter(parent for place, parent in up.items() if parent != place)
    families_of = {parent: families[parent[0]] for parent in among}
    full = {p for p, family in families_of.items() if among[p] / family.children[p[1]] > (family.merge_ratio or 0.0)}
    return {place: parent for place, parent in up.items() if parent in full}


def _united(places: Sequence[Place]) -> list[Place]:
    """Stretches of one document that overlap as one, at the place of the first."""
    kept: list[Place] = []
    for doc_id, (start, end) in places:
        touching = [other for other in kept if _overlap(other, (doc_id, (start, end)))]
        if not touching:
            kept.append((doc_id, (start, end)))
            continue
        union = (min(start, *(o[1][0] for o in touching)), max(end, *(o[1][1] for o in touching)))
        kept = [(doc_id, union) if other == touching[0] else other for other in kept if other not in touching[1:]]
    return kept


def _overlap(one: Place, other: Place) -> bool:
    return one[0] == other[0] and one[1][0] < other[1][1] and other[1][0] < one[1][1]


def _holds(outer: Place, inner: Place) -> bool:
    return outer[0] == inner[0] and outer[1][0] <= inner[1][0] and inner[1][1] <= outer[1][1]


def _hit(place: Place, score: float, documents: Mapping[str, Document]) -> Hit:
    [chunk] = as_chunks(documents[place[0]], [place[1]])
    return Hit(chunk, score)
