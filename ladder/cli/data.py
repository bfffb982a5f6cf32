"""`ragladder data`: imports, writes, checks and splits questions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._show import print_json
from .data_synth import synth
from .options import Json, Overrides

if TYPE_CHECKING:
    from ...core.types import Question
    from ...eval.audit import AuditReport
    from ...eval.closed_book import ClosedBook
    from ...rag.parse import ParsedCorpus, ParseFailure

__all__ = ["app"]

app = typer.Typer(help="Import questions, write synthetic ones, audit them, split them.", no_args_is_help=True)
app.command("synth")(synth)

Format = Literal["native", "csv", "beir", "squad", "chroma", "ragas", "huggingface"]
Questions = Annotated[Path, typer.Argument(help="A .jsonl file of questions, or a folder of them.", show_default=False)]
Documents = Annotated[
    Path | None, typer.Option(help="Folder of the documents that the questions are about.", show_default=False)
]


@app.command("import")
def import_(
    format: Annotated[Format, typer.Argument(help="What SRC is.", show_default=False)],
    src: Annotated[Path, typer.Argument(help="Its file or folder.", show_default=False)],
    dir: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    documents: Documents = None,
    json: Json = False,
) -> None:
    """Convert a data set into DIR/documents and DIR/questions.jsonl."""
    from ...core.errors import ConfigError
    from ...eval.load import TAKES_DOCUMENTS, load_dataset, write_dataset

    if documents is not None and format not in TAKES_DOCUMENTS:
        raise ConfigError(f"--documents: the format '{format}' brings its own documents; leave it out")
    texts = {d.id: d.text for d in _parsed(documents).documents} if documents is not None else None
    imported = load_dataset(format, src, texts)
    write_dataset(dir, imported, documents)
    counts = _counts(imported.questions)
    files = len(imported.documents) if texts is None else len(texts)
    if json:
        print_json({"folder": str(dir), "documents": files, **counts, "notes": list(imported.notes)})
        return
    print(f"{dir}: {files} documents, {_sentence(counts)}")
    for note in imported.notes:
        print(f"note: {note}")
    questions = dir / "questions.jsonl"
    where = ["--documents", str(dir / "documents")] if files else []
    print(_next("audit", str(questions), *where) if counts["splits"] else _next("split", str(questions)))


@app.command("audit")
def audit(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG_OR_QUESTIONS", help="A YAML config, or questions.", show_default=False)
    ],
    documents: Documents = None,
    run: Annotated[
        str | None, typer.Option(help="A run, whose measured spread gives the power.", show_default=False)
    ] = None,
    cache_dir: Annotated[Path, typer.Option(help="Where runs and parsed documents are kept.")] = Path(".ragladder"),
    sd: Annotated[float, typer.Option(help="Assumed standard deviation of the difference a question.")] = 0.3,
    near: Annotated[float, typer.Option(help="Similarity, 0 to 100, of near-duplicates.")] = 92.0,
    closed_book: Annotated[
        bool, typer.Option("--closed-book", help="Ask the config's LLM each question without documents: one call each.")
    ] = False,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Check questions for duplicates, leakage, contradictions, lost gold and power. Exit code 3: unfit."""
    from ...core.config import validate
    from ...core.errors import ConfigError
    from ...eval.audit import AuditSettings, audit_questions
    from ...eval.questions import load_questions

    settings = validate({"sd": sd, "near": near}, AuditSettings, "ragladder data audit")
    if source.suffix in (".yaml", ".yml"):
        if documents is not None:
            raise ConfigError("--documents: the config names the documents; leave it out")
        questions, corpus = _of_config(source, set_ or ())
        known = _known(source, set_ or (), questions) if closed_book else None
    else:
        if closed_book:
            raise ConfigError("--closed-book: needs a config, for its LLM; name one instead of the questions")
        if set_:
            raise ConfigError("--set: overrides a config's keys, but questions were given")
        questions = load_questions(source)
        corpus, known = _parsed(documents, cache_dir) if documents is not None else None, None
    parsed = corpus.documents if corpus is not None else None
    report = audit_questions(questions, parsed, settings, _measured_sd(run, cache_dir) if run else None, known)
    if json:
        print(report.model_dump_json(indent=1))
    else:
        _print_report(source, report, corpus.failures if corpus is not None else ())
        if "none" in report.splits and source.suffix == ".jsonl":
            print(_next("split", str(source)))
    if not report.fit:
        raise typer.Exit(3)


@app.command("split")
def split(
    questions: Questions,
    by: Annotated[
        Literal["document", "cluster", "tag"],
        typer.Option(help="What stays together: a document; near-duplicates too (cluster); a tag's values too."),
    ] = "document",
    tag: Annotated[str | None, typer.Option(help="The tag's name, for --by tag.", show_default=False)] = None,
    shares: Annotated[str, typer.Option(help="Of train, dev and test.")] = ".5,.2,.3",
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: beside QUESTIONS, *.split.jsonl.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over the file.")] = False,
    json: Json = False,
) -> None:
    """Give each question a split; no document stands in two. Stable when questions are added."""
    from ...core.errors import DataError
    from ...core.words import counted
    from ...eval.questions import load_questions, save_questions
    from ...eval.splits import balanced_seed, split_questions

    target = out or questions.with_name(f"{questions.stem}.split.jsonl")
    loaded = load_questions(questions)
    result = split_questions(loaded, by, _shares(shares), seed, tag)
    if target.exists() and not force:
        raise DataError(f"{target}: is there already; name another file by --out, or write over it by --force")
    save_questions(target, result.questions)
    if json:
        groups = {name: count for name, count in result.groups.items()}
        rest = {"groups": groups, "largest": result.largest, "moved": result.moved}
        print_json({"file": str(target), **_counts(result.questions), **rest})
        return
    print(f"{target}: {_sentence(_counts(result.questions))}")
    groups = ", ".join(f"{count} {name}" for name, count in result.groups.items())
    print(f"groups: {groups}; the largest has {counted(result.largest, 'question')}")
    if result.moved:
        print(f"note: {counted(result.moved, 'question')} had another split before")
    if result.largest > len(loaded) / 4:
        print("note: a group of more than a quarter of the questions makes the shares coarse")
    if result.thin:
        print(f"note: less than half of their share of the questions with evidence: {', '.join(result.thin)}")
        nearest = seed if by == "tag" else balanced_seed(loaded, _shares(shares), by)
        if nearest != seed:
            print(f"note: --seed {nearest} comes nearer")
    print(_next("audit", str(target)))


def _shares(text: str) -> tuple[float, ...]:
    from ...core.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--shares {text}: expected three numbers with commas, for instance .5,.2,.3") from None


def _next(name: str, *arguments: str) -> str:
    return f"next: {shlex.join(['ragladder', 'data', name, *arguments])}"


def _parsed(folder: Path, cache_dir: Path = Path(".ragladder")) -> ParsedCorpus:
    from ...core.components import Resources
    from ...rag.parse import ParseSettings, parse_corpus

    return parse_corpus(folder, ParseSettings(), Resources(cache_dir=cache_dir.absolute()))


def _of_config(path: Path, overrides: Any) -> tuple[tuple[Question, ...], ParsedCorpus]:
    """Questions and parsed documents of an experiment."""
    from ...core.progress import Reporter
    from ...eval.questions import load_questions
    from ..config import load_experiment
    from ..workbench import Workbench

    config = load_experiment(path, overrides)
    base = path.absolute().parent
    questions = load_questions(config.resources(base).path(config.data.questions))
    bench = Workbench(config, base, questions, Reporter(quiet=True))
    return questions, bench.get(bench.documents_stage(config.pipeline))


def _known(path: Path, overrides: Any, questions: tuple[Question, ...]) -> ClosedBook:
    """What the config's LLM answers without documents."""
    from ...eval.closed_book import closed_book
    from ..config import load_experiment
    from ..synth import build_asker

    config = load_experiment(path, overrides)
    asker = build_asker(config, config.resources(path.absolute().parent), config.synth)
    return closed_book(questions, asker, config.synth.filters.agreement)


def _measured_sd(run: str, cache_dir: Path) -> float:
    """Standard deviation of the answer metric's paired difference between a run's baseline and another of its arms."""
    import numpy as np
    import pyarrow.parquet as pq

    from ...core.errors import DataError
    from ..runs import find_run, load_ladder

    folder = find_run(run, cache_dir)
    metric = load_ladder(folder).answer_metric
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in pq.read_table(folder / "scores.parquet").to_pylist():
        if row["metric"] == metric and row["value"] is not None:
            values.setdefault((row["arm"], row["split"]), {})[row["question_id"]] = row["value"]
    for wanted in ("test", "dev"):
        base = values.get(("baseline", wanted), {})
        for (arm, part), found in reversed(values.items()):
            both = base.keys() & found.keys()
            if arm != "baseline" and part == wanted and len(both) > 1:
                return float(np.std([found[key] - base[key] for key in sorted(both)], ddof=1))
    raise DataError(f"{folder}: has only one pipeline's {metric}, so no spread of a difference; leave out --run")


def _counts(questions: Any) -> dict[str, Any]:
    from collections import Counter

    splits = Counter(question.split for question in questions if question.split)
    return {
        "questions": len(questions),
        "unanswerable": sum(not question.answerable for question in questions),
        "splits": {name: splits[name] for name in ("train", "dev", "test") if splits[name]},
    }


def _sentence(counts: Mapping[str, Any]) -> str:
    from ...core.words import counted

    splits = ", ".join(f"{count} {name}" for name, count in counts["splits"].items()) or "no splits"
    return f"{counted(counts['questions'], 'question')} ({splits}), {counts['unanswerable']} of them unanswerable"


def _print_report(source: Path, report: AuditReport, failures: Sequence[ParseFailure]) -> None:
    from ...core.words import counted

    splits = ", ".join(f"{count} {name}" for name, count in report.splits.items())
    searched = "" if report.documents is None else f", {counted(report.documents, 'document')}"
    print(f"{source}: {counted(report.questions, 'question')} ({splits}), {report.unanswerable} unanswerable{searched}")
    for failure in failures:
        print(f"could not be read: {failure.doc_id}: {failure.reason}")
    for finding in report.findings:
        print(f"{finding.level:7}  {finding.check}: {finding.message}")
        if finding.examples != ("all",):
            for example in finding.examples:
                print(f"           {example}")
    for row in report.power:
        print(f"power    {row.sentence()}")
    for name, values in report.tags.items():
        print(f"tag      {name}: " + ", ".join(f"{value} {sum(found.values())}" for value, found in values.items()))
    errors = sum(finding.level == "error" for finding in report.findings)
    print("fit to decide by" if report.fit else f"unfit: mend the {counted(errors, 'error')} above")
