"""The README of a finetuned model."""

from __future__ import annotations

from typing import Any

__all__ = ["model_card"]


def model_card(base: str, settings: Any, result: Any) -> str:
    """A model card.

    Args:
        base: Name of the base model.
        settings: `EmbedTrainSettings`.
        result: `TrainResult`.
    """
    came_to = {name: getattr(result, name) for name in ("learning_rate", "batch_size", "precision")}
    knobs = "\n".join(f"| {name} | {value} |" for name, value in (settings.model_dump(mode="json") | came_to).items())
    general = dict(result.general)
    head, rule = (" general set |", "---|") if general else ("", "")
    tried = "\n".join(
        f"| {alpha:.3g} | {score:.4f} |" + (f" {_shown(general.get(alpha))} |" if general else "")
        for alpha, score in result.candidates
    )
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, ragladder]
---

# {base}, finetuned by ragladder

Finetuned from `{base}` on {result.pairs} pairs of a question and a passage ({result.with_negatives} of them with hard
negatives). Kept: {result.kept()}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
queries = model.encode_query(["..."])
passages = model.encode_document(["..."])
```

Dev scores of the candidates (share of the finetuned weights; 0 is the base). The best one was chosen by them, so it is
a little too good to be true; the test score is in the run's report.

| share | dev score |{head}
|---|---|{rule}
{tried}

| setting | value |
|---|---|
{knobs}
"""


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
