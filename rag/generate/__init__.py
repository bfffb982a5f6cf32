"""Generators: they answer a question from its passages."""

from __future__ import annotations

from ...core.components import component_section
from .extractive import ExtractiveGenerator, ExtractiveSettings
from .llm import LLMGenerator, LLMGeneratorSettings

__all__ = [
    "ExtractiveGenerator",
    "ExtractiveSettings",
    "GeneratorSection",
    "LLMGenerator",
    "LLMGeneratorSettings",
]

GeneratorSection = component_section("generator", ExtractiveSettings, LLMGeneratorSettings)
