"""The quickstart's documents: rendered the same each time, and read without losing any evidence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ragladder.core.components import Resources
from ragladder.rag.chunk import SectionSettings, chunk_corpus
from ragladder.rag.parse import ParseSettings, parse_corpus

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart"

pytestmark = pytest.mark.slow


def plain(text: str) -> str:
    """The words as a reader sees them: without marks of Markdown and table rules."""
    return " ".join(re.sub(r"[|#_\\]", " ", re.sub(r"[*`]", "", text)).split())


def test_rendering_is_reproducible_and_removes_what_has_no_source(tmp_path: Path) -> None:
    pytest.importorskip("reportlab")
    command = [sys.executable, str(ROOT / "benchmarks" / "quickstart" / "build.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {path.name for path in (QUICKSTART / "docs").iterdir()}
    (tmp_path / "XX-1_stale.md").write_text("stale")
    name = next(iter(first))
    (tmp_path / name).write_bytes(b"changed")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "0 new, 1 changed, 1 removed" in done.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_the_default_parsers_lose_no_evidence(tmp_path: Path) -> None:
    settings = ParseSettings(ref_pattern="^([^_]+)_", strict=True)
    corpus = parse_corpus(QUICKSTART / "docs", settings, Resources(workers=2, cache_dir=tmp_path, env={}))
    texts = {document.id: plain(document.text) for document in corpus.documents}
    lost = []
    count = 0
    for file in sorted((QUICKSTART / "questions").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            for evidence in json.loads(line)["evidence"]:
                count += 1
                if plain(evidence["text"]) not in texts.get(evidence["doc_id"], ""):
                    lost.append((file.name, evidence["doc_id"], evidence["text"]))
    assert count > 400
    assert lost == []
    for document in corpus.documents:
        assert document.ref == document.id.partition("_")[0]
        assert "Printed copies are not controlled" not in document.text, "page footers are left out"
        assert "cookies" not in document.text, "so is what stands round a web page"
    chunks = chunk_corpus(corpus.documents, SectionSettings(size=200).build(Resources(env={})))
    assert len(chunks) > 400 and all(chunk.heading for chunk in chunks if not chunk.doc_id.endswith(".csv"))
