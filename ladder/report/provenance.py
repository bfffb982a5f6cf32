"""What each arm was made of: models, index and prompt, with a hash of the settings of each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.cache import digest
from ..records import LadderRecord
from .sweep_views import compact
from .words import arm_name

__all__ = ["Part", "parts_of"]

_PARTS = {
    "Embedding model": ("embed",),
    "Chunks and index": ("parse", "chunk", "context", "index"),
    "Retrieval": ("transform", "retrieve", "rerank"),
    "LLM": ("generate.kind", "generate.llm"),
    "Prompt": ("generate.prompt",),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the pipeline in every arm.

    Attributes:
        name: In words.
        cells: An arm each: what it is in short, and the first 12 digits of the sha256 of its settings.
    """

    name: str
    cells: tuple[tuple[str, str], ...]


def parts_of(record: LadderRecord) -> tuple[tuple[str, ...], tuple[Part, ...]]:
    """Names of the arms, and their parts; a part that no arm has is left out."""
    arms = [record.baseline, *(rung.candidate for rung in record.rungs if rung.candidate)]
    parts = []
    for name, keys in _PARTS.items():
        found = [{key: value for key in keys if (value := _at(arm.pipeline, key)) is not None} for arm in arms]
        if any(found):
            parts.append(Part(name, tuple((_short(one), digest(one)[:12] if one else "") for one in found)))
    return tuple(arm_name(arm.arm) for arm in arms), tuple(parts)


def _at(pipeline: Mapping[str, Any], key: str) -> Any:
    value: Any = pipeline
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(settings: Mapping[str, Any]) -> str:
    """What tells parts apart at a glance: kind, mode, model, template and adapter of each."""
    words = []
    for key, value in settings.items():
        if not isinstance(value, Mapping):
            words.append(compact(value))
            continue
        names = [value.get(name) for name in ("kind", "mode", "model", "template", "adapter")]
        shown = [str(name).rstrip("/").rsplit("/", 1)[-1] for name in names if isinstance(name, str) and name]
        if shown:
            words.append(" ".join([*([key] if len(settings) > 2 else []), *shown]))
    return ", ".join(words)
