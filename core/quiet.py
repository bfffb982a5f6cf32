"""Holds back what libraries print of their own accord, so that a command's lines are its own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["quiet_libraries"]

_LOGGERS = ("sentence_transformers", "datasets", "transformers", "peft", "trl", "accelerate", "bm25s")
_PACKAGES = r"(transformers|peft|trl|accelerate|datasets|sentence_transformers)\b"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside the block: no progress bars, no log lines below errors, no deprecations among the Hugging Face libraries.

    All is as before afterwards. Errors are not held back.
    """
    import datasets
    import huggingface_hub.utils as hub
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=_PACKAGES)
        # The checkpoints of LoRA training take the base's vocabulary as it is.
        warnings.filterwarnings("ignore", message=".*save_embedding_layers.*")
        undo.callback(transformers_logging.set_verbosity, transformers_logging.get_verbosity())
        for logger, level in zip(loggers, levels, strict=True):
            undo.callback(logger.setLevel, level)
        if transformers_logging.is_progress_bar_enabled():
            undo.callback(transformers_logging.enable_progress_bar)
        if not datasets.are_progress_bars_disabled():
            undo.callback(datasets.enable_progress_bars)
        if not hub.are_progress_bars_disabled():
            undo.callback(hub.enable_progress_bars)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
