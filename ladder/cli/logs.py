"""What libraries log: warnings and errors, and more with --verbose."""

from __future__ import annotations

import logging
import sys

__all__ = ["third_party_logs"]


def third_party_logs(verbose: bool) -> bool:
    """Sets the level below which log records of libraries are not shown.

    The level is the handler's, not only the root logger's: bm25s sets its own logger to DEBUG, and any call of
    `logging.basicConfig` (absl makes one, below ragas' ROUGE metric) would bring its records to the terminal. With a
    handler in place such a call does nothing.

    Args:
        verbose: From INFO instead of from WARNING.

    Returns:
        `verbose`, so that it can be an option's callback.
    """
    level = logging.INFO if verbose else logging.WARNING
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(name)s: %(message)s"))
        root.addHandler(handler)
    root.setLevel(level)
    for handler in root.handlers:
        handler.setLevel(level)
    return verbose
