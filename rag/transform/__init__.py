"""Query transforms: an LLM says what to search for in place of the question.

    none           the question as it was asked
    hyde           a passage as an answer might look
    multi_query    other wordings
    decomposition  the parts of a question
    step_back      a more general question

A question whose transform fails finds nothing and carries the failure's status: it is never searched for untransformed
in silence, for then the transform's score would be a mixture.
"""

from __future__ import annotations

from ...core.components import component_section
from ._base import LLMTransform
from .expansion import Expansion, as_asked
from .hyde import HydeSettings
from .none import NoTransformSettings
from .rewrite import DecompositionSettings, MultiQuerySettings, StepBackSettings

__all__ = [
    "DecompositionSettings",
    "Expansion",
    "HydeSettings",
    "LLMTransform",
    "MultiQuerySettings",
    "NoTransformSettings",
    "StepBackSettings",
    "TransformSection",
    "as_asked",
]

TransformSection = component_section(
    "transform", NoTransformSettings, HydeSettings, MultiQuerySettings, DecompositionSettings, StepBackSettings
)
"""Type of a config field that takes a query transform."""
