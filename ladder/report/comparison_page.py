"""Two or more runs side by side: what they ended with, where they differ, and every question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ...core.errors import DataError
from ..gate import Comparison
from ..records import EstimateRecord, RungRecord
from .charts import Scale, scale_over
from .explorer import explorer_blocks, packed
from .flow import Flow, causes_of, rung_flow
from .render import write_page
from .run_folder import RunFolder, read_run
from .slices import SMALL

if TYPE_CHECKING:
    from ..compare import RunComparison

__all__ = ["Pair", "Side", "build_comparison"]

_LETTERS = "ABCDEFGH"


@dataclass(frozen=True, slots=True)
class Side:
    """A run.

    Attributes:
        letter: A for the first.
        label: Letter and name.
        run: Its folder.
        scores: Of what it ended with, on test.
    """

    letter: str
    label: str
    run: RunFolder
    scores: Mapping[str, EstimateRecord]


@dataclass(frozen=True, slots=True)
class Pair:
    """A run compared with the first one.

    Attributes:
        first: Run A.
        second: The other.
        result: Its metrics, slices and regressions.
        flow: Dev questions by cause, from the first to the second; None where the answers are not known.
    """

    first: Side
    second: Side
    result: RunComparison
    flow: Flow | None


def build_comparison(folders: Sequence[Path], results: Sequence[RunComparison], path: Path) -> Path:
    """Writes the page.

    Args:
        folders: Of two to eight runs.
        results: `compare_runs` of the first with each of the others, in their order.
        path: Of the page; a file that is there is replaced.

    Returns:
        The path.

    Raises:
        DataError: Fewer than two runs or more than eight; a comparison is missing; or a folder cannot be read.
    """
    if not 2 <= len(folders) <= len(_LETTERS):
        raise DataError(f"{len(folders)} runs: a page takes 2 to {len(_LETTERS)}")
    if len(results) != len(folders) - 1:
        raise DataError(f"{len(results)} comparisons for {len(folders)} runs: one a run after the first is needed")
    sides = [_side(letter, read_run(Path(folder))) for letter, folder in zip(_LETTERS, folders, strict=False)]
    causes = {s.label: causes_of(s.run).get(s.run.record.final.arm, {}) for s in sides}
    pairs = tuple(
        Pair(sides[0], second, result, _flow(causes, sides[0], second))
        for second, result in zip(sides[1:], results, strict=True)
    )
    lead = results[0].comparisons[0].metric
    index, details = explorer_blocks(_joined(sides), [(s.label, s.label) for s in sides], lead, _ends(sides))
    names = list(dict.fromkeys(name for side in sides for name in side.scores))
    first = [c.metric for c in results[0].comparisons]
    shown = {
        "sides": sides,
        "pairs": pairs,
        "lead_metrics": first,
        "metrics": [name for name in names if name not in first],
        "settings": _settings(sides),
        "rungs": _rungs(sides),
        "metric_scale": _scale([c for pair in pairs for c in pair.result.comparisons]),
        "tag_scale": _scale([t.comparison for pair in pairs for t in pair.result.tags]),
        "index": packed(index),
        "details": packed(details),
    }
    return write_page("compare.html.j2", shown, Path(path))


def _side(letter: str, run: RunFolder) -> Side:
    return Side(letter, f"{letter}: {run.record.name}", run, run.record.final.scores.get("test", {}))


def _ends(sides: Sequence[Side]) -> tuple[str, str]:
    return sides[0].label, sides[1].label


def _flow(causes: Mapping[str, Mapping[str, str]], first: Side, second: Side) -> Flow | None:
    return rung_flow(causes, first.label, second.label) if causes[first.label] and causes[second.label] else None


def _scale(compared: Sequence[Comparison]) -> Scale:
    """Over scores between 0 and 1; intervals of few questions are cut off where they are far wider than the others."""
    near = [c for c in compared if c.difference is not None and abs(c.difference) <= 1]
    sure = [c for c in near if c.n >= SMALL]
    return scale_over([*(c.difference for c in near), *(end for c in sure for end in (c.low, c.high))], include=(0.0,))


def _joined(sides: Sequence[Side]) -> RunFolder:
    """One folder that holds what each run ended with, as an arm named after the run."""
    first = sides[0].run
    names = ("arm", "split", "question_id", "metric", "value", "status", "detail")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    answers: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for side in sides:
        table, final = side.run.scores, side.run.record.final.arm
        kept = [i for i, arm in enumerate(table.get("arm", ())) if arm == final]
        for name in names[1:]:
            columns[name] += [table[name][i] for i in kept]
        columns["arm"] += [side.label] * len(kept)
        answers += [{**row, "arm": side.label} for row in side.run.answers if row["arm"] == final]
        verdicts += [{**row, "arm": side.label} for row in side.run.verdicts if row["arm"] == final]
    return replace(first, scores=columns, answers=tuple(answers), verdicts=tuple(verdicts))


def _rungs(sides: Sequence[Side]) -> list[tuple[str, tuple[RungRecord | None, ...]]]:
    """Rungs by name, in climbing order: that of each run, None where it has none."""
    found = [{rung.name: rung for rung in side.run.record.rungs} for side in sides]
    names = get_args(RungRecord.model_fields["name"].annotation)
    return [(name, tuple(one.get(name) for one in found)) for name in names if any(name in one for one in found)]


def _settings(sides: Sequence[Side]) -> list[tuple[str, tuple[Any, ...]]]:
    """Settings of the final pipelines that differ: key path, and the value in each run."""
    flat = [_flat(side.run.record.final.pipeline) for side in sides]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [(key, tuple(one.get(key) for one in flat)) for key in keys]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping) or not data:
        return {prefix: data}
    return {
        key: value
        for name, inner in data.items()
        for key, value in _flat(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }
