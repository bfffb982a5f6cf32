"""The trainings of the embedding rung as stages: what was trained once, by a climb or a command, is found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.cache import digest
from ...core.devices import fingerprint
from ...core.errors import ConfigError
from ...core.memory import release_memory
from ...core.store import Stage
from ...embeddings.adapter import RESULT as ADAPTER_RESULT
from ...embeddings.adapter import AdapterResult, QueryAdapterSettings, train_query_adapter
from ...embeddings.encode import SentenceTransformerSettings, model_folder
from ...embeddings.mine import MiningCorpus
from ...embeddings.train import EmbedTrainSettings, GeneralCheck, TrainResult, train_embedder
from ...eval.statistics import paired_comparison
from ..config import EmbeddingRungSettings, PipelineConfig
from ..general_set import GeneralSet, general_set
from ..workbench import Workbench
from .dev_scorer import DevScorer
from .embedding_data import EmbeddingData, check_trainable, mining_candidates

__all__ = ["adapter_stage", "embedding_stage", "trained_adapter", "training_checkpoints"]

# What does not change a trained model, or is in the stage's key by its content.
_NOT_IN_KEY: Any = {"adapter": True, "pairs": True, "search": True, "general": {"path"}, "train": {"report_to"}}


def embedding_stage(
    bench: Workbench,
    pipeline: PipelineConfig,
    settings: EmbeddingRungSettings,
    data: EmbeddingData,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Stage[dict[str, Any]]:
    """The training as a stage: its folder gets `model/`, its result is the `TrainResult` as JSON values.

    Beside the model lies `dev_values.json` with the dev score of each question before and after.

    Args:
        bench: Questions and stages.
        pipeline: Whose embedder is trained, and how dev is searched with it.
        settings: Metric and training.
        data: From `embedding_data` of the same pipeline.
        on_epoch: Told of each epoch and its dev score; what it raises ends the training.

    Raises:
        ConfigError: The embedder cannot be trained, or the rung trains the query adapter alone.
        DataError: Hard negatives are asked for, and there are no documents to mine them from; or the general set
            cannot be read.
    """
    check_trainable(pipeline)
    if settings.train is None:
        raise ConfigError("rungs.embedding.train is null, so that the query adapter alone is trained")
    training = _Training(
        bench,
        pipeline,
        settings,
        settings.train,
        data,
        mining_candidates(bench, data) if settings.train.hard_negatives else None,
        general_set(settings.general, bench.resources) if settings.general else None,
        on_epoch,
    )
    params = training.params()
    checkpoints = training_checkpoints(bench, params)

    def load(out: Path) -> dict[str, Any]:
        # Not before the stage is whole: a kill until then would have cost the training.
        shutil.rmtree(checkpoints, ignore_errors=True)
        return json.loads((out / "training.json").read_text())

    return Stage("embedding-train", params, training.build, load)


def training_checkpoints(bench: Workbench, params: Any) -> Path:
    """Where a training with these parameters keeps its checkpoints: outside the stage's folder, to survive a kill."""
    return bench.resources.cache_dir / "training" / f"embedding-{digest(dict(params))[:20]}"


@dataclass(frozen=True)
class _Training:
    """All that a training needs, and what of it determines the result."""

    bench: Workbench
    pipeline: PipelineConfig
    settings: EmbeddingRungSettings
    train: EmbedTrainSettings
    data: EmbeddingData
    mining: MiningCorpus | None
    general: GeneralSet | None
    on_epoch: Callable[[int, float], None] | None

    def params(self) -> dict[str, Any]:
        """The stage's parameters."""
        bench, pipeline, mining, general = self.bench, self.pipeline, self.mining, self.general
        params = {
            "base": pipeline.embed.identity(bench.resources),
            "settings": self.settings.model_dump(mode="json", exclude=_NOT_IN_KEY),
            "pairs": digest([[p.query, p.positive, *p.negatives, list(p.scores)] for p in self.data.pairs]),
            "mining": digest(list(mining.texts)) if mining else None,
            "dev": _dev_identity(bench),
            "pipeline": digest(pipeline.model_dump(mode="json", exclude={"generate", "embed"})),
            # bf16 on a GPU and on a CPU are not the same training.
            "device": bench.resources.device.split(":")[0],
        }
        if general:
            params["general"] = digest([list(general.questions), dict(general.documents)])
        helpers = self._helpers()
        if helpers:
            params["models"] = helpers
        return params

    def _helpers(self) -> dict[str, str]:
        """Fingerprints of the models that help to train: a folder's content may change under its name."""
        train, resources = self.train, self.bench.resources
        judge = train.hard_negatives.cross_encoder if train.hard_negatives else None
        named = {"guide": train.guide, "teacher": train.teacher, "cross_encoder": judge}
        return {role: fingerprint(model_folder(name, resources)) for role, name in named.items() if name is not None}

    def build(self, out: Path) -> None:
        """Trains."""
        bench, embed = self.bench, self.pipeline.embed
        scorer = DevScorer(bench, self.pipeline, self.settings, self.data.chunks, self.data.texts)
        source = bench.component(embed).source
        bench.release_models()
        result = train_embedder(
            source,
            self.data.pairs.pairs,
            scorer,
            self.train,
            out,
            bench.resources,
            bench.reporter,
            embedder=embed if isinstance(embed, SentenceTransformerSettings) else None,
            mining=self.mining,
            checkpoints=training_checkpoints(bench, self.params()),
            general=self._general_check(),
            on_epoch=self.on_epoch,
        )
        self._note_dev_values(out, result, scorer)
        release_memory()

    def _general_check(self) -> GeneralCheck | None:
        rules = self.settings.general
        return GeneralCheck(self.general.score, rules.max_loss, rules.tries) if self.general and rules else None

    def _note_dev_values(self, out: Path, result: TrainResult, scorer: DevScorer) -> None:
        """Keeps the dev score of each question before and after, and writes the paired difference into the card."""
        base, best = scorer.first, scorer.seen(result.best_score)
        if best is None:
            embed = self.pipeline.embed
            serving = embed.on_torch() if isinstance(embed, SentenceTransformerSettings) else None
            here = (serving or SentenceTransformerSettings()).model_copy(update={"model": str(out / "model")})
            best = scorer.values(here.build(self.bench.resources).encode)
        (out / "dev_values.json").write_text(json.dumps({"base": base, "best": best}))
        ids = sorted(base)
        if len(ids) < 2:
            return
        found = paired_comparison([best[i] for i in ids], [base[i] for i in ids])
        text = (
            f"\nData: {self.data.pairs.summary()}.\n\nDev {self.settings.metric}, {len(ids)} questions: "
            f"{result.base_score:.4f} before, {result.best_score:.4f} after; difference {found.difference:+.4f}, "
            f"95% interval [{found.low:+.4f}, {found.high:+.4f}] (paired, over questions).\n"
        )
        card = out / "model" / "README.md"
        card.write_text(card.read_text(encoding="utf-8") + text, encoding="utf-8")


def _dev_identity(bench: Workbench) -> str:
    """Digest of the dev questions and their evidence, which choose among trained models."""
    return digest([[q.id, q.text, [e.text for e in q.evidence]] for q in bench.split("dev")])


def trained_adapter(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData
) -> tuple[Path, AdapterResult]:
    """The query adapter's folder and how its training went; trained first where the store lacks it."""
    stage = adapter_stage(bench, pipeline, settings, data)
    return bench.store.folder(stage), bench.get(stage)


def adapter_stage(
    bench: Workbench, pipeline: PipelineConfig, settings: EmbeddingRungSettings, data: EmbeddingData
) -> Stage[AdapterResult]:
    """The training of the query adapter as a stage, whatever the embedder is.

    Args:
        bench: Questions, vectors and stages.
        pipeline: Whose query vectors are adapted, and how dev is searched with them.
        settings: Metric and training.
        data: From `embedding_data` of the same pipeline.
    """
    adapter = settings.adapter or QueryAdapterSettings()
    params = {
        "embedder": pipeline.embed.identity(bench.resources),
        "settings": adapter.model_dump(mode="json"),
        "metric": settings.metric,
        "dev_candidates": settings.dev_candidates,
        "pairs": digest([[pair.query, pair.positive] for pair in data.pairs]),
        "dev": _dev_identity(bench),
        "pipeline": digest(pipeline.model_dump(mode="json", exclude={"generate", "embed"})),
    }

    def build(out: Path) -> None:
        evaluator = DevScorer(bench, pipeline, settings, data.chunks, data.texts)
        encode = bench.embedder(pipeline).encode
        train_query_adapter(data.pairs.pairs, encode, evaluator, adapter, out, bench.reporter)

    def load(out: Path) -> AdapterResult:
        return AdapterResult.model_validate_json((out / ADAPTER_RESULT).read_text())

    return Stage("query-adapter", params, build, load)
