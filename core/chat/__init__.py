"""Chat models: one protocol, an OpenAI-compatible endpoint or a local Hugging Face model behind it."""

from __future__ import annotations

from ..components import component_section
from .local import LocalChatSettings
from .openai import ChatBudget, OpenAIChatSettings
from .types import ChatModel, ChatRequest, Completion, Message, Probe, estimate_tokens

__all__ = [
    "ChatBudget",
    "ChatModel",
    "ChatRequest",
    "ChatSection",
    "Completion",
    "LocalChatSettings",
    "Message",
    "OpenAIChatSettings",
    "Probe",
    "estimate_tokens",
]

ChatSection = component_section("llm", OpenAIChatSettings, LocalChatSettings)
