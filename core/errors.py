"""The errors a user can meet, and the exit code of each.

    RagladderError            1  anything below
    ├── ConfigError           2  a config file, a `--set` or a command line
    │   ├── ComponentError    2  a component that is unknown, misspelt or does not load
    │   └── MissingExtra      2  a package that an extra installs
    ├── DataError             3  documents, questions, models and other inputs
    ├── StageError            4  a step that failed while it ran
    │   └── EndpointError     4  a server that does not answer, or answers wrongly
    ├── UnreachableError      4  a store or server that every further step needs does not answer
    └── BudgetError           5  a limit on time, tokens or money was reached

Exit code 0 is a finished command (a gate that says "stop" is a result), 130 is Ctrl-C.
A message says what happened, where, and what to do; the CLI alone turns it into text and a code.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec

__all__ = [
    "BudgetError",
    "ComponentError",
    "ConfigError",
    "DataError",
    "EndpointError",
    "MissingExtra",
    "RagladderError",
    "StageError",
    "UnreachableError",
    "did_you_mean",
    "require",
]


class RagladderError(Exception):
    """Base of every error that ragladder raises on purpose."""

    exit_code = 1


class ConfigError(RagladderError):
    """A config file, an override or a command line cannot be used."""

    exit_code = 2


class ComponentError(ConfigError):
    """A component is unknown, misspelt, or does not load."""


class MissingExtra(ConfigError):
    """A package is not installed that one of ragladder's extras brings."""


class DataError(RagladderError):
    """Documents, questions, a model or another input cannot be used."""

    exit_code = 3


class StageError(RagladderError):
    """A step failed while it ran."""

    exit_code = 4


class EndpointError(StageError):
    """A server does not answer, or what it answers cannot be used."""


class UnreachableError(RagladderError):
    """The shared store or the index's server does not answer; no fault of the step that met it, so a sweep stops."""

    exit_code = 4


class BudgetError(RagladderError):
    """A limit on time, tokens or money was reached; the run can be resumed."""

    exit_code = 5


def did_you_mean(asked: str, known: Iterable[str], otherwise: str = "") -> str:
    """A question that names what was meant.

    Args:
        asked: What was written.
        known: What could have been.
        otherwise: The words where nothing known is near; they may list what is.

    Returns:
        "did you mean 'this'?", or `otherwise`.
    """
    near = get_close_matches(asked, list(known), 1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def require(module: str, extra: str, purpose: str) -> None:
    """Checks that a module can be imported, and names the extra that brings it otherwise.

    Args:
        module: Import name, for instance `faiss`.
        extra: The extra of ragladder that installs it, for instance `cpu`.
        purpose: What it is needed for, in words that end the sentence "… is needed for".

    Raises:
        MissingExtra: The module is not installed.
    """
    try:
        found = find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # its parent is missing; it was put into sys.modules by hand
        found = False
    if not found:
        raise MissingExtra(f"the package '{module}' is needed for {purpose}: pip install 'ragladder[{extra}]'")
