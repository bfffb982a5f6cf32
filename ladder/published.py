"""Scores the pipelines of a published table and sets the figures side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.components import Model
from ..core.types import Split
from .config import PublishedSettings, with_changes
from .scoring import clusters, estimates
from .workbench import Workbench

__all__ = ["PublishedCell", "compare_published", "published_lines"]


class PublishedCell(Model):
    """One figure, published and ours."""

    row: str
    """Name of the row."""
    metric: str
    """Which."""
    published: float
    """As published."""
    ours: float | None
    """As measured; None where the metric has no value."""
    within: bool
    """Whether the two differ by the tolerance at most."""


def compare_published(bench: Workbench, settings: PublishedSettings, split: Split) -> tuple[PublishedCell, ...]:
    """Scores each row's pipeline.

    Args:
        bench: Of the experiment.
        settings: The table.
        split: Which questions.
    """
    cells = []
    for row in settings.rows:
        evaluation = bench.evaluate(with_changes(bench.config.pipeline, row.changes), split)
        wanted = [score for score in evaluation.scores if score.metric in row.scores]
        scores = estimates(wanted, clusters(evaluation.questions), bench.config.seed)
        for metric, value in row.scores.items():
            ours = scores[metric].mean if metric in scores else None
            within = ours is not None and abs(ours - value) <= settings.tolerance + 1e-9
            cells.append(PublishedCell(row=row.name, metric=metric, published=value, ours=ours, within=within))
    return tuple(cells)


def published_lines(cells: Sequence[PublishedCell]) -> list[str]:
    """The table as text: each metric's published figure, ours, and a mark where they differ by more than allowed."""
    metrics, rows = (list(dict.fromkeys(names)) for names in zip(*((c.metric, c.row) for c in cells), strict=True))
    width = max(map(len, rows))
    lines = ["published figures (left) and ours (right):"]
    lines.append(" " * width + "".join(f"  {metric:>19}" for metric in metrics))
    for row in rows:
        of_row = {cell.metric: cell for cell in cells if cell.row == row}
        lines.append(f"{row:{width}}" + "".join(f"  {_shown(of_row.get(metric)):>19}" for metric in metrics))
    far = sum(not cell.within for cell in cells)
    verdict = f"{len(cells) - far} of {len(cells)} figures agree within the tolerance"
    return [*lines, verdict + ("; * marks the others" if far else "")]


def _shown(cell: PublishedCell | None) -> str:
    if cell is None:
        return ""
    ours = "none" if cell.ours is None else f"{cell.ours:.4f}"
    return f"{cell.published:.4f} {ours}{' ' if cell.within else '*'}"
