"""A run in a notebook, and in a tracker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ragladder
from ragladder.core.errors import DataError, MissingExtra
from ragladder.ladder.track import track_run


def test_a_run_gives_frames_settings_and_a_picture(climbed: Any) -> None:
    run = ragladder.load_run("latest", climbed.cache)
    ladder = climbed.ladder()
    assert run.ladder.run_id == ladder["run_id"] and run.ladder.run_id in repr(run)
    test = run.scores[(run.scores.split == "test") & (run.scores.arm == "baseline") & (run.scores.metric == "ndcg@5")]
    mean = ladder["baseline"]["scores"]["test"]["ndcg@5"]["mean"]
    assert test.value.mean() == pytest.approx(mean)
    assert len(run.trials) == ladder["rungs"][0]["details"]["trials"]
    assert set(run.answers.arm) >= {"baseline"} and len(run.questions) == len(run.answers) // run.answers.arm.nunique()
    assert run.best.model_dump(mode="json")["retrieve"] == ladder["final"]["pipeline"]["retrieve"]
    assert list(run.summary().rung) == ["retrieval", "embedding", "llm"]
    assert run.ladder.summary in run._repr_html_() and "<table" in run._repr_html_()
    figure = run.plot_ladder("ndcg@5")
    assert figure.data[0].y[0] == pytest.approx(mean) and figure.layout.yaxis.title.text == "ndcg@5 on test"
    with pytest.raises(DataError, match="no arm has 'bliss'"):
        run.plot_ladder("bliss")


def test_a_run_prints_itself_on_a_rich_console(climbed: Any) -> None:
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=100).print(ragladder.load_run("latest", climbed.cache))
    assert "Retrieval knobs" in text.getvalue()


def test_a_runs_pipeline_answers(climbed: Any) -> None:
    pipeline = ragladder.load_run("latest", climbed.cache).pipeline()
    answer = pipeline.ask("How long does the filter of the drone last?")
    assert answer.status == "ok" and answer.contexts


def test_a_trimmed_run_folder_says_what_is_gone(climbed: Any) -> None:
    run = ragladder.load_run("latest", climbed.cache)
    (run.folder / "scores.parquet").unlink()
    with pytest.raises(DataError, match="scores.parquet is not there"):
        _ = run.scores
    with pytest.raises(DataError, match="no run is called"):
        ragladder.load_run("nothing", climbed.cache)


def test_a_tracker_that_is_not_installed_stops_before_the_climb(
    words: Any, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragladder.ladder.track.find_spec", lambda name: None)
    result = cli("climb", words.config, "--set", "runtime.track=[mlflow]")
    assert result.code == MissingExtra.exit_code and "pip install 'ragladder[track]'" in result.err
    assert not words.cache.exists() or not words.runs()


@pytest.mark.filterwarnings("default")  # mlflow's own deprecations are not ours
def test_a_run_is_logged_to_mlflows_file_store(
    climbed: Any, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    ladder = climbed.ladder()
    result = cli("runs", "track", "latest", "--cache-dir", climbed.cache, "--project", "demo")
    assert result.code == 0, result.err
    client = tracking.MlflowClient(f"file:{tmp_path / 'store'}")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if run.info.run_name == ladder["run_id"]]
    history = client.get_metric_history(parent.info.run_id, "test.ndcg_at_5")
    assert [(m.step, m.value) for m in history][0] == (0, ladder["baseline"]["scores"]["test"]["ndcg@5"]["mean"])
    assert parent.data.params["verdict.retrieval"] == ladder["rungs"][0]["decision"]["verdict"]
    assert len(runs) == 1 + ladder["rungs"][0]["details"]["trials"]
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"ladder.json", "best.yaml"}


def test_nothing_is_logged_where_no_tracker_is_named(climbed: Any) -> None:
    assert track_run((), "ragladder", climbed.runs()[-1]) == []
