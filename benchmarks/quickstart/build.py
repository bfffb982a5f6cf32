"""Renders the quickstart's sources to the documents that the quickstart reads.

    python benchmarks/quickstart/build.py
    python benchmarks/quickstart/build.py --stats

Each `sources/<group>/*.md` becomes `configs/quickstart/docs/<CODE>_<slug>.<format>`, CSV files are copied. The result
is the same byte for byte on every run; documents without a source are removed. `--stats` counts documents and
questions instead, as the tables of `configs/quickstart/README.md`, and writes nothing. Needs reportlab, python-docx
and markdown-it-py.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import render_docx
import render_html
import render_pdf
import render_text
import stats
from source import Source, read_source

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
DOCUMENTS = HERE.parent.parent / "configs" / "quickstart" / "docs"
QUESTIONS = DOCUMENTS.parent / "questions"


def main() -> int:
    """Renders everything; the exit status is 1 where a source cannot be rendered."""
    parser = argparse.ArgumentParser(description="Renders the quickstart's sources to its documents.")
    parser.add_argument("--sources", type=Path, default=SOURCES, help="folder of the sources")
    parser.add_argument("--out", type=Path, default=DOCUMENTS, help="folder of the documents")
    parser.add_argument("--stats", action="store_true", help="print counts as Markdown tables and write nothing")
    arguments = parser.parse_args()
    if arguments.stats:
        return print_stats(arguments.sources, arguments.out)
    documents, problems = render_all(arguments.sources)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        print(f"nothing written: {len(problems)} sources cannot be rendered", file=sys.stderr)
        return 1
    new, changed, removed = write(arguments.out, documents)
    counts = Counter(name.rpartition(".")[2] for name in documents)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    size = sum(map(len, documents.values())) / 1024
    print(f"{len(documents)} documents in {arguments.out}: {kinds}; {size:.0f} KiB")
    print(f"{len(new)} new, {len(changed)} changed, {len(removed)} removed, the rest as they were")
    for label, names in (("new", new), ("changed", changed), ("removed", removed)):
        for name in names:
            print(f"  {label}: {name}")
    return 0


def print_stats(sources: Path, documents: Path) -> int:
    """Prints the tables; the exit status is 1 where something is missing."""
    try:
        print(stats.tables(stats.read_groups(sources, documents, QUESTIONS)))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def render_all(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """File names and contents of all documents, and what is wrong with the sources."""
    sources: list[Source] = []
    documents: dict[str, bytes] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*/*.md")):
        try:
            sources.append(read_source(path))
        except ValueError as error:
            problems.append(str(error))
    for path in sorted(folder.glob("*/*.csv")):
        documents[path.name] = path.read_bytes().replace(b"\r\n", b"\n")
    for source in sources:
        try:
            documents[f"{source.path.stem}.{source.format}"] = _render(source, sources)
        except ValueError as error:
            problems.append(f"{source.path}: {error}")
    codes = Counter(name.partition("_")[0] for name in documents)
    problems += [f"the code {code} stands {count} times" for code, count in codes.items() if count > 1]
    return documents, problems


def _render(source: Source, sources: list[Source]) -> bytes:
    if source.format == "html":
        return render_html.render(source, [other for other in sources if other.group == source.group])
    if source.format == "pdf":
        return render_pdf.render(source)
    if source.format == "docx":
        return render_docx.render(source)
    return render_text.render(source) if source.format == "txt" else source.raw.encode()


def write(folder: Path, documents: dict[str, bytes]) -> tuple[list[str], list[str], list[str]]:
    """Makes the folder hold these files and no others; returns the names of new, changed and removed ones."""
    folder.mkdir(parents=True, exist_ok=True)
    old = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
    new, changed = [], []
    for name, data in sorted(documents.items()):
        path = folder / name
        if name not in old:
            new.append(name)
        elif path.read_bytes() != data:
            changed.append(name)
        else:
            continue
        path.write_bytes(data)
    removed = sorted(old - documents.keys())
    for name in removed:
        (folder / name).unlink()
    return new, changed, removed


if __name__ == "__main__":
    sys.exit(main())
