"""The report of a run, as one HTML file and as a table on the terminal, made from the run folder alone."""

from .build import build_report
from .terminal import ladder_table

__all__ = ["build_report", "ladder_table"]
