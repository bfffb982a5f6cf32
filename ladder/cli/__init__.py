"""The command line: one file a command, nothing heavy imported before a command runs."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
