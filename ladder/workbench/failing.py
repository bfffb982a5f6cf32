"""What becomes of components that fail: a name for whoever raised, and results that are not worth keeping."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...core.errors import RagladderError, StageError
from ...core.store import Stage

if TYPE_CHECKING:
    from .bench import Workbench

__all__ = ["NotKept", "asks_endpoint", "guarded", "kept_or_not"]


class NotKept(Exception):
    """Carries a stage's result past the store: a server that failed now may answer the next run."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def kept_or_not(bench: Workbench, stage: Stage[Any]) -> Any:
    """A stage's result, also where its build raised `NotKept`."""
    try:
        return bench.get(stage)
    except NotKept as carried:
        return carried.result


def asks_endpoint(settings: Any) -> bool:
    """Whether a component asks a server, so that what failed now may not fail later."""
    llm = getattr(settings, "llm", None)
    return llm.kind != "local" if llm is not None else True


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turns whatever a component raises into an error that names it, so that a sweep notes it and goes on."""
    try:
        yield
    except (RagladderError, NotKept):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # the store says what a full disk means
        raise StageError(f"{what} raised {type(error).__name__}: {error}") from error
