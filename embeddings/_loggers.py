"""The trainer's loggers (TensorBoard, MLflow, W&B ...) by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, MissingExtra

__all__ = ["made_loggers"]


def made_loggers(names: Sequence[str], logs: Path) -> list[Any]:
    """The trainer's own callbacks.

    Args:
        names: As in `report_to`.
        logs: Where those that write files put them.

    Raises:
        ConfigError: There is no logger of such a name.
        MissingExtra: Its package is not installed.
    """
    if not names:
        return []
    from transformers.integrations import integration_utils

    known = integration_utils.INTEGRATION_TO_CALLBACK
    made = []
    for name in names:
        if name not in known:
            raise ConfigError(f"report_to: '{name}' is no logger of the trainer; known: {', '.join(sorted(known))}")
        try:
            callback = known[name]()
        except (RuntimeError, ImportError) as error:
            raise MissingExtra(f"report_to: '{name}' is not installed ({error}); pip install {name}") from None
        # By default TensorBoard's would write among the checkpoints, which are removed.
        if getattr(callback, "logging_dir", "") is None:
            callback.logging_dir = str(logs)
        made.append(callback)
    return made
