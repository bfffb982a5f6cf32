"""What the training of an embedding model will take, told before it starts."""

from __future__ import annotations

from ...core.distributed import world_size
from ...core.errors import ConfigError
from ...embeddings.probe import EmbedEstimate, estimate_embedding
from ..config import EmbeddingRungSettings, PipelineConfig
from ..workbench import Workbench
from .embedding_data import EmbeddingData

__all__ = ["embedding_estimate", "say_estimate"]


def embedding_estimate(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData, price: float = 0.0
) -> EmbedEstimate:
    """Time, memory and money of the training, from a few steps that are really made.

    Args:
        bench: Models and the device.
        pipeline: Whose embedder would be trained.
        settings: How.
        data: From `embedding_data` of the same pipeline.
        price: Of an hour of the machine.

    Raises:
        ConfigError: The rung trains no model, or the settings do not fit it.
        DataError: Two pairs are too few, or do not fit into memory.
    """
    if settings.train is None:
        raise ConfigError("rungs.embedding.train is null, so there is no training to estimate")
    embedder = bench.component(pipeline.embed)
    prefixes = (embedder.prefix("query"), embedder.prefix("document"))
    return estimate_embedding(embedder.source, data.pairs.pairs, settings.train, bench.resources, price, prefixes)


def say_estimate(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData
) -> None:
    """Prints it; the arguments and errors are those of `embedding_estimate`."""
    if len(data.pairs) < 2:
        return  # the training says what is wrong
    found = embedding_estimate(bench, pipeline, settings, data)
    memory = "" if found.peak_memory_mb is None else f", {found.peak_memory_mb:,.0f} MB at the peak"
    shared = "" if world_size() == 1 else f" on one of the {world_size()} devices, which share the steps out"
    bench.reporter.line(
        f"estimate: {found.steps} steps of {found.batch_size} pairs, about {found.seconds / 60:.1f} minutes{memory}"
        f"{shared}; dev evaluations and mining on top"
    )
