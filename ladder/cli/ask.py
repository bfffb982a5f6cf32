"""`ragladder ask`: one question to the pipeline that a run ended with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._show import print_json
from .options import CacheDir, Json, RunName

__all__ = ["ask"]


def ask(
    run: RunName,
    question: Annotated[str, typer.Argument(help="What to ask.", show_default=False)],
    cache_dir: CacheDir = Path(".ragladder"),
    json: Json = False,
) -> None:
    """Ask the pipeline that a run ended with, and show what it read."""
    from ...core.errors import ConfigError
    from ..exported import pipeline_of_run
    from ..runs import find_run

    if not question.strip():
        raise ConfigError('the question is empty; put it in quotes after the run: ragladder ask latest "How …?"')
    pipeline = pipeline_of_run(find_run(run, cache_dir))
    hits = pipeline.retrieve([question])[0]
    answer = pipeline.ask(question)
    if json:
        rows = [
            {
                "doc_id": h.chunk.doc_id,
                "start": h.chunk.start,
                "end": h.chunk.end,
                "score": h.score,
                "text": h.chunk.text,
            }
            for h in hits
        ]
        print_json({"answer": answer.text, "status": answer.status, "detail": answer.detail, "contexts": rows})
        return
    print(answer.text if answer.status == "ok" else f"{answer.status}: {answer.detail}")
    print("\nread:")
    for rank, hit in enumerate(hits, 1):
        heading = " > ".join(hit.chunk.heading) or hit.chunk.title
        print(f"  {rank}. {hit.chunk.doc_id} ({heading}), score {hit.score:.3f}")
