"""What a sweep is about to compute, counted by stage, before anything dear is computed.

Parsing and chunking are cheap and needed anyway: they are done first, and kept, so that texts can be counted. A few
texts are encoded, and kept too, to tell how long the rest takes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import BudgetError, RagladderError
from ...core.words import counted
from ..config import PipelineConfig
from ..workbench import Workbench
from .costs import calls_of
from .evaluate import Needs, Task
from .ranking import search_key
from .space import Configuration, key_of

__all__ = ["SweepPlan", "by_prefix", "plan_sweep"]

_SAMPLE = 64
_DEAR = {"chunk": ("semantic", "cluster_semantic"), "context": ("late", "llm")}
"""Components that encode or ask an LLM to make the texts: they are not run for a plan."""


@dataclass
class SweepPlan:
    """Counts of what a sweep needs, and of what the store has already.

    Attributes:
        trials: Configurations.
        recorded: Of these, scored by an earlier command.
        parses: Different parsings.
        chunkings: Different chunkings.
        encodings: Different encodings of a corpus.
        texts: Unique texts to encode, those in the cache left out.
        searches: Different searches.
        calls: LLM calls at most, by what they are for; those of recorded trials left out.
        beside: Whether the pipeline as configured is scored too, being no trial of the search.
        seconds: Estimate of the encoding; None where nothing is known of it.
        failing: Why some configurations will fail.
        uncounted: Chunkings whose texts were not counted.
        unwritten: Chunkings for whose chunks an LLM is to write, and that were not counted.
        left_out: Points of the space that are no valid configuration, and why the first is none.
    """

    trials: int = 0
    recorded: int = 0
    parses: int = 0
    chunkings: int = 0
    encodings: int = 0
    texts: int = 0
    searches: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    beside: bool = False
    seconds: float | None = None
    failing: dict[str, int] = field(default_factory=dict)
    uncounted: int = 0
    unwritten: int = 0
    left_out: tuple[int, str] = (0, "")

    def lines(self, at_most: bool = False) -> list[str]:
        """In words."""
        about = f"; encoding takes about {_duration(self.seconds)}" if self.seconds is not None else ""
        texts = f" of {self.texts:,} unique texts not yet encoded" if self.encodings else ""
        lines = [
            f"{'at most ' if at_most else ''}{counted(self.trials, 'trial')}"
            f"{' and the pipeline as configured' if self.beside else ''} = {counted(self.parses, 'parse')}, "
            f"{counted(self.chunkings, 'chunking')}, {counted(self.encodings, 'encoding')}{texts}, "
            f"{counted(self.searches, 'search', 'searches')}{about}, {self._calls()}"
        ]
        if self.uncounted:
            lines.append(f"texts of {counted(self.uncounted, 'chunking')} that a model makes are not counted")
        if self.unwritten:
            lines.append(f"LLM calls for the context of {counted(self.unwritten, 'chunking')} are not counted")
        if self.left_out[0]:
            count, example = self.left_out
            lines.append(f"{counted(count, 'point')} of the space left out as not valid, for instance: {example}")
        if self.recorded:
            lines.append(f"{counted(self.recorded, 'trial')} recorded before, not run again")
        lines += [f"{counted(count, 'trial')} will fail: {why}" for why, count in self.failing.items()]
        return lines

    @property
    def llm_calls(self) -> int:
        """Of all kinds, at most."""
        return sum(self.calls.values())

    def _calls(self) -> str:
        if not self.llm_calls:
            return "0 LLM calls"
        parts = ", ".join(f"{count:,} {what}" for what, count in self.calls.items() if count)
        return f"at most {counted(self.llm_calls, 'LLM call')} ({parts})"


def plan_sweep(
    bench: Workbench,
    chosen: Sequence[Configuration],
    needs: Needs,
    recorded: set[str],
    questions: int,
    most: int | None = None,
    baseline: Configuration | None = None,
) -> SweepPlan:
    """Counts what configurations need.

    Args:
        bench: Chunks what has to be counted.
        chosen: The configurations; those of a guided search are all that it could propose.
        needs: What is measured.
        recorded: Keys of configurations with a result.
        questions: That are asked.
        most: Trials at most, where not all are tried.
        baseline: The pipeline as configured, where it is scored beside the configurations.
    """
    trials = len(chosen) if most is None else min(len(chosen), most)
    plan = SweepPlan(trials=trials, recorded=sum(c.key in recorded for c in chosen), beside=baseline is not None)
    parses, chunkings, searches = set(), set(), set()
    encodings: dict[str, PipelineConfig] = {}
    calls: dict[str, dict[str, int]] = {}
    for configuration in [*([] if baseline is None else [baseline]), *chosen]:
        pipeline = configuration.pipeline
        try:
            chunk = bench.chunks_stage(pipeline)
            if pipeline.retrieve.channels[0]:
                encodings.setdefault(bench.vectors_stage(pipeline).key, pipeline)
        except (RagladderError, OSError) as error:
            plan.failing[str(error)] = plan.failing.get(str(error), 0) + 1
            continue
        parses.add(bench.documents_stage(pipeline).key)
        chunkings.add(chunk.key)
        searches.add(search_key(pipeline))
        if configuration.key not in recorded:
            _count_calls(bench, pipeline, needs, questions, calls, plan)
    plan.parses, plan.chunkings, plan.searches = len(parses), len(chunkings), len(searches)
    plan.encodings = len(encodings)
    tried = None if most is None else most + plan.beside
    plan.calls = {what: sum(sorted(of.values(), reverse=True)[:tried]) for what, of in calls.items()}
    _count_texts(bench, list(encodings.values()), plan)
    return plan


def _count_calls(
    bench: Workbench,
    pipeline: PipelineConfig,
    needs: Needs,
    questions: int,
    calls: dict[str, dict[str, int]],
    plan: SweepPlan,
) -> None:
    """Adds a configuration's LLM calls to `calls`: by kind, then by what determines them."""
    judge = bench.config.score.judge if needs.judged else None
    for one in calls_of(pipeline, questions, needs.answers, judge):
        kept = calls.setdefault(one.what, {})
        if one.key in kept:
            continue
        if one.count is not None:
            kept[one.key] = one.count
        elif pipeline.chunk.kind in _DEAR["chunk"]:
            plan.unwritten += 1
            kept[one.key] = 0
        else:
            kept[one.key] = _chunks(bench, pipeline)


def _chunks(bench: Workbench, pipeline: PipelineConfig) -> int:
    try:
        return len(bench.get(bench.chunks_stage(pipeline)))
    except BudgetError:
        raise
    except Exception:  # of a component, which can be anybody's; the trial records it
        return 0


def _count_texts(bench: Workbench, pipelines: Sequence[PipelineConfig], plan: SweepPlan) -> None:
    """Fills `texts`, `seconds`, `uncounted` and, for a chunker that raises, nothing: its trials will say so."""
    todo: dict[str, tuple[PipelineConfig, dict[str, None]]] = {}
    chunkings: set[str] = set()
    for pipeline in pipelines:
        stage = bench.chunks_stage(pipeline)
        if bench.store.has(bench.vectors_stage(pipeline)):
            continue
        if any(getattr(pipeline, section).kind in kinds for section, kinds in _DEAR.items()):
            chunkings.add(stage.key)
            continue
        try:
            texts = bench.embedding_texts(pipeline)
            embedder = bench.embedder(pipeline)
        except BudgetError:
            raise
        except Exception:  # of a component, which can be anybody's; the trial records it
            continue
        model = pipeline.embed.model_dump_json()
        wanted = todo.setdefault(model, (pipeline, {}))[1]
        if embedder.missing(texts, "document"):
            wanted.update(dict.fromkeys(texts))
    plan.uncounted = len(chunkings)
    estimates = [_estimate(bench, pipeline, wanted, plan) for pipeline, wanted in todo.values()]
    plan.seconds = sum(estimates) if plan.texts else 0.0


def _estimate(bench: Workbench, pipeline: PipelineConfig, wanted: dict[str, None], plan: SweepPlan) -> float:
    """Seconds for the texts that the cache lacks, by the speed of a sample, which is kept."""
    embedder, texts = bench.embedder(pipeline), sorted(wanted, key=len)
    missing = embedder.missing(texts, "document")
    plan.texts += missing
    if missing <= 2 * _SAMPLE:
        return 0.0
    # every so-and-so-many-th by length stands for all; what the cache has says nothing of the speed
    spread = texts[:: max(1, len(texts) // (4 * _SAMPLE))]
    fresh = [text for text in spread if embedder.missing([text], "document")]
    if len(fresh) < 2:
        return 0.0
    warm, sample = fresh[:: max(2, len(fresh) // 8)], fresh[1 :: max(2, len(fresh) // _SAMPLE)]
    embedder.encode(warm, "document")
    started = time.perf_counter()
    embedder.encode(sample, "document")
    rate = (time.perf_counter() - started) / max(1, sum(len(text) for text in sample))
    return rate * sum(len(text) for text in texts) * missing / len(texts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def by_prefix(tasks: Sequence[Task]) -> list[Task]:
    """Tasks in the order of what they share: parsing, then chunking, context, embedding, search, ranking, the rest."""
    levels: list[Any] = [
        lambda p: p.parse.model_dump_json(),
        lambda p: p.chunk.model_dump_json(),
        lambda p: p.context.model_dump_json() + p.embed.model_dump_json(),
        search_key,
        lambda p: p.retrieve.model_dump_json(exclude={"top_k"}),
        key_of,
    ]
    seen: list[dict[str, int]] = [{} for _ in levels]
    places = {}
    for task in tasks:
        keys = [level(task.pipeline) for level in levels]
        places[id(task)] = tuple(of.setdefault(key, len(of)) for of, key in zip(seen, keys, strict=True))
    return sorted(tasks, key=lambda task: places[id(task)])
