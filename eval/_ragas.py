"""What both kinds of RAGAS metrics need: a quiet import, an event loop, and our embedder behind ragas' interface."""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine
from typing import Any, Literal

from ..core.errors import require
from ..core.types import Embedder

__all__ = ["prepare_ragas", "ragas_embeddings", "run_coroutine"]


def prepare_ragas() -> None:
    """To be called before ragas is imported: says what is missing, and turns its telemetry off unless the user chose.

    Raises:
        MissingExtra: ragas is not installed.
    """
    require("ragas", "cpu", "RAGAS metrics")
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")  # else each score is posted to a server


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine on a loop of its own, to its end; also where this thread has a running loop (a notebook).

    Raises:
        BaseException: What the coroutine raised.
    """
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(coroutine)
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((True, _run_here(coroutine)))
        except BaseException as error:  # handed to the caller's thread
            outcome.extend((False, error))

    thread = threading.Thread(target=work, name="ragas", daemon=True)
    thread.start()
    thread.join()
    finished, value = outcome
    if not finished:
        raise value
    return value


def _run_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    # not asyncio.run: it delays Ctrl-C until the blocking call in hand has ended
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


def ragas_embeddings(embedder: Embedder, role: Literal["query", "document"]) -> Any:
    """An embedder as a ragas `BaseRagasEmbedding` that encodes each text once.

    Args:
        embedder: Any.
        role: What its texts are encoded as.
    """
    from ragas.embeddings.base import BaseRagasEmbedding

    class Embeddings(BaseRagasEmbedding):
        """Batches what it can and remembers vectors."""

        def __init__(self) -> None:
            super().__init__()
            self._known: dict[str, Any] = {}

        def embed_texts(self, texts: list[str], **kwargs: Any) -> list[Any]:
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            if new:
                self._known.update(zip(new, embedder.encode(new, role), strict=True))
            return [self._known[text] for text in texts]

        def embed_text(self, text: str, **kwargs: Any) -> Any:
            return self.embed_texts([text])[0]

        async def aembed_text(self, text: str, **kwargs: Any) -> Any:
            return self.embed_text(text)

        async def aembed_texts(self, texts: list[str], **kwargs: Any) -> list[Any]:
            return self.embed_texts(texts)

    return Embeddings()
