"""Chunkers whose chunks are searched small and read large: in the workbench, the run's pipeline and an export alike."""

from __future__ import annotations

from typing import Any

import pytest
import ragladder
from ragladder.ladder.exported import export_run, pipeline_of_run
from ragladder.rag.chunk import HierarchicalSettings, SentenceWindowSettings


@pytest.mark.parametrize(
    "chunk", [{"kind": "sentence_window"}, {"kind": "hierarchical", "sizes": [40, 12], "read": "parent"}]
)
def test_what_is_read_is_larger_than_what_is_searched(workspace: Any, cli: Any, chunk: dict[str, Any]) -> None:
    assert chunk["kind"] in (SentenceWindowSettings().kind, HierarchicalSettings().kind)
    settings = workspace.settings()
    settings["pipeline"]["chunk"] = chunk
    settings["pipeline"]["retrieve"] = {**settings["pipeline"].get("retrieve", {}), "top_k": 2, "fetch_k": 12}
    settings["rungs"] = {}
    workspace.write(settings)
    ran = cli("climb", workspace.config)
    assert ran.code == 0, ran.err
    question = workspace.rows()[0]["question"]
    pipeline = pipeline_of_run(workspace.runs()[-1])
    hits = pipeline.retrieve([question])[0]
    assert 0 < len(hits) <= 2
    searched = {chunk.id for chunk in pipeline.chunks}
    assert any(hit.chunk.id not in searched for hit in hits)
    documents = pipeline.documents
    assert all(documents[h.chunk.doc_id].text[h.chunk.start : h.chunk.end] == h.chunk.text for h in hits)
    export_run(workspace.runs()[-1], workspace.root / "out")
    assert ragladder.load(workspace.root / "out").retrieve([question])[0] == hits
