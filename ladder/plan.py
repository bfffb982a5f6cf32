"""What a climb is about to do and what it will cost, before it does it."""

from __future__ import annotations

from collections import Counter

from ..core.chat import LocalChatSettings
from ..core.errors import UnreachableError
from ..core.shared_store import SharedStages
from ..embeddings.encode import EndpointEmbedder
from ..rag.context import LLMContextSettings
from ..rag.generate import LLMGeneratorSettings
from ..rag.index import QdrantIndexSettings
from .config import RetrievalRungSettings
from .llm_work import count_work
from .rungs.retrieval import changes_answers_only
from .workbench import Workbench
from .workbench.searching import calls_a_question

__all__ = ["count_trials", "describe"]


def describe(bench: Workbench) -> list[str]:
    """The plan in lines; raises for components that cannot be made.

    Raises:
        RagladderError: A model, an index or a key is missing.
    """
    config = bench.config
    identity = bench.corpus_identity(config.pipeline)
    for section in (config.pipeline.index, config.pipeline.transform, config.pipeline.rerank):
        bench.component(section)  # a missing package, model or key is heard of now
    counts = Counter(q.split for q in bench.questions)
    lines = [
        f"documents: {len(identity['files'])} files in {config.data.documents}",
        "questions: " + ", ".join(f"{counts.get(split, 0)} {split}" for split in ("train", "dev", "test")),
        f"embedding model: {_embedder(bench)}",
        f"answers by: {_generator(bench)}",
        f"device: {bench.resources.device}",
    ]
    lines += _endpoints(bench)
    if isinstance(config.pipeline.index, QdrantIndexSettings) and config.pipeline.index.remote:
        lines.append(f"index: {_server(config.pipeline.index, bench)}")
    rungs = config.rungs
    if rungs.retrieval:
        trials = count_trials(rungs.retrieval)
        encodings = _encodings(rungs.retrieval)
        lines.append(
            f"retrieval rung: at most {trials} trials, "
            f"at most {encodings} encodings of the corpus (each unique text once)"
        )
    if rungs.embedding:
        how = [] if rungs.embedding.adapter is None else ["a query adapter"]
        if rungs.embedding.train is not None:
            how.append(f"up to {rungs.embedding.train.epochs} epochs")
        pairs = f"the pairs of {counts.get('train', 0)} train questions"
        lines.append(f"embedding rung: {' and '.join(how)} over {pairs}")
    if rungs.llm:
        lora, data = rungs.llm.train, rungs.llm.data
        examples = counts.get("train", 0) * data.copies
        lines.append(f"LLM rung: LoRA of rank {lora.rank}, up to {lora.epochs} epochs over about {examples} examples")
        lines += [f"  {line}" for line in count_work(config.pipeline, rungs.llm, bench.questions).lines()]
        lines += _other_llms(bench)
    lines.append(f"LLM calls behind an endpoint: {_calls(bench)}")
    done = bench.resources.cache_dir / "stages"
    kept = sum(1 for p in done.iterdir() if not p.name.startswith(".")) if done.is_dir() else 0
    lines.append(f"store: {done.parent} ({kept} finished stages; what is there is not computed again)")
    if config.runtime.store_url is not None:
        lines.append(f"shared store: {_shared(config.runtime.store_url)}")
    return lines


def count_trials(settings: RetrievalRungSettings) -> int:
    """How many configurations the retrieval rung scores at most."""
    phases = [
        [values for axis, values in settings.space.items() if changes_answers_only(axis) is answers_only]
        for answers_only in (False, True)
    ]
    total = 0
    for axes in phases:
        if not axes:
            continue
        if settings.search == "coordinate":
            total += 1 + settings.passes * sum(len(values) for values in axes)
        else:
            product = 1
            for values in axes:
                product *= len(values)
            total += 1 + min(product, settings.trials or product)
    return total


def _encodings(settings: RetrievalRungSettings) -> int:
    sections = ("parse", "chunk", "context", "embed")
    axes = [values for axis, values in settings.space.items() if axis.split(".")[0] in sections]
    if settings.search == "coordinate":
        return 1 + settings.passes * sum(len(values) for values in axes)
    product = 1
    for values in axes:
        product *= len(values)
    return product


def _generator(bench: Workbench) -> str:
    generator = bench.config.pipeline.generate
    if not isinstance(generator, LLMGeneratorSettings):
        return f"{generator.kind} (no LLM)"
    probe = bench.component(generator).chat.probe()
    return probe.detail if probe.ok else f"NOT REACHABLE: {probe.detail}"


def _embedder(bench: Workbench) -> str:
    embedder = bench.component(bench.config.pipeline.embed)
    if not isinstance(embedder, EndpointEmbedder):
        return embedder.source
    probe = embedder.probe()
    return f"{embedder.source} ({probe.detail})" if probe.ok else f"NOT REACHABLE: {probe.detail}"


def _endpoints(bench: Workbench) -> list[str]:
    """Whether what else is asked for each chunk, question or answer can be used."""
    pipeline, judge = bench.config.pipeline, bench.config.score.judge
    named = {"reranker": pipeline.rerank, "query transform": pipeline.transform, "judge": judge and judge.llm}
    if isinstance(pipeline.context, LLMContextSettings):
        named["context"] = pipeline.context.llm
    lines = []
    for name, section in named.items():
        part = None if section is None else bench.component(section)
        probe = getattr(getattr(part, "chat", part), "probe", None)  # an LLM's, where it asks one
        if probe is not None:
            found = probe()
            lines.append(f"{name}: {found.detail}" if found.ok else f"{name}: NOT REACHABLE: {found.detail}")
    return lines


def _server(settings: QdrantIndexSettings, bench: Workbench) -> str:
    probe = settings.build(bench.resources).probe()
    return f"Qdrant at {settings.location} (answers)" if probe.ok else f"NOT REACHABLE: {probe.detail}"


def _shared(url: str) -> str:
    try:
        SharedStages(url).probe()
    except UnreachableError as error:
        return f"NOT REACHABLE: {str(error).partition('. ')[0]}"
    return f"{url} (answers; stages are fetched from there and uploaded)"


def _other_llms(bench: Workbench) -> list[str]:
    """Whether the LLMs that the LLM rung asks besides its own can be used."""
    rung = bench.config.rungs.llm
    named = {} if rung is None else {"reference": rung.reference, "teacher": rung.teacher and rung.teacher.llm}
    lines = []
    for name, llm in named.items():
        if llm is not None:
            probe = bench.component(llm).probe()
            lines.append(f"{name} LLM: {probe.detail}" if probe.ok else f"{name} LLM: NOT REACHABLE: {probe.detail}")
    return lines


def _calls(bench: Workbench) -> str:
    generator = bench.config.pipeline.generate
    remote = isinstance(generator, LLMGeneratorSettings) and not isinstance(generator.llm, LocalChatSettings)
    judge = bench.config.score.judge is not None
    searching = calls_a_question(bench.config.pipeline)
    context = bench.config.pipeline.context
    writing = isinstance(context, LLMContextSettings) and not isinstance(context.llm, LocalChatSettings)
    rung = bench.config.rungs.llm
    others = {} if rung is None else count_work(bench.config.pipeline, rung, bench.questions).remote
    if not remote and not judge and not searching and not writing and not others:
        return "0"
    rungs = bench.config.rungs.looks()
    asked = sum(q.split in ("dev", "test") for q in bench.questions)
    parts = []
    if remote:
        dev = sum(q.split == "dev" for q in bench.questions)
        calls = 1 if generator.prompt.chain == "none" else 2
        parts.append(f"about {calls * asked * (rungs + 1)} for answers, and {calls * dev} for each answer trial")
    if writing:
        parts.append("one for each chunk (context llm), once")
    if searching:
        parts.append(f"about {asked * searching} for query transform and reranking ({searching} a question)")
    parts += [f"at most {count} of the LLM rung's {name}" for name, count in others.items()]
    if judge:
        parts.append(f"judging of about {asked * (rungs + 1)} answers")
    return ", ".join(parts)
