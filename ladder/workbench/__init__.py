"""Scores pipelines: turns a `PipelineConfig` into stages, and their results into scores a question.

bench.py      the workbench: parsing, chunks, questions, scores, what they cost
encoding.py   embedders and the vectors of chunks
searching.py  indexes, retrieval, query transforms, reranking
answering.py  the reader and its worked examples
failing.py    what is kept of a stage in which some questions failed
"""

from __future__ import annotations

from .bench import Evaluation, Meter, Retrieved, Workbench

__all__ = ["Evaluation", "Meter", "Retrieved", "Workbench"]
