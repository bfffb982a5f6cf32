"""A finished run, for notebooks: its ladder, scores as frames, and its pipeline."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..core.config import load_config
from ..core.errors import DataError
from .config import ExperimentConfig, PipelineConfig
from .records import ArmRecord, LadderRecord
from .runs import find_run, load_ladder

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure
    from rich.console import Console, ConsoleOptions, RenderResult

    from ..rag.pipeline import Pipeline

__all__ = ["FinishedRun", "load_run"]


def load_run(name: str | Path = "latest", cache_dir: str | Path = ".ragladder") -> FinishedRun:
    """Loads a run that a climb finished.

    Args:
        name: A run's id, the start of it, its folder, or `latest`.
        cache_dir: Where runs are kept.

    Raises:
        DataError: There is no such run, it is not finished, or a file of it is damaged.
    """
    folder = find_run(str(name), Path(cache_dir))
    return FinishedRun(folder, load_ladder(folder))


@dataclass(frozen=True)
class FinishedRun:
    """A finished climb.

    Attributes:
        folder: Its run folder; everything is read from there.
        ladder: What `ladder.json` holds: decisions, arms, diagnosis.
    """

    folder: Path
    ladder: LadderRecord

    @property
    def best(self) -> PipelineConfig:
        """The settings of the pipeline that the climb ended with."""
        return load_config(self.folder / "best.yaml", ExperimentConfig).pipeline

    def pipeline(self) -> Pipeline:
        """That pipeline, ready to use: `ask`, `retrieve`, `as_query_engine`, `as_retriever`.

        Raises:
            DataError: The documents have changed since, or the store of the run is gone.
        """
        from .exported import pipeline_of_run

        return pipeline_of_run(self.folder)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a question, metric, arm and split; failed scores have a status and no value."""
        return self._parquet("scores.parquet")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial of the sweep, with its estimate on dev."""
        return self._parquet("trials.parquet")

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row a question, arm and split: the answer, its cause of loss, the passages."""
        return self._lines("answers.jsonl")

    @cached_property
    def questions(self) -> pd.DataFrame:
        """The dev and test questions with their reference answers and evidence."""
        return self._lines("questions.jsonl")

    def summary(self) -> pd.DataFrame:
        """A row a rung: verdict, metric, both arms on test, gain with its interval, seconds."""
        import pandas as pd

        rows = []
        for rung in self.ladder.rungs:
            gate = rung.decision.primary
            rows.append(
                {
                    "rung": rung.name,
                    "verdict": rung.decision.verdict,
                    "metric": rung.metric,
                    "before": gate.incumbent if gate else None,
                    "after": gate.candidate if gate else None,
                    "gain": gate.difference if gate else None,
                    "low": gate.low if gate else None,
                    "high": gate.high if gate else None,
                    "seconds": rung.cost.seconds,
                }
            )
        return pd.DataFrame(rows)

    def plot_ladder(self, metric: str | None = None, split: Literal["dev", "test"] = "test") -> Figure:
        """The ladder as a plotly figure: each arm's mean with its 95% interval, those adopted in one line.

        Args:
            metric: Which one; the answer metric where not given.
            split: `test` or `dev`.

        Raises:
            DataError: No arm has that metric on that split.
        """
        import plotly.graph_objects as go

        metric = metric or self.ladder.answer_metric
        points = [p for arm, adopted in self._arms() if (p := _point(arm, adopted, metric, split))]
        if not points:
            known = ", ".join(sorted(self.ladder.baseline.scores.get(split, {})))
            raise DataError(f"{self.folder}: no arm has '{metric}' on {split}; there are: {known}")
        figure = go.Figure()
        for name, adopted, colour in (("adopted", True, "#0072b2"), ("not adopted", False, "#999999")):
            shown = [point for point in points if point.adopted is adopted]
            if shown:
                reach = {"type": "data", "symmetric": False}
                reach |= {"array": [p.up for p in shown], "arrayminus": [p.down for p in shown]}
                figure.add_trace(
                    go.Scatter(
                        x=[point.arm for point in shown],
                        y=[point.mean for point in shown],
                        error_y=reach,
                        mode="lines+markers" if adopted else "markers",
                        name=name,
                        line={"color": colour},
                        hovertext=[f"{point.counted} questions" for point in shown],
                    )
                )
        figure.update_xaxes(categoryorder="array", categoryarray=[point.arm for point in points])
        figure.update_layout(title=self.ladder.summary, yaxis_title=f"{metric} on {split}", template="plotly_white")
        return figure

    def _arms(self) -> list[tuple[ArmRecord, bool]]:
        """Baseline and candidates in climbing order, and whether each was adopted."""
        found = [(self.ladder.baseline, True)]
        return found + [(r.candidate, r.decision.verdict == "adopt") for r in self.ladder.rungs if r.candidate]

    def _parquet(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(self._file(name))

    def _lines(self, name: str) -> pd.DataFrame:
        import pandas as pd

        with open(self._file(name), encoding="utf-8") as handle:
            return pd.DataFrame([json.loads(line) for line in handle])

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is not there: the run folder was trimmed")
        return path

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The ladder as `ragladder runs show` prints it."""
        from .report.terminal import ladder_table

        with console.capture() as captured:
            ladder_table(self.ladder, console)
        from rich.text import Text

        yield Text.from_ansi(captured.get())

    def _repr_html_(self) -> str:
        from .report.words import headline

        head = f"<p><b>{html.escape(headline(self.ladder))}</b></p>"
        return head + self.summary().to_html(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–")

    def __repr__(self) -> str:
        """One line: which run and what it came to."""
        return f"FinishedRun({self.ladder.run_id!r}: {self.ladder.summary})"


@dataclass(frozen=True, slots=True)
class _Point:
    """An arm's mean on one split; the reaches are to the ends of its interval."""

    arm: str
    adopted: bool
    mean: float
    up: float
    down: float
    counted: str


def _point(arm: ArmRecord, adopted: bool, metric: str, split: Literal["dev", "test"]) -> _Point | None:
    found = arm.scores.get(split, {}).get(metric)
    if found is None or found.mean is None:
        return None
    high, low = found.high or found.mean, found.low if found.low is not None else found.mean
    return _Point(arm.arm, adopted, found.mean, high - found.mean, found.mean - low, f"{found.n_ok} of {found.n}")
