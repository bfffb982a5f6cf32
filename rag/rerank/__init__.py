"""Rerankers: a second, dearer look at the best hits.

none              the order of retrieval
cross_encoder     a model reads question and passage together
late_interaction  an embedding model's token vectors, matched one by one
listwise          an LLM sorts numbered passages
endpoint          Cohere's, Jina's or TEI's interface
"""

from __future__ import annotations

from ...core.components import component_section
from .cross_encoder import CrossEncoderSettings
from .endpoint import EndpointRerankerSettings
from .late_interaction import LateInteractionSettings
from .listwise import ListwiseSettings
from .none import NoRerankerSettings
from .result import Failure, Reranked, rerank_with

__all__ = [
    "CrossEncoderSettings",
    "EndpointRerankerSettings",
    "Failure",
    "LateInteractionSettings",
    "ListwiseSettings",
    "NoRerankerSettings",
    "Reranked",
    "RerankerSection",
    "rerank_with",
]

RerankerSection = component_section(
    "reranker",
    NoRerankerSettings,
    CrossEncoderSettings,
    LateInteractionSettings,
    ListwiseSettings,
    EndpointRerankerSettings,
)
"""Type of a config field that takes a reranker."""
