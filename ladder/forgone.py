"""What a rung that was not tried would cost, and could win at most: the other side of "stop here".

The gain is the diagnosis' ceiling, taken anew at the pipeline that the climb ended with. The time is that of a few
training steps, really made on a model that is thrown away. What was not measured is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import RagladderError
from ..core.memory import release_memory
from ..core.store import Stage
from ..embeddings.probe import STEPS
from ..llm_ft.estimate import EstimateSettings, estimate_training
from .config import EmbeddingRungSettings, PipelineConfig
from .diagnose import within_reach
from .llm_settings import LLMRungSettings
from .plan import count_trials
from .records import ForgoneRecord
from .rungs.base import RungContext
from .rungs.embedding_data import embedding_data, trainable
from .rungs.embedding_estimate import embedding_estimate
from .rungs.embedding_stages import embedding_stage
from .rungs.llm_data import base_folder, lora_data, trained_prompt
from .rungs.llm_train import lora_stage
from .workbench import Evaluation, Workbench

__all__ = ["SMALL_MODEL", "forgone"]

SMALL_MODEL = 2**30
"""Bytes of weights below which `runtime.probe: auto` trains a few steps on a CPU."""


class _Unmeasured(Exception):
    """The time is not known; the message says why."""


def forgone(context: RungContext, rung: str, final: Evaluation) -> ForgoneRecord:
    """What a rung would cost and could win, where the climb ended.

    Nothing that fails here ends the climb: it becomes the reason why a figure is missing.

    Args:
        context: Its incumbent is the pipeline that the climb ended with.
        rung: `retrieval`, `embedding` or `llm`.
        final: That pipeline on dev.
    """
    nothing = _nothing_to_change(rung, context.incumbent)
    questions, gain, gain_note = 0, None, f"not measured: {nothing}"
    if nothing is None:
        supposing = "were answered in full" if rung == "llm" else "had their evidence first in the context"
        gain_note = f"if the questions lost there {supposing}"
        try:
            questions, gain = within_reach(context.bench, final, rung)
        except RagladderError as error:
            gain_note = f"not measured: {error}"
    seconds = None
    try:
        if nothing is not None:
            raise _Unmeasured(nothing)
        seconds, cost_note = _time_of(context, rung)
    except (_Unmeasured, RagladderError) as error:
        cost_note = f"not measured: {error}"
    return ForgoneRecord(
        questions=questions,
        of=len(final.questions),
        gain=gain,
        gain_note=gain_note,
        seconds=seconds,
        cost_note=cost_note,
        device=context.bench.resources.device.split(":")[0],
    )


def _nothing_to_change(rung: str, pipeline: PipelineConfig) -> str | None:
    """Why the rung has nothing to work on in this pipeline."""
    if rung == "embedding" and pipeline.retrieve.mode == "bm25":
        return "the pipeline searches words only, so it has no vectors to improve"
    if rung == "llm" and pipeline.generate.kind != "llm":
        return f"the pipeline answers with '{pipeline.generate.kind}', which has no weights to finetune"
    return None


def _time_of(context: RungContext, rung: str) -> tuple[float, str]:
    """Seconds of the rung's training, and how they were measured.

    Raises:
        _Unmeasured: There is no way, or no leave, to measure them.
        RagladderError: A step failed.
    """
    rungs = context.bench.config.rungs
    settings = getattr(rungs, rung)
    if settings is None:
        raise _Unmeasured(f"rungs.{rung} is not configured")
    if rungs.retrieval is not None and rung == "retrieval":
        raise _Unmeasured(f"at most {count_trials(rungs.retrieval)} trials, of which none was made")
    if context.bench.config.runtime.probe == "never":
        raise _Unmeasured("runtime.probe is never")
    context.check_budget()
    embedding = isinstance(settings, EmbeddingRungSettings)
    stage, note = _embedding(context, settings) if embedding else _llm(context, settings)
    return context.bench.get(stage), note


def _embedding(context: RungContext, settings: EmbeddingRungSettings) -> tuple[Stage[float], str]:
    bench, pipeline = context.bench, context.incumbent
    if settings.train is None or not trainable(pipeline):
        raise _Unmeasured("a query adapter alone would be trained, which is not probed")
    embedder = bench.component(pipeline.embed)
    _check_small(bench, Path(embedder.source))
    data = embedding_data(bench, pipeline, settings)

    def measure() -> float:
        context.note(f"embedding: not tried; {STEPS} steps are made to see what it would cost")
        return embedding_estimate(bench, pipeline, settings, data).seconds

    note = f"training alone, from {STEPS} steps that were made; scoring on dev and a new index come on top"
    return _probe(bench, embedding_stage(bench, pipeline, settings, data), measure), note


def _llm(context: RungContext, settings: LLMRungSettings) -> tuple[Stage[float], str]:
    bench = context.bench
    if settings.teacher is not None:
        raise _Unmeasured("a teacher would write the examples first, and its calls cost money")
    plain = trained_prompt(context.incumbent, settings)
    _check_small(bench, base_folder(bench, plain))
    data = lora_data(bench, plain, settings)
    data.report.raise_errors()
    probe = EstimateSettings()

    def measure() -> float:
        context.note(f"llm: not tried; {probe.probe_steps} steps are made to see what it would cost")
        train, dev = data.train.examples, data.dev.examples
        return estimate_training(data.base, train, dev, settings.train, probe, bench.resources).seconds

    more = [name for name in ("search", "sizes", "curve", "preference") if getattr(settings, name)]
    further = f"one training of several (rungs.llm.{', rungs.llm.'.join(more)})" if more else "training and dev loss"
    note = f"{further}, from {probe.probe_steps} steps that were made; answering dev and test comes on top"
    return _probe(bench, lora_stage(bench, data, settings), measure), note


def _probe(bench: Workbench, training: Stage[Any], measure: Callable[[], float]) -> Stage[float]:
    """The measurement as a stage, so that it is made once for a training."""

    def build(out: Path) -> None:
        bench.release_models()
        release_memory()
        (out / "probe.json").write_text(json.dumps({"seconds": measure()}))
        release_memory()

    def load(out: Path) -> float:
        return json.loads((out / "probe.json").read_text())["seconds"]

    return Stage(f"{training.name}-probe", {"training": training.key}, build, load)


def _check_small(bench: Workbench, folder: Path) -> None:
    """Stops where the config leaves it to the size of the model, and that is large for a CPU."""
    if bench.config.runtime.probe == "always" or bench.resources.device.startswith("cuda"):
        return
    weights = [*folder.rglob("*.safetensors")] or [*folder.rglob("*.bin")]
    if not weights:
        raise _Unmeasured(f"the size of '{folder}' is not known; set runtime.probe to always")
    size = sum(path.stat().st_size for path in weights)
    if size > SMALL_MODEL:
        raise _Unmeasured(f"{size / 2**30:.1f} GiB of weights are slow to probe on a CPU; set runtime.probe to always")
