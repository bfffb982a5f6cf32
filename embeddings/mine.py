"""Hard negatives: chunks that the model ranks high for a question, and that do not hold its evidence."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, model_validator

from ..core.components import Model
from ..core.errors import DataError
from ..core.quiet import quiet_libraries
from ..core.types import Chunk
from .pairs import GoldSpans, Pair

__all__ = ["HardNegativeSettings", "MinedPairs", "MiningCorpus", "fill_up", "mine_negatives", "mining_corpus"]


class HardNegativeSettings(Model):
    """Which chunks become negatives; the names are those of `sentence_transformers.util.mine_hard_negatives`."""

    num_negatives: int = Field(default=1, ge=1, le=16)
    """Negatives a pair: each adds about the time of one more chunk to a training step."""
    range_min: int = Field(default=0, ge=0)
    """Skip so many of the best-ranked candidates, which may be answers that nobody marked."""
    range_max: int = Field(default=50, ge=1)
    """Look no further down the ranking."""
    margin: float | None = Field(default=None, ge=0)
    """A negative's similarity must be below the positive's by so much; null: no such rule. Larger: fewer, easier."""
    relative_margin: float | None = Field(default=0.05, ge=0, lt=1)
    """The same as a share of the positive's similarity; 0.05 is what NV-Retriever (Moreira et al. 2024) found best."""
    max_score: float | None = Field(default=None, gt=-1, le=1)
    """A negative's similarity may not be above this: keeps likely false negatives out; null: no such limit."""
    cross_encoder: str | None = None
    """A reranker (folder or hub name) whose scores, 0 to 1, the margins and `max_score` look at in place of the
    similarity: finds more false negatives, and reads `range_max` candidates a pair, which takes by far the longest."""
    remine: bool = False
    """Mine again before each further epoch with the model in training, which has learnt the first negatives by then;
    costs one encoding of the candidates an epoch. Pairs with too few are filled up with chunks drawn at random."""

    @model_validator(mode="after")
    def _window_holds_them(self) -> HardNegativeSettings:
        if self.range_max - self.range_min < self.num_negatives:
            raise ValueError("range_max - range_min must leave room for num_negatives candidates")
        return self


@dataclass(frozen=True, slots=True)
class MiningCorpus:
    """Where negatives come from.

    Attributes:
        texts: Embedding texts of the chunks that may become negatives.
        forbidden: By question id the embedding texts of all chunks that touch its evidence: never its negatives.
    """

    texts: tuple[str, ...]
    forbidden: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class MinedPairs:
    """Pairs with their negatives; none is dropped.

    Attributes:
        pairs: In their order; `negatives` is shorter than asked for, or empty, where too few candidates passed.
        complete: Pairs with all the negatives asked for.
        partial: Pairs with some.
        without: Pairs with none, which are trained on with in-batch negatives alone.
    """

    pairs: tuple[Pair, ...]
    complete: int
    partial: int
    without: int

    def summary(self) -> str:
        """The counts in a line."""
        text = f"hard negatives: {self.complete} of {len(self.pairs)} pairs have all"
        return f"{text}, {self.partial} have some, {self.without} have none (kept, with in-batch negatives alone)"


def mining_corpus(chunks: Sequence[Chunk], texts: Sequence[str], gold: GoldSpans) -> MiningCorpus:
    """Notes for each question which chunks touch its evidence.

    Args:
        chunks: Chunks that may become negatives: of train documents, so that nothing of dev and test is trained on.
        texts: Their embedding texts.
        gold: Where the evidence of each question is.

    Raises:
        DataError: `texts` is not parallel to `chunks`.
    """
    if len(texts) != len(chunks):
        raise DataError(f"hard negatives: {len(texts)} embedding texts for {len(chunks)} chunks; give one a chunk")
    by_document: dict[str, list[int]] = {}
    for position, chunk in enumerate(chunks):
        by_document.setdefault(chunk.doc_id, []).append(position)
    forbidden = {
        question_id: frozenset(
            texts[position]
            for doc_id, start, end in spans
            for position in by_document.get(doc_id, ())
            if chunks[position].start < end and start < chunks[position].end
        )
        for question_id, spans in gold.items()
    }
    return MiningCorpus(tuple(texts), forbidden)


def mine_negatives(
    pairs: Sequence[Pair],
    corpus: MiningCorpus,
    model: Any,
    settings: HardNegativeSettings,
    query_prefix: str = "",
    document_prefix: str = "",
    batch_size: int = 32,
    cross_encoder: Any = None,
) -> MinedPairs:
    """Finds hard negatives with a model.

    Args:
        pairs: Training pairs.
        corpus: Candidates, and what is forbidden.
        model: A `SentenceTransformer`, as it is before training.
        settings: Which candidates pass.
        query_prefix: Put before each query.
        document_prefix: Put before each candidate.
        batch_size: Texts a forward pass; speed only.
        cross_encoder: The loaded `CrossEncoder` of `settings.cross_encoder`, if any.

    Raises:
        DataError: There are no pairs.
    """
    if not pairs:
        raise DataError("hard negatives: there are no training pairs")
    found = _ranked(pairs, corpus, model, settings, (query_prefix, document_prefix), batch_size, cross_encoder)
    mined = []
    for pair in pairs:
        forbidden = corpus.forbidden.get(pair.question_id, frozenset())
        allowed = [text for text in found.get((pair.query, pair.positive), ()) if text not in forbidden]
        window = allowed[settings.range_min : settings.range_max]
        mined.append(replace(pair, negatives=tuple(window[: settings.num_negatives])))
    complete = sum(len(pair.negatives) == settings.num_negatives for pair in mined)
    without = sum(not pair.negatives for pair in mined)
    return MinedPairs(tuple(mined), complete, len(mined) - complete - without, without)


def _ranked(
    pairs: Sequence[Pair],
    corpus: MiningCorpus,
    model: Any,
    settings: HardNegativeSettings,
    prefixes: tuple[str, str],
    batch_size: int,
    cross_encoder: Any,
) -> dict[tuple[str, str], list[str]]:
    """By query and positive the candidates that pass the margins, best first, forbidden ones among them."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    # The library knows no candidates forbidden to one query. So it gives the whole window, widened by as many as can be
    # forbidden, and the window is cut after they are taken out: ranks then count candidates that may be negatives.
    widest = settings.range_max + max((len(corpus.forbidden.get(pair.question_id, ())) for pair in pairs), default=0)
    dataset = Dataset.from_dict({"anchor": [p.query for p in pairs], "positive": [p.positive for p in pairs]})
    # It shows progress bars that cannot be turned off.
    with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
        rows = mine_hard_negatives(
            dataset,
            model,
            corpus=list(corpus.texts),
            cross_encoder=cross_encoder,
            range_min=0,
            range_max=widest,
            num_negatives=widest,
            absolute_margin=settings.margin,
            relative_margin=settings.relative_margin,
            max_score=settings.max_score,
            sampling_strategy="top",
            query_prompt=prefixes[0],
            corpus_prompt=prefixes[1],
            output_format="labeled-list",
            batch_size=batch_size,
            verbose=False,
        )
    # Rows without any negative are missing here; their pairs are kept by the caller.
    return {(query, texts[0]): texts[1:] for query, texts in zip(rows["anchor"], rows["positive"], strict=True)}


def fill_up(pairs: Sequence[Pair], corpus: MiningCorpus, count: int, seed: int) -> list[Pair]:
    """Pairs with exactly so many negatives: chunks drawn at random take the place of those that mining did not find.

    Args:
        pairs: Mined ones.
        corpus: Where they were mined.
        count: Negatives a pair.
        seed: The same seed, pair and corpus give the same chunks.

    Raises:
        DataError: The corpus is too small.
    """
    whole = []
    for place, pair in enumerate(pairs):
        missing = count - len(pair.negatives)
        if missing > 0:
            forbidden = {*corpus.forbidden.get(pair.question_id, ()), *pair.negatives, pair.positive}
            free = [text for text in dict.fromkeys(corpus.texts) if text not in forbidden]
            if len(free) < missing:
                raise DataError(
                    f"hard negatives: question {pair.question_id} needs {count}, but only "
                    f"{len(free) + len(pair.negatives)} chunks may be its negatives; lower num_negatives, or leave "
                    "remine out"
                )
            drawn = random.Random(f"{seed}-{place}").sample(free, missing)
            pair = replace(pair, negatives=(*pair.negatives, *drawn))
        whole.append(pair)
    return whole
