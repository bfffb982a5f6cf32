"""One YAML file, one experiment: data, pipeline, scores, rungs, gate, runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..core.components import Model, Resources
from ..core.config import apply_overrides, load_config, read_yaml, validate
from ..core.errors import ConfigError
from ..embeddings.encode import EmbedSection, SentenceTransformerSettings
from ..embeddings.train import EmbedTrainSettings
from ..eval.answers import ANSWER_METRICS
from ..eval.data_settings import DataSettings
from ..eval.judge import JudgeSettings
from ..llm_ft.checks import CheckSettings
from ..llm_ft.examples import ExampleSettings
from ..llm_ft.settings import LoraSettings
from ..rag.chunk import ChunkSection, RecursiveSettings
from ..rag.context import ContextSection, NoneSettings
from ..rag.generate import ExtractiveSettings, GeneratorSection
from ..rag.index import BM25Settings, FlatIndexSettings, IndexSection
from ..rag.parse import ParseSettings
from ..rag.rerank import NoRerankerSettings, RerankerSection
from ..rag.retrieve import RetrieveSettings
from .gate import GateSettings

__all__ = [
    "DataSettings",
    "EmbeddingRungSettings",
    "ExperimentConfig",
    "LLMRungSettings",
    "PipelineConfig",
    "PublishedRow",
    "PublishedSettings",
    "RetrievalRungSettings",
    "RungsSettings",
    "RuntimeSettings",
    "ScoreSettings",
    "load_experiment",
    "with_changes",
]


class PipelineConfig(Model):
    """One RAG pipeline, from files to answers."""

    parse: ParseSettings = ParseSettings()
    """How files become text."""
    chunk: ChunkSection = RecursiveSettings()  # pyright: ignore[reportInvalidTypeForm]
    """How text is cut."""
    context: ContextSection = NoneSettings()  # pyright: ignore[reportInvalidTypeForm]
    """What is embedded with a chunk."""
    embed: EmbedSection = SentenceTransformerSettings()  # pyright: ignore[reportInvalidTypeForm]
    """The embedding model."""
    index: IndexSection = FlatIndexSettings()  # pyright: ignore[reportInvalidTypeForm]
    """The vector index."""
    bm25: BM25Settings = BM25Settings()
    """Lexical search, used where `retrieve.mode` is bm25 or hybrid."""
    retrieve: RetrieveSettings = RetrieveSettings()
    """Search and fusion."""
    rerank: RerankerSection = NoRerankerSettings()  # pyright: ignore[reportInvalidTypeForm]
    """A second, dearer look at the best hits."""
    generate: GeneratorSection = ExtractiveSettings()  # pyright: ignore[reportInvalidTypeForm]
    """Who answers."""


class ScoreSettings(Model):
    """What is measured."""

    answer_metric: str = "token_f1"
    """The end-to-end metric: ceilings, the target and the LLM rung's gate use it."""
    good_enough: float = Field(default=0.5, gt=0, le=1)
    """Value of the answer metric from which a question counts as answered in the diagnosis."""
    ks: tuple[int, ...] = (1, 3, 5, 10)
    """Cut-offs of the retrieval metrics."""
    budgets: tuple[int, ...] = (2000,)
    """Lengths of retrieved text in characters, for `evidence_recall@<n>c`, which compares chunk sizes fairly."""
    abstention: str = "Not documented"
    """How an answer begins that says: the documents do not tell."""
    precision_omega: bool = False
    """Adds the precision that exactly the chunks with evidence would have; costs about a second for 10,000 chunks."""
    ragas: bool = True
    """RAGAS metrics that need no LLM; a few seconds an arm."""
    judge: JudgeSettings | None = None
    """RAGAS metrics that an LLM judges; costs LLM calls."""

    @field_validator("ks", "budgets")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("need one number or more, each at least 1")
        return tuple(sorted(set(value)))


class PublishedRow(Model):
    """A pipeline with published scores."""

    name: str
    """As in the published table."""
    changes: dict[str, Any] = {}
    """Key paths below `pipeline` and their values; none means the pipeline as it is."""
    scores: dict[str, float]
    """Metric and published mean."""


class PublishedSettings(Model):
    """A published table, which `ragladder eval` reproduces and prints side by side with its own figures."""

    source: str
    """Where it was published."""
    tolerance: float = Field(gt=0)
    """Difference up to which two figures agree."""
    rows: tuple[PublishedRow, ...] = Field(min_length=1)
    """One evaluation each."""


class RetrievalRungSettings(Model):
    """Rung 1: a sweep over retrieval knobs, chosen on dev, gated on test."""

    metric: str = "evidence_recall@2000c"
    """What the gate and the retrieval axes maximise."""
    space: dict[str, list[Any]] = {}
    """Axes: a key path below `pipeline` and its values, tried in this order."""
    search: Literal["coordinate", "grid", "random"] = "coordinate"
    """coordinate: an axis at a time, the best value kept; grid: all; random: `trials` of the grid."""
    passes: int = Field(default=2, ge=1)
    """coordinate: rounds over the axes, so that knobs that only pay together are found; a round that finds nothing
    is the last."""
    trials: int | None = Field(default=None, ge=1)
    """Most trials."""


class EmbeddingRungSettings(Model):
    """Rung 2: contrastive finetuning of the embedding model on the train questions."""

    metric: str = "ndcg@10"
    """What early stopping and the gate maximise."""
    train: EmbedTrainSettings = EmbedTrainSettings()
    """How it is trained."""
    dev_candidates: int = Field(default=20, ge=1)
    """Chunks a dev question, as the incumbent ranks them, among which an epoch is scored, always with the evidence.
    More is nearer to the whole corpus, and each epoch takes longer."""
    fusion_weights: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Weights of dense that are tried on dev with the trained model where fusion is weighted; one search serves all."""


class LLMRungSettings(Model):
    """Rung 3: LoRA finetuning of the LLM on the train questions, through the tuned retriever."""

    metric: str | None = None
    """What the gate looks at; the answer metric where not set."""
    data: ExampleSettings = ExampleSettings()
    """How the training examples are made; `top_k` is the pipeline's where it is not set."""
    checks: CheckSettings = CheckSettings()
    """What must hold of them before training."""
    train: LoraSettings = LoraSettings()
    """How it is trained."""


class RungsSettings(Model):
    """The rungs to climb; one left out is skipped."""

    retrieval: RetrievalRungSettings | None = None
    """Retrieval knobs."""
    embedding: EmbeddingRungSettings | None = None
    """Embedding finetuning."""
    llm: LLMRungSettings | None = None
    """LoRA finetuning of the LLM."""


class RuntimeSettings(Model):
    """Where and how fast; never changes a result."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    workers: int = Field(default=1, ge=1)
    """Processes for parsing."""
    cache_dir: str = ".ragladder"
    """Stages, caches and runs, below the working directory."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Budget of a climb: no new rung or trial starts after it."""


class ExperimentConfig(Model):
    """A whole experiment."""

    name: str = "experiment"
    """Part of the run's name."""
    seed: int = 0
    """Of everything random."""
    data: DataSettings
    """Documents and questions."""
    pipeline: PipelineConfig = PipelineConfig()
    """The starting point."""
    score: ScoreSettings = ScoreSettings()
    """What is measured."""
    published: PublishedSettings | None = None
    """Figures to reproduce; `ragladder eval` alone looks at them."""
    rungs: RungsSettings = RungsSettings()
    """What is climbed."""
    gate: GateSettings = GateSettings()
    """When a candidate is adopted."""
    runtime: RuntimeSettings = RuntimeSettings()
    """Where it runs."""

    @model_validator(mode="after")
    def _metrics_exist(self) -> ExperimentConfig:
        known = {
            f"{n}@{k}"
            for k in self.score.ks
            for n in ("hit", "evidence_recall", "ndcg", "token_recall", "token_precision", "token_iou")
        }
        known |= {f"evidence_recall@{b}c" for b in self.score.budgets} | {"mrr"}
        answers: set[str] = {*ANSWER_METRICS}
        computed = {"score.answer_metric": (self.score.answer_metric, answers)}
        for name, rung in (("retrieval", self.rungs.retrieval), ("embedding", self.rungs.embedding)):
            if rung is not None:
                computed[f"rungs.{name}.metric"] = (rung.metric, known)
        if self.rungs.llm is not None and self.rungs.llm.metric is not None:
            computed["rungs.llm.metric"] = (self.rungs.llm.metric, known | answers)
        for metric in self.gate.guardrails:
            # RAGAS and judged metrics have a prefix; which of them are computed depends on the questions too.
            if "/" not in metric:
                computed[f"gate.guardrails.{metric}"] = (metric, known | answers)
        for key, (metric, there) in computed.items():
            if metric not in there:
                shown = ", ".join(sorted(there))
                raise ValueError(f"{key} '{metric}' is not computed (see score.ks and score.budgets); known: {shown}")
        return self

    def resources(self, base_dir: Path) -> Resources:
        """What the components may use; the device is resolved."""
        from ..core.devices import resolve_device

        return Resources(
            device=resolve_device(self.runtime.device),
            workers=self.runtime.workers,
            base_dir=base_dir,
            cache_dir=Path(self.runtime.cache_dir).absolute(),
        )


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Loads an experiment and checks that its sweep axes fit the pipeline.

    Raises:
        ConfigError: Listing all that is wrong.
    """
    config = load_config(Path(path), ExperimentConfig, overrides)
    _, lines = read_yaml(Path(path))
    problems = []
    space = config.rungs.retrieval.space if config.rungs.retrieval else {}
    for axis, values in space.items():
        line = lines.get(("rungs", "retrieval", "space", axis))
        where = f"{path}:{line}" if line else str(path)
        if not values:
            problems.append(f"{where}: rungs.retrieval.space.{axis}: no values")
        for value in values:
            try:
                with_changes(config.pipeline, {axis: value})
            except ConfigError as error:
                problems += [f"{where}: rungs.retrieval.space: {text}" for text in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    data = config.data.located(Path(path).absolute().parent, Path(config.runtime.cache_dir).absolute())
    return config.model_copy(update={"data": data})


def with_changes(pipeline: PipelineConfig, changes: dict[str, Any]) -> PipelineConfig:
    """A pipeline with some settings changed.

    Args:
        pipeline: The starting point.
        changes: Key path below `pipeline`: new value. A mapping replaces the whole section.

    Raises:
        ConfigError: A value does not fit.
    """
    import json

    data = pipeline.model_dump(mode="json")
    overrides = [f"{path}={json.dumps(value)}" for path, value in changes.items()]
    named = ", ".join(f"{path}={json.dumps(value)}" for path, value in changes.items())
    return validate(apply_overrides(data, overrides), PipelineConfig, f"pipeline with {named}")
