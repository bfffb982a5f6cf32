"""Pipelines that are ready to use: of a run, or of a folder that `ragladder export` wrote.

<folder>/
    pipeline.yaml      settings; model paths start from this folder
    chunks.parquet     what is searched
    index/, bm25/      of the chunks
    documents/         where larger stretches are read from than are searched; else not there
    metadata.json      of the documents, for filters
    vectors.npy        of the chunks, where the pipeline compares them (retrieve.mmr)
    demonstrations.jsonl   worked examples of the prompt, where it shows some
    models/            embedding model, LLMs, adapters, reranker: those that were folders
    README.md          how to load it
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..core.cache import digest
from ..core.components import Model, Resources
from ..core.config import load_config, to_yaml
from ..core.devices import locate_model, resolve_device
from ..core.errors import DataError
from ..core.files import whole_folder
from ..core.progress import Reporter
from ..embeddings.adapter import AdaptedEmbedder, load_query_adapter
from ..eval.questions import files_identity, load_questions
from ..rag.chunk import load_chunks, save_chunks
from ..rag.demonstrations import load_demonstrations, save_demonstrations
from ..rag.generate import LLMGeneratorSettings
from ..rag.index import BM25Index
from ..rag.parse import ParsedCorpus, load_documents, save_documents
from ..rag.pipeline import Pipeline
from ..rag.retrieve import metadata_of, needs_documents
from .config import ExperimentConfig, PipelineConfig, load_experiment
from .runs import load_ladder
from .workbench import Workbench
from .workbench.answering import reader
from .workbench.searching import ready_index

__all__ = ["export_run", "load", "pipeline_of_run"]

_DEMONSTRATIONS = "demonstrations.jsonl"
_METADATA = "metadata.json"
_VECTORS = "vectors.npy"
_README = """# A RAG pipeline exported by ragladder

Run: {run}

    import ragladder
    pipeline = ragladder.load("{folder}")
    print(pipeline.ask("your question").text)
    engine = pipeline.as_query_engine()        # a llama-index query engine
    retriever = pipeline.as_retriever()        # a llama-index retriever

It needs `pip install ragladder` with the extras of the components in `pipeline.yaml`.
"""


class ExportedPipeline(Model):
    """What `pipeline.yaml` holds."""

    schema_version: int = 1
    """Raised when the folder's layout changes."""
    run_id: str
    """The run that it came from."""
    pipeline: PipelineConfig
    """Its settings."""


def load(folder: str | Path, device: str = "auto") -> Pipeline:
    """Loads a folder that `ragladder export` wrote.

    Args:
        folder: The folder.
        device: Where models run: auto, cpu, cuda, cuda:N or mps.

    Returns:
        A pipeline: `ask`, `retrieve`, `answer`, `as_query_engine`, `as_retriever`.

    Raises:
        DataError: It is no such folder, or a part of it is missing.
    """
    folder = Path(folder)
    if not (folder / "pipeline.yaml").is_file():
        raise DataError(f"{folder} holds no pipeline.yaml; name a folder that `ragladder export RUN DIR` wrote")
    exported = load_config(folder / "pipeline.yaml", ExportedPipeline)
    if exported.schema_version != 1:
        raise DataError(f"{folder}: schema_version {exported.schema_version} is not one that this version reads (1)")
    settings = exported.pipeline
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ragladder"
    resources = Resources(device=resolve_device(device), base_dir=folder.absolute(), cache_dir=cache)
    dense, words = settings.retrieve.channels
    documents = folder / "documents"
    return Pipeline(
        chunks=load_chunks(folder / "chunks.parquet"),
        settings=settings.retrieve,
        embedder=_adapted(settings.embed.build(resources), settings, resources) if dense else None,
        index=settings.index.build(resources).load(folder / "index") if dense else None,
        bm25=BM25Index.load(folder / "bm25") if words else None,
        reranker=None if settings.rerank.kind == "none" else settings.rerank.build(resources),
        generator=_reader(settings, folder, resources),
        # with neighbours the chunker plays no part; it may need a model that is not here
        chunker=settings.chunk.build(resources) if documents.is_dir() and not settings.retrieve.neighbours else None,
        documents={d.id: d for d in load_documents(documents).documents} if documents.is_dir() else {},
        transform=settings.transform.build(resources),
        vectors=np.load(folder / _VECTORS, mmap_mode="r") if (folder / _VECTORS).is_file() else None,
        metadata=json.loads((folder / _METADATA).read_text("utf-8")) if (folder / _METADATA).is_file() else None,
    )


def _adapted(embedder: Any, settings: PipelineConfig, resources: Resources) -> Any:
    """The embedder, its query vectors through the pipeline's adapter where it has one."""
    if settings.query_adapter is None:
        return embedder
    return AdaptedEmbedder(embedder, load_query_adapter(resources.path(settings.query_adapter)))


def _reader(settings: PipelineConfig, folder: Path, resources: Resources) -> Any:
    generator = settings.generate.build(resources)
    if (folder / _DEMONSTRATIONS).is_file():
        return generator.with_demonstrations(load_demonstrations(folder / _DEMONSTRATIONS))
    return generator


def pipeline_of_run(run: Path) -> Pipeline:
    """The pipeline that a run ended with, from the store that the run wrote to.

    Raises:
        DataError: The run is not finished, or its documents have changed since.
    """
    bench = _bench_of_run(run)
    return _assemble(bench, bench.config.pipeline)


def export_run(run: Path, folder: Path) -> None:
    """Writes the pipeline that a run ended with into a new folder; the folder is there whole or not at all.

    Raises:
        DataError: The folder is there already, the run is not finished, or its documents have changed since.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not empty; name a new folder")
    bench = _bench_of_run(run)
    settings = bench.config.pipeline
    pipeline = _assemble(bench, settings)
    with whole_folder(folder.absolute()) as temporary:
        save_chunks(temporary / "chunks.parquet", list(pipeline.chunks))
        index: Any = pipeline.index
        if index is not None:
            index.save(temporary / "index")
        if pipeline.bm25 is not None:
            pipeline.bm25.save(temporary / "bm25")
        if pipeline.vectors is not None:
            np.save(temporary / _VECTORS, pipeline.vectors)
        (temporary / _METADATA).write_text(json.dumps(pipeline.metadata, ensure_ascii=False), "utf-8")
        if pipeline.documents:
            save_documents(temporary / "documents", ParsedCorpus(tuple(pipeline.documents.values())))
        shown = getattr(pipeline.generator, "demonstrations", None)
        if shown is not None:
            save_demonstrations(temporary / _DEMONSTRATIONS, shown.demonstrations)
        exported = ExportedPipeline(run_id=run.name, pipeline=_with_models(settings, bench.resources, temporary))
        (temporary / "pipeline.yaml").write_text(to_yaml(exported), encoding="utf-8")
        (temporary / "README.md").write_text(_README.format(run=run.name, folder=folder.name), encoding="utf-8")


def _bench_of_run(run: Path) -> Workbench:
    if not (run / "best.yaml").is_file():
        raise DataError(f"{run}: the run is not finished; run its climb command again to resume it")
    config: ExperimentConfig = load_experiment(run / "best.yaml")
    # A run lies in <cache>/runs/<id>: its stages are beside it, wherever the folder was moved to.
    runtime = config.runtime.model_copy(update={"cache_dir": str(run.absolute().parent.parent)})
    questions = ()
    if isinstance(config.pipeline.generate, LLMGeneratorSettings) and config.pipeline.generate.prompt.demonstrations:
        place = config.resources(run.absolute()).path(config.data.questions)
        if digest(files_identity(place)) != load_ladder(run).data.questions_sha256:
            raise DataError(
                f"the questions in {config.data.questions} have changed since {run.name}, and its prompt shows some of "
                "them as worked examples; climb again, or bring them back"
            )
        questions = load_questions(place)
    bench = Workbench(config.model_copy(update={"runtime": runtime}), run.absolute(), questions, Reporter(quiet=True))
    if digest(bench.corpus_identity(config.pipeline)["files"]) != load_ladder(run).data.documents_sha256:
        raise DataError(
            f"the documents in {config.data.documents} have changed since {run.name}: its pipeline would not be the "
            "one that was scored; climb again, or bring the documents back"
        )
    return bench


def _assemble(bench: Workbench, settings: PipelineConfig) -> Pipeline:
    dense, words = settings.retrieve.channels
    chunks = bench.get(bench.chunks_stage(settings))
    chunker = bench.component(settings.chunk)
    documents = bench.get(bench.documents_stage(settings)).documents
    larger = needs_documents(settings.retrieve, chunker)
    index = bm25 = None
    if dense:
        index = ready_index(bench, settings, bench.get(bench.vectors_stage(settings)))
    if words:
        bm25 = settings.bm25.build(bench.embedding_texts(settings))
    return Pipeline(
        chunks=chunks,
        settings=settings.retrieve,
        embedder=_adapted(bench.component(settings.embed), settings, bench.resources) if dense else None,
        index=index,
        bm25=bm25,
        reranker=None if settings.rerank.kind == "none" else bench.component(settings.rerank),
        generator=reader(bench, settings),
        chunker=chunker,
        documents={document.id: document for document in documents} if larger else {},
        transform=bench.component(settings.transform),
        vectors=bench.get(bench.vectors_stage(settings)) if settings.retrieve.mmr is not None else None,
        metadata=metadata_of(documents),
    )


def _with_models(settings: PipelineConfig, resources: Resources, out: Path) -> PipelineConfig:
    """The settings with every model that is a folder copied into `out/models` and named from there."""
    data = settings.model_dump(mode="json")
    # a reader's, a query transform's and a listwise reranker's model
    llms = {name: data[name].get("llm") or {} for name in ("generate", "transform", "rerank")}
    llm = llms["generate"]
    for section, key, name in (
        (data["embed"], "model", "embedding"),
        (data, "query_adapter", "query_adapter"),
        (data["rerank"], "model", "reranker"),
        (llm, "model", "llm"),
        (llm, "adapter", "adapter"),
        (llms["transform"], "model", "transform-llm"),
        (llms["transform"], "adapter", "transform-adapter"),
        (llms["rerank"], "model", "rerank-llm"),
        (llms["rerank"], "adapter", "rerank-adapter"),
    ):
        value = section.get(key)
        is_llm = any(section is one for one in llms.values())
        if not isinstance(value, str) or (is_llm and section.get("kind") != "local"):
            continue
        if section is data["rerank"] and section["kind"] == "endpoint":
            continue  # the name of a server's model
        if section is data["embed"] and section["kind"] == "openai":
            continue  # likewise
        source = Path(locate_model(value, resources.base_dir))
        if source.is_dir():
            shutil.copytree(
                source, out / "models" / name, ignore=shutil.ignore_patterns("__pycache__", "*.py", "checkpoint*")
            )
            section[key] = f"models/{name}"
    if data["embed"].get("calibration") is not None:
        (out / "models").mkdir(exist_ok=True)
        shutil.copyfile(resources.path(data["embed"]["calibration"]), out / "models" / "calibration.txt")
        data["embed"]["calibration"] = "models/calibration.txt"
    return PipelineConfig.model_validate(data)
