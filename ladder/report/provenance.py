"""What pipelines are made of: models, index and prompt, with a hash of each part's settings; where runs come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.cache import digest
from ..records import ArmRecord, LadderRecord
from .findings import facts
from .run_folder import RunFolder
from .sweep_views import compact

__all__ = ["Part", "arms_of", "origins", "parts_of"]

_PARTS = {
    "Embedding model": ("embed",),
    "Chunks and index": ("parse", "chunk", "context", "index"),
    "Retrieval": ("transform", "retrieve", "rerank"),
    "LLM": ("generate.kind", "generate.llm"),
    "Prompt": ("generate.prompt",),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of some pipelines.

    Attributes:
        name: In words.
        cells: A pipeline each: what it is in short, and the first 12 digits of the sha256 of its settings.
    """

    name: str
    cells: tuple[tuple[str, str], ...]


def arms_of(record: LadderRecord) -> list[ArmRecord]:
    """The baseline and every candidate, in climbing order."""
    return [record.baseline, *(rung.candidate for rung in record.rungs if rung.candidate)]


def parts_of(pipelines: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """The parts of some pipelines; a part that none has is left out."""
    parts = []
    for name, keys in _PARTS.items():
        found = [{key: value for key in keys if (value := _at(one, key)) is not None} for one in pipelines]
        if any(found):
            parts.append(Part(name, tuple((_short(one), digest(one)[:12] if one else "") for one in found)))
    return tuple(parts)


def origins(runs: Sequence[RunFolder]) -> list[tuple[str, tuple[str, ...]]]:
    """Where runs come from: a fact, and what it is in each run; those that differ first."""
    columns = [_origin(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, tuple(column.get(name, "–") for column in columns)) for name in names]
    return sorted(rows, key=lambda row: len(set(row[1])) == 1)


def _origin(run: RunFolder) -> dict[str, str]:
    record = run.record
    told = {"run": record.run_id, "created": record.created, "ragladder": record.ragladder, "seed": str(record.seed)}
    hashes = {
        "config sha256": record.config_sha256,
        "documents sha256": record.data.documents_sha256,
        "questions sha256": record.data.questions_sha256,
    }
    judges = {f"judge of {name}": str(who) for name, who in record.judges.items()}
    return {**told, **{name: sha[:12] for name, sha in hashes.items()}, **judges, **dict(facts(run.env))}


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
        shown = [_last(name) for name in names if isinstance(name, str) and name]
        if shown:
            words.append(" ".join([*([key] if len(settings) > 2 else []), *shown]))
    return ", ".join(words)


def _last(name: str) -> str:
    """The end of a path; with the folder's where it is one of the names that all trained models have."""
    parts = name.rstrip("/").split("/")
    return "/".join(parts[-2:]) if parts[-1] in ("model", "adapter") else parts[-1]
