"""The report of a run or sweep as one HTML file, of several runs side by side, and the ladder on the terminal."""

from .build import build_report
from .comparison_page import build_comparison
from .terminal import ladder_table

__all__ = ["build_comparison", "build_report", "ladder_table"]
