"""The knobs of retrieval past the index: channels, fusion, filters, diversity, and how much is kept and read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ...core.components import Model

__all__ = ["RetrieveSettings"]


def _one_weight(value: Any) -> Any:
    """Says at once what a list of weights would otherwise leave the user to guess."""
    if isinstance(value, (list, tuple)):
        raise ValueError(f"one number is wanted, the share of dense, BM25 having the rest; got {len(value)} weights")
    return value


def _patterns(value: Any) -> Any:
    """Bare values of a filter as lists of texts."""
    if not isinstance(value, dict):
        return value
    listed = {key: [one] if isinstance(one, (str, int, float)) else one for key, one in value.items()}
    return {
        key: [str(x) if isinstance(x, (int, float)) and not isinstance(x, bool) else x for x in one]
        if isinstance(one, (list, tuple))
        else one
        for key, one in listed.items()
    }


Filter = Annotated[dict[str, tuple[str, ...]], BeforeValidator(_patterns)]
"""For each key of the metadata the patterns of which a document must meet one."""
Weight = Annotated[float, BeforeValidator(_one_weight)]
"""Share of the dense search, 0 to 1."""


class RetrieveSettings(Model):
    """What is fetched, how channels are fused, and how much is kept."""

    mode: Literal["dense", "bm25", "hybrid"] = "dense"
    """`dense` searches vectors, `bm25` words, `hybrid` both. BM25 costs next to nothing and finds names and codes."""
    filter: Filter = {}
    """Chunks that may be found, by their document: `path` (id), `format` (extension), `title`, `ref`, or any key of the
    documents' metadata, and one pattern or several (`*` and `?` stand for anything; one must match). All keys must
    match. None lets all be found. Exact with numpy, flat and BM25; other indexes look further, and take longer."""
    fusion: Literal["rrf", "weighted"] = "rrf"
    """Hybrid only. `rrf` adds reciprocal ranks and ignores scores; `weighted` adds normalised scores."""
    rrf_k: int = Field(default=60, ge=1)
    """RRF's constant: the smaller, the more the first ranks count."""
    weight: Weight = Field(default=0.5, ge=0, le=1)
    """Weight of dense in `weighted` fusion, BM25 having the rest. At 0 or 1 the other channel does not count at all."""
    normalise: Literal["minmax", "zscore"] = "minmax"
    """How `weighted` makes a question's scores comparable: to the range 0 to 1, or to mean 0 and deviation 1."""
    top_k: int = Field(default=5, ge=1)
    """Chunks kept. More holds the evidence more often, and makes prompts longer and noisier."""
    fetch_k: int = Field(default=50, ge=1)
    """Chunks fetched a channel before fusion and reranking; not below `top_k`. Values up to 100 share one search."""
    per_document: int | None = Field(default=None, ge=1)
    """Most chunks of one document; None for no cap. A cap spreads the context over documents."""
    threshold: float | None = None
    """Least score before reranking, in the unit of the mode (cosine, BM25, fused); lower ones are dropped, which can
    leave a question without context. None drops nothing."""
    mmr: float | None = Field(default=None, ge=0, le=1)
    """Maximal marginal relevance (Carbonell & Goldstein 1998), on the final ranking: the share of relevance, the rest
    being unlikeness to the chunks chosen before. 1 changes nothing, 0.5 avoids near-duplicates. None leaves it out.
    Compares vectors, so not for mode bm25; costs milliseconds."""
    neighbours: int = Field(default=0, ge=0, le=10)
    """Chunks before and after a hit that are read with it, joined to one passage. Small chunks are found better, and
    larger ones answer better; prompts become up to 2 * neighbours + 1 times as long."""
    neighbours_within: Literal["section", "document"] = "section"
    """How far neighbours reach: not across a heading, or anywhere in the document."""

    @field_validator("filter")
    @classmethod
    def _has_patterns(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        empty = [key for key, patterns in value.items() if not patterns]
        if empty:
            raise ValueError(f"'{empty[0]}' has no pattern, so nothing could be found; leave the key out")
        return value

    @model_validator(mode="after")
    def _fits(self) -> RetrieveSettings:
        if self.fetch_k < self.top_k:
            raise ValueError(f"fetch_k ({self.fetch_k}) must not be below top_k ({self.top_k})")
        if self.mmr is not None and self.mode == "bm25":
            raise ValueError("mmr compares vectors, which mode 'bm25' does without; use 'dense' or 'hybrid', or no mmr")
        return self

    @property
    def channels(self) -> tuple[bool, bool]:
        """Whether dense and BM25 are searched."""
        return self.mode != "bm25", self.mode != "dense"
