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
    knobs = "\n".join(f"| {name} | {value} |" for name, value in settings.model_dump(mode="json").items())
    tried = "\n".join(f"| {alpha:g} | {score:.4f} |" for alpha, score in result.candidates)
    kept = {0.0: "the base itself, as finetuning did not raise the dev score", 1.0: "the finetuned weights"}.get(
        result.alpha, f"a mixture: {result.alpha:g} of the finetuned weights, the rest of the base's (WiSE-FT)"
    )
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, ragladder]
---

# {base}, finetuned by ragladder

Finetuned from `{base}` on {result.pairs} pairs of a question and a passage ({result.with_negatives} of them with hard
negatives). These weights are {kept}; best epoch {result.best_epoch}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
queries = model.encode_query(["..."])
passages = model.encode_document(["..."])
```

Dev scores of the candidates (share of the finetuned weights; 0 is the base). The best one was chosen by them, so it is
a little too good to be true; the test score is in the run's report.

| share | dev score |
|---|---|
{tried}

| setting | value |
|---|---|
{knobs}
| precision | {result.precision} |
"""
