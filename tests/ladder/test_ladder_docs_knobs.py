"""The YAML of the pages on embedding models, prompts and late chunking is what a config takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from ragladder.core.config import validate
from ragladder.ladder.config import ExperimentConfig, with_changes
from ragladder.rag.chunk import CHUNKERS
from ragladder.rag.context import CONTEXTS
from ragladder.rag.prompt import TEMPLATES

DOCS = Path(__file__).resolve().parents[2] / "docs"
SNIPPETS = [
    (name, number, text)
    for name in ("embedding-models.md", "prompts.md", "parsing-and-chunking.md")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S))
]


@pytest.mark.parametrize(("name", "number", "text"), SNIPPETS)
def test_snippets_are_valid_and_so_are_their_axes(name: str, number: int, text: str) -> None:
    data: dict[str, Any] = {"data": {"documents": "docs", "questions": "q.jsonl"}, **yaml.safe_load(text)}
    config = validate(data, ExperimentConfig, f"{name} {number}")
    space = config.rungs.retrieval.space if config.rungs.retrieval else {}
    for axis, values in space.items():
        for value in values:
            with_changes(config.pipeline, {axis: value})


def test_every_kind_has_its_row() -> None:
    models, prompts = ((DOCS / name).read_text(encoding="utf-8") for name in ("embedding-models.md", "prompts.md"))
    chunking = (DOCS / "parsing-and-chunking.md").read_text(encoding="utf-8")
    for settings in CONTEXTS:
        kind = get_args(settings.model_fields["kind"].annotation)[0]
        assert f"`{kind}`" in models or f"`{{kind: {kind}" in models
    for settings in CHUNKERS:
        assert f"`{get_args(settings.model_fields['kind'].annotation)[0]}`" in chunking
    for template in TEMPLATES:
        assert f"`{template}`" in prompts
