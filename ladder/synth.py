"""`ragladder data synth`: synthetic questions from a config's documents, by its LLM, in a file of its own."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.cache import JsonCache, digest
from ..core.components import Model, Resources
from ..core.config import validate
from ..core.errors import ConfigError, DataError
from ..core.files import write_atomic
from ..core.progress import Reporter
from ..core.types import Chunk, Question
from ..eval.questions import load_questions, question_files, save_questions
from ..eval.synth import Asker, Retrieve, SynthReport, SynthSettings, synthesise
from ..eval.synth.passages import passages_of
from ..rag.generate import LLMGeneratorSettings
from .config import ExperimentConfig, load_experiment
from .workbench import Workbench

__all__ = ["SynthOutcome", "SynthPlan", "build_asker", "plan_questions", "report_path", "synth_questions"]

_PROMPT_TOKENS = 350  # of the instructions round a passage, roughly
_REPLY_TOKENS = 120


class SynthPlan(Model):
    """What `--dry-run` prints: nothing is asked."""

    writer: str
    """`llm` or `extractive`."""
    model: str
    """The LLM's name; empty for patterns."""
    documents: int
    """Documents in the corpus."""
    passages: int
    """Passages that can be asked about."""
    existing: int
    """Questions that are there, none of which is repeated."""
    wanted: dict[str, int]
    """Questions by kind."""
    calls: tuple[int, int]
    """Calls of the LLM if every candidate passes, and if `synth.tries` is used up."""
    tokens: tuple[int, int]
    """The same in tokens, a rough estimate."""


class SynthOutcome(Model):
    """What `ragladder data synth` made."""

    file: str | None
    """The questions; None where none passed."""
    report_file: str
    """The report as JSON, beside them."""
    report: SynthReport
    """The figures."""


@dataclass(frozen=True)
class _Job:
    """A loaded config and what is needed of it."""

    config: ExperimentConfig
    settings: SynthSettings
    bench: Workbench
    existing: tuple[Question, ...]
    notes: tuple[str, ...]
    llm: Any


def synth_questions(
    path: Path,
    overrides: Sequence[str],
    out: Path,
    reporter: Reporter,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
) -> SynthOutcome:
    """Writes synthetic questions of a config's documents, and a report beside them.

    Interrupted, the same command goes on: calls that were answered are kept in the cache and not made again.

    Args:
        path: The config.
        overrides: `key=value` of `--set`.
        out: A `.jsonl` file. One that this command wrote is replaced; another only with `force`.
        reporter: For progress.
        changes: Fields of `synth:` that the command line sets.
        force: Whether any file may be replaced.

    Raises:
        ConfigError: The config, or `out`, cannot be used.
        DataError: `out` holds something else, or the documents cannot be asked about.
        EndpointError: The LLM cannot be reached.
    """
    _require_free(out, force)
    job = _load(path, overrides, out, reporter, changes)
    asker = build_asker(job.config, job.bench.resources, job.settings) if job.llm is not None else None
    corpus = job.bench.get(job.bench.documents_stage(job.config.pipeline))
    result = synthesise(
        corpus.documents,
        job.settings,
        job.existing,
        asker,
        _retriever(job),
        job.config.score.abstention,
        reporter,
    )
    report = result.report.model_copy(update={"notes": (*job.notes, *result.report.notes)})
    written = bool(result.questions)
    if written:
        _replace(out, result.questions)
    record = {"sha256": _sha256(out) if written else None, "report": report.model_dump(mode="json")}
    write_atomic(report_path(out), json.dumps(record, indent=1, ensure_ascii=False).encode())
    return SynthOutcome(file=str(out) if written else None, report_file=str(report_path(out)), report=report)


def plan_questions(
    path: Path, overrides: Sequence[str], out: Path, reporter: Reporter, changes: Mapping[str, Any] | None = None
) -> SynthPlan:
    """What `synth_questions` would do; the documents are parsed, nothing is asked or written."""
    job = _load(path, overrides, out, reporter, changes)
    corpus = job.bench.get(job.bench.documents_stage(job.config.pipeline))
    passages = [p for document in corpus.documents for p in passages_of(document, job.settings.passage)]
    wanted = {str(kind): count for kind, count in job.settings.wanted().items()}
    calls = tokens = 0
    if job.llm is None:
        wanted = {"single": job.settings.n}
    else:
        size = sum(len(passage.text) for passage in passages) / max(len(passages), 1) / 4
        for kind, count in wanted.items():
            read = size * (2 if kind == "multi" else 1)
            checks = _checks(job.settings, kind)
            calls += count * (1 + checks)
            tokens += round(count * (read + (1 + checks) * (_PROMPT_TOKENS + _REPLY_TOKENS)))
    most = job.settings.tries
    return SynthPlan(
        writer="extractive" if job.llm is None else "llm",
        model="" if job.llm is None else str(getattr(job.llm, "model", job.llm.kind)),
        documents=len(corpus.documents),
        passages=len(passages),
        existing=len(job.existing),
        wanted=wanted,
        calls=(calls, round(calls * most)),
        tokens=(tokens, round(tokens * most)),
    )


def _checks(settings: SynthSettings, kind: str) -> int:
    """Calls that the filters make for one candidate that passes them all."""
    filters = settings.filters
    if kind == "unanswerable":
        return int(filters.answerable)
    return int(filters.answerable) + int(filters.closed_book) + (2 if kind == "multi" and filters.every_hop else 0)


def build_asker(config: ExperimentConfig, resources: Resources, settings: SynthSettings) -> Asker:
    """The LLM that writes and checks, with the memory of its calls.

    Raises:
        ConfigError: There is no LLM, or a budget of money without prices.
    """
    llm = _llm(config, settings)
    if llm is None:
        raise ConfigError("there is no LLM to ask: set synth.llm, or pipeline.generate to one with an LLM")
    prices = (getattr(llm, "price_prompt", 0.0), getattr(llm, "price_completion", 0.0))
    if settings.budget.money is not None and not any(prices):
        raise ConfigError("synth.budget.money: the LLM has no prices; set its price_prompt and price_completion")
    identity = llm.identity(resources)
    return Asker(
        llm.build(resources),
        identity,
        JsonCache(resources.cache_dir / "synth" / digest(identity)[:20]),
        settings.budget,
        prices,
        at_once=getattr(llm, "concurrency", None) or getattr(llm, "batch_size", 8),
        enforce_json=settings.enforce_json,
    )


def report_path(out: Path) -> Path:
    """Where the report of a questions file lies."""
    return out.with_name(f"{out.stem}.synth.json")


def _load(
    path: Path, overrides: Sequence[str], out: Path, reporter: Reporter, changes: Mapping[str, Any] | None
) -> _Job:
    config = load_experiment(path, overrides)
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: questions are read from files that end in .jsonl")
    settings = validate(
        {**config.synth.model_dump(mode="json"), **(changes or {})}, SynthSettings, "ragladder data synth"
    )
    base = path.absolute().parent
    existing, notes = _existing(config, base, out)
    bench = Workbench(config, base, existing, reporter)
    llm = None if settings.by == "extractive" else _llm(config, settings)
    if settings.by == "llm" and llm is None:
        raise ConfigError("synth.by is 'llm', but there is none: set synth.llm, or a pipeline.generate with an LLM")
    if llm is None and settings.kinds.get("single", 0) == 0:
        raise ConfigError(
            f"the kinds {', '.join(settings.kinds)} need an LLM: set synth.llm; patterns write 'single' alone"
        )
    return _Job(config, settings, bench, existing, notes, llm)


def _llm(config: ExperimentConfig, settings: SynthSettings) -> Any:
    generator = config.pipeline.generate
    if settings.llm is not None:
        return settings.llm
    return generator.llm if isinstance(generator, LLMGeneratorSettings) else None


def _existing(config: ExperimentConfig, base: Path, out: Path) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """The config's questions without those of the file that is to be written; none where there are none yet."""
    source = config.resources(base).path(config.data.questions)
    if not source.exists():
        return (), (f"there are no questions yet at {source}: nothing to compare with",)
    if source.is_dir() and not any(source.glob("*.jsonl")):
        return (), (f"there are no questions yet in {source}: nothing to compare with",)
    files = [file for file in question_files(source) if file.resolve() != out.resolve()]
    found: list[Question] = []
    for file in files:
        found += load_questions(file)
    return tuple(found), ()


def _retriever(job: _Job) -> Retrieve | None:
    """The search of the round trip: words over chunks with their headings, or the pipeline's own."""
    bench, pipeline, filters = job.bench, job.config.pipeline, job.settings.filters
    if not filters.round_trip and job.llm is None:
        return None
    if filters.retriever == "pipeline":
        fetch = max(pipeline.retrieve.fetch_k, filters.round_trip_k)
        wide = pipeline.model_copy(update={"retrieve": pipeline.retrieve.model_copy(update={"fetch_k": fetch})})

        def search(questions: Sequence[str], k: int) -> list[list[Chunk]]:
            asked = [Question(f"synth-{number}", text, "") for number, text in enumerate(questions)]
            return [[hit.chunk for hit in hits[:k]] for hits in bench.retrieve(wide, asked).candidates]

        return search
    chunks: list[Chunk] = bench.get(bench.chunks_stage(pipeline))
    texts = ["\n".join((*dict.fromkeys((chunk.title, *chunk.heading)), chunk.text)) for chunk in chunks]
    index = pipeline.bm25.build(texts)

    def search_words(questions: Sequence[str], k: int) -> list[list[Chunk]]:
        _, places = index.search(list(questions), min(k, len(chunks)))
        return [[chunks[place] for place in row if place >= 0] for row in places.tolist()]

    return search_words


def _require_free(out: Path, force: bool) -> None:
    """Raises unless the file is not there, or is as this command left it."""
    if force or not out.exists():
        return
    try:
        record = json.loads(report_path(out).read_bytes())
        ours = record["sha256"] == _sha256(out)
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise DataError(
            f"{out}: is there already, and not as 'data synth' wrote it; name another file by --out, or write over it "
            "by --force"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(out: Path, questions: Sequence[Question]) -> None:
    """Writes questions so that the file is there whole or not at all."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
        try:
            save_questions(temporary, questions)
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from None
