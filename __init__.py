"""ragladder: decide from measurements what to fix next in a RAG pipeline.

    import ragladder
    record = ragladder.climb("quickstart.yaml")        # the whole ladder; the same as the command
    run = ragladder.load_run("latest")              # scores as a pandas frame, .best, .plot_ladder()
    pipeline = ragladder.load("exported/")          # a pipeline that `ragladder export` wrote
    pipeline.ask("How do I restart a locker?")

Names are imported when first used, so `import ragladder` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ladder.climb import climb
    from .ladder.exported import load
    from .ladder.finished import load_run

__all__ = ["__version__", "climb", "load", "load_run"]
__version__ = "0.1.0"

_HOMES = {"climb": ".ladder.climb", "load": ".ladder.exported", "load_run": ".ladder.finished"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'ragladder' has no attribute '{name}'")
