"""One YAML file, one experiment: data, pipeline, scores, rungs, gate, runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..core.components import Model, Resources
from ..core.config import load_config, read_yaml
from ..core.errors import ConfigError
from ..core.shared_store import check_store_url
from ..embeddings.adapter import QueryAdapterSettings
from ..embeddings.train import EmbedTrainSettings
from ..eval.answers import ANSWER_METRICS
from ..eval.custom_metrics import CustomMetric
from ..eval.data_settings import DataSettings
from ..eval.ir import document_metrics
from ..eval.judge import JudgeSettings
from ..eval.retrieval import retrieval_metrics
from ..eval.synth.settings import SynthSettings
from .embedding_search_settings import EmbeddingSearchSettings
from .gate import GateSettings
from .general_set import GeneralSetSettings
from .llm_settings import LLMRungSettings
from .measures import MEASURES
from .pair_sources import PairSource
from .pipeline_config import PipelineConfig, with_changes
from .sweep.settings import SweepSettings

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


class ScoreSettings(Model):
    """What is measured."""

    answer_metric: str = "answer_recall"
    """The end-to-end metric: ceilings, the target and the LLM rung's gate use it. answer_recall agrees best with people
    (docs/metrics.md); take token_f1 where answers must be short and in a fixed style. One of `custom` works too."""
    good_enough: float = Field(default=0.5, gt=0, le=1)
    """Value of the answer metric from which a question counts as answered in the diagnosis."""
    ks: tuple[int, ...] = (1, 3, 5, 10)
    """Cut-offs of the retrieval metrics."""
    budgets: tuple[int, ...] = (2000,)
    """Lengths of retrieved text in characters, for `evidence_recall@<n>c`, which compares chunk sizes fairly."""
    abstention: str = "Not documented"
    """How an answer begins that says: the documents do not tell."""
    precision_omega: bool = False
    """Adds the precision that exactly the chunks with evidence would have; costs next to nothing."""
    documents: bool = False
    """Adds `doc_ndcg@k`, `doc_recall@k`, `doc_precision@k`, `doc_mrr@k` and `doc_map`: BEIR's and trec_eval's metrics
    of whole documents, for data with relevance judgements. Cut-offs count documents: set `retrieve.fetch_k` above."""
    tokenizer: Literal["words", "cl100k"] = "words"
    """What `context_tokens@k` counts: words and punctuation marks, or OpenAI's byte pairs (about ten times slower)."""
    custom: tuple[CustomMetric, ...] = ()
    """Metrics of answers of your own, as `module:attribute`; costs what they cost."""
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

    @field_validator("custom")
    @classmethod
    def _names_are_free(cls, value: tuple[CustomMetric, ...]) -> tuple[CustomMetric, ...]:
        taken = [*ANSWER_METRICS, "mrr", "precision_omega", "doc_map"]
        for metric in value:
            if metric.name in taken:
                raise ValueError(f"the metric name '{metric.name}' is taken; give each of your own a new one")
            taken.append(metric.name)
        return value


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
    adapter: QueryAdapterSettings | None = QueryAdapterSettings()
    """The half-rung tried first: a query adapter, in seconds and without a new index, for any embedder. null: none."""
    train: EmbedTrainSettings | None = EmbedTrainSettings()
    """How the model is trained; null: the query adapter alone."""
    pairs: tuple[PairSource, ...] = ()
    """Further training pairs from files: pairs and triplets, BEIR judgements, logged clicks or ratings. They are added
    to those of the train questions, which may then be missing."""
    general: GeneralSetSettings | None = None
    """A set that is not trained for, on which forgetting is measured; null: none. Costs its encoding about thrice."""
    search: EmbeddingSearchSettings = EmbeddingSearchSettings()
    """What `ragladder embed search` tries; a climb does not search."""
    dev_candidates: int = Field(default=20, ge=1)
    """Chunks a dev question, as the incumbent ranks them, among which an epoch is scored, always with the evidence.
    More is nearer to the whole corpus, and each epoch takes longer."""
    fusion_weights: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Weights of dense that are tried on dev with the trained model where fusion is weighted; one search serves all."""

    @model_validator(mode="after")
    def _trains_something(self) -> EmbeddingRungSettings:
        if self.adapter is None and self.train is None:
            raise ValueError("adapter and train are both null, so there is nothing to train; leave the rung out")
        return self


class RungsSettings(Model):
    """The rungs to climb; one left out is skipped."""

    retrieval: RetrievalRungSettings | None = None
    """Retrieval knobs."""
    embedding: EmbeddingRungSettings | None = None
    """Embedding finetuning."""
    llm: LLMRungSettings | None = None
    """LoRA finetuning of the LLM."""

    def of(self, name: str) -> Model | None:
        """The settings of a rung; None where it is not configured. `prompt` is one where `llm.prompts` names any."""
        if name == "prompt":
            return self.llm if self.llm is not None and self.llm.prompts else None
        return getattr(self, name)

    def looks(self) -> int:
        """How many rungs may look at test, among which the gate divides its alpha."""
        return sum(self.of(name) is not None for name in ("retrieval", "embedding", "prompt", "llm"))


class RuntimeSettings(Model):
    """Where and how fast; never changes a result."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    workers: int = Field(default=1, ge=1)
    """Processes for parsing."""
    cache_dir: str = ".ragladder"
    """Stages, caches and runs, below the working directory."""
    store_url: str | None = None
    """Shares finished stages between machines without a common disk, at a URL that fsspec knows: `s3://bucket/prefix`,
    `gs://…`, `file:///mnt/share/stages`. What is there is fetched instead of computed, what is finished is uploaded:
    costs the transfer. Credentials come from where the protocol's package (s3fs, gcsfs …) looks, never from here."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Budget of a climb: no new rung or trial starts after it."""
    probe: Literal["auto", "always", "never"] = "auto"
    """Whether a climb measures what a configured rung that it did not try would take, by a few training steps on a
    model that is thrown away (once; the store keeps it). auto: on a GPU, and on a CPU for models below 1 GiB, where it
    takes seconds; always costs loading the model and four steps, in the memory of a training."""
    executor: Literal["serial", "processes", "ray"] = "serial"
    """Where the trials of `ragladder sweep` run: this process, `workers` processes here, or a Ray cluster."""
    track: tuple[Literal["mlflow", "wandb"], ...] = ()
    """Where finished climbs are logged too. Servers and keys are set as the tracker wants them, by its environment
    variables (`MLFLOW_TRACKING_URI`, `WANDB_API_KEY`, `WANDB_MODE`); no key stands in a config."""
    track_project: str = Field(default="ragladder", min_length=1)
    """MLflow's experiment, W&B's project."""
    ray_address: str | None = None
    """Of the cluster, `auto` or `ray://host:10001`; null starts one on this machine. Nodes must see the data at the
    same paths, and the cache too unless `store_url` is set."""

    @model_validator(mode="after")
    def _store_is_url(self) -> RuntimeSettings:
        # checked on the whole section, so that a message never repeats a URL with a password in it
        if self.store_url is not None:
            try:
                check_store_url(self.store_url)
            except ValueError as error:
                raise ValueError(f"store_url: {error}") from None
        return self


class ExperimentConfig(Model):
    """A whole experiment."""

    name: str = "experiment"
    """Part of the run's name."""
    seed: int = 0
    """Of everything random."""
    data: DataSettings
    """Documents and questions."""
    synth: SynthSettings = SynthSettings()
    """Synthetic questions; `ragladder data synth` alone looks at it."""
    pipeline: PipelineConfig = PipelineConfig()
    """The starting point."""
    score: ScoreSettings = ScoreSettings()
    """What is measured."""
    published: PublishedSettings | None = None
    """Figures to reproduce; `ragladder eval` alone looks at them."""
    rungs: RungsSettings = RungsSettings()
    """What is climbed."""
    sweep: SweepSettings | None = None
    """What `ragladder sweep` tries; a climb does not look at it."""
    gate: GateSettings = GateSettings()
    """When a candidate is adopted."""
    runtime: RuntimeSettings = RuntimeSettings()
    """Where it runs."""

    @model_validator(mode="after")
    def _metrics_exist(self) -> ExperimentConfig:
        score = self.score
        # what training is stopped by is computed on a few candidates, without the rest of the corpus
        evidence = {*retrieval_metrics(score.ks, score.budgets, precision_omega=False)}
        known = evidence | {*retrieval_metrics(score.ks, score.budgets, score.precision_omega)}
        known |= {*document_metrics(score.ks)} if score.documents else set()
        answers: set[str] = {*ANSWER_METRICS, *(metric.name for metric in score.custom)}
        computed = {"score.answer_metric": (self.score.answer_metric, answers)}
        rungs = (("retrieval", self.rungs.retrieval, known), ("embedding", self.rungs.embedding, evidence))
        for name, rung, there in rungs:
            if rung is not None:
                computed[f"rungs.{name}.metric"] = (rung.metric, there)
        if self.rungs.llm is not None and self.rungs.llm.metric is not None:
            computed["rungs.llm.metric"] = (self.rungs.llm.metric, known | answers)
        for metric in self.gate.guardrails:
            # RAGAS and judged metrics have a prefix; which of them are computed depends on the questions too.
            if "/" not in metric:
                computed[f"gate.guardrails.{metric}"] = (metric, known | answers)
        if self.sweep is not None:
            costs = {f"{name}@{k}" for name in ("context_chars", "context_tokens") for k in score.ks}
            measured = known | answers | costs | {*MEASURES}
            sections = PipelineConfig.model_fields
            limits = [name for name in self.sweep.constrained() if name.split(".")[0] not in sections]
            for key, names in (("sweep.objectives", self.sweep.objectives), ("sweep.constraints", limits)):
                computed |= {f"{key}.{n}": (name, measured) for n, name in enumerate(names) if "/" not in name}
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


def _misfits(
    config: ExperimentConfig,
    path: Path,
    lines: Mapping[tuple[str | int, ...], int],
    section: tuple[str, ...],
    axes: Mapping[str, Sequence[Any]],
) -> list[str]:
    """Axes without values, and values that do not fit the pipeline, each with its line."""
    problems = []
    for axis, values in axes.items():
        line = lines.get((*section, axis))
        where, key = f"{path}:{line}" if line else str(path), ".".join(section)
        if not values:
            problems.append(f"{where}: {key}.{axis}: no values")
        for value in values:
            try:
                with_changes(config.pipeline, {axis: value})
            except ConfigError as error:
                problems += [f"{where}: {key}: {text}" for text in str(error).splitlines()]
    return problems


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Loads an experiment and checks that the values it wants tried fit the pipeline.

    Raises:
        ConfigError: Listing all that is wrong.
    """
    config = load_config(Path(path), ExperimentConfig, overrides)
    _, lines = read_yaml(Path(path))
    problems = []
    if config.rungs.retrieval is not None:
        problems += _misfits(config, path, lines, ("rungs", "retrieval", "space"), config.rungs.retrieval.space)
    if config.rungs.llm is not None and "prompts" in config.rungs.llm.model_fields_set:
        problems += _misfits(config, path, lines, ("rungs", "llm", "prompts"), config.rungs.llm.prompts)
    if config.sweep is not None:
        from .sweep.space import Space

        problems += Space(config.pipeline, config.sweep).problems(str(path), lines)
    if problems:
        raise ConfigError("\n".join(problems))
    data = config.data.located(Path(path).absolute().parent, Path(config.runtime.cache_dir).absolute())
    return config.model_copy(update={"data": data})
