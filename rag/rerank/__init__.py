"""Rerankers: they read question and passage together, or compare them token by token, and sort the hits anew."""

from __future__ import annotations

from ...core.components import component_section
from .cross_encoder import CrossEncoderSettings
from .late_interaction import LateInteractionSettings
from .none import NoRerankerSettings

__all__ = ["CrossEncoderSettings", "LateInteractionSettings", "NoRerankerSettings", "RerankerSection"]

RerankerSection = component_section("reranker", NoRerankerSettings, CrossEncoderSettings, LateInteractionSettings)
