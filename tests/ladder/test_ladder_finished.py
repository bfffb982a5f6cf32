"""A run in a notebook, and in a tracker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
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


@pytest.mark.filterwarnings("default")  # llama-index' own deprecations are not ours
def test_the_example_of_the_docs_runs(climbed: Any) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/notebooks-and-trackers.md"
    [example] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (climbed.root / ".ragladder").symlink_to(climbed.cache, target_is_directory=True)
    there: dict[str, Any] = {}
    exec(example.replace("ndcg@10", "ndcg@5"), there)  # this run's metrics end at 5
    assert there["run"].ladder.run_id == climbed.ladder()["run_id"] and there["pipeline"] is not None


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


@pytest.mark.filterwarnings("default")  # wandb's own deprecations are not ours
def test_a_run_is_logged_to_wandb_offline(
    climbed: Any, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    ladder = climbed.ladder()
    result = cli("runs", "track", "latest", "--cache-dir", climbed.cache, "--to", "wandb", "--project", "demo")
    assert (result.code, result.err) == (0, "")
    wandb.teardown()  # its process writes the rest
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert f"wandb sync {file.parent}" in result.out
    history, config, files, notes = [], {}, set(), ""
    for record in _wandb_records(file):
        notes += record.run.notes
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.history.item:
            history.append({".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
        for artefact in (record.artifact, record.request.log_artifact.artifact):
            files |= {entry.path for entry in artefact.manifest.contents}
    assert config["verdict.retrieval"] == ladder["rungs"][0]["decision"]["verdict"]
    assert ladder["summary"] in notes
    mean = ladder["baseline"]["scores"]["test"]["ndcg@5"]["mean"]
    assert history[0]["test.ndcg_at_5"] == pytest.approx(mean) and history[0]["_step"] == 0
    assert len(history) == 2 and any(name.startswith("trials") for name in history[1])
    [table] = file.parent.glob("files/media/table/*.json")
    assert len(json.loads(table.read_text())["data"]) == ladder["rungs"][0]["details"]["trials"]
    assert files >= {"ladder.json", "best.yaml"}


def _wandb_records(file: Path) -> Iterator[Any]:
    """What W&B wrote offline: LevelDB's log format (7 bytes of head, blocks of 32 KiB), a protobuf message a record."""
    from wandb.proto import wandb_internal_pb2

    data, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no room for a head: the block is filled up
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(message)
            message = b""


def test_nothing_is_logged_where_no_tracker_is_named(climbed: Any) -> None:
    assert track_run((), "ragladder", climbed.runs()[-1]) == []
