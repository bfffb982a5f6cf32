"""ragladder: decide from measurements what to fix next in a RAG pipeline.

    import ragladder
    run = ragladder.climb("quickstart.yaml")        # the whole ladder; the same as the command
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

__all__ = ["__version__", "climb", "load"]
__version__ = "0.1.0"

_HOMES = {"climb": ".ladder.climb", "load": ".ladder.exported"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'ragladder' has no attribute '{name}'")
