"""The commands after a climb, and their JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ragladder
import yaml

Cli = Callable[..., Any]
CACHE = ("--cache-dir", "cache")
ASKED = "How long does the battery of the camera last?"


def parsed(ran: Any) -> Any:
    """Standard output as JSON; nothing else may be on it."""
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_check_prints_the_plan_and_computes_nothing(workspace: Any, cli: Cli) -> None:
    plan = parsed(cli("check", workspace.config, "--json"))
    assert plan["ok"] is True
    assert any("12 files" in line for line in plan["plan"])
    assert any("13 train, 13 dev, 25 test" in line for line in plan["plan"])
    ran = cli("check", workspace.config)
    assert all(line in ran.out for line in plan["plan"])
    assert "ragladder climb" in ran.out.splitlines()[-1]
    assert not workspace.stages()
    assert not workspace.runs()


def test_eval_prints_scores_with_intervals_and_counts(climbed: Any, cli: Cli) -> None:
    result = parsed(cli("eval", climbed.config, "--json"))
    assert {"name", "split", "questions", "documents", "failures", "scores"} <= set(result)
    assert (result["split"], result["questions"], result["documents"]) == ("dev", 13, 12)
    for estimate in result["scores"].values():
        assert set(estimate) == {"mean", "low", "high", "n_ok", "n"}
    # The same figures as the climb's, of the pipeline in the config.
    assert result["scores"]["ndcg@5"] == climbed.ladder()["baseline"]["scores"]["dev"]["ndcg@5"]
    assert 0 <= result["scores"]["ndcg@5"]["low"] <= result["scores"]["ndcg@5"]["mean"]
    test = parsed(cli("eval", climbed.config, "--json", "--split", "test"))
    assert test["scores"] == climbed.ladder()["baseline"]["scores"]["test"]
    assert cli("eval", climbed.config, "--json").out == cli("eval", climbed.config, "--json").out
    text = cli("eval", climbed.config, "--split", "test").out
    assert "ndcg@5" in text
    assert "24/24" in text
    assert "choose nothing by these figures" in text


def test_eval_of_best_yaml_gives_what_the_climb_ended_with(climbed: Any, cli: Cli) -> None:
    best = climbed.runs()[-1] / "best.yaml"
    result = parsed(cli("eval", best, "--json", "--split", "test"))
    assert result["scores"] == climbed.ladder()["final"]["scores"]["test"]


def test_climb_prints_one_record_as_json(climbed: Any, cli: Cli) -> None:
    ran = cli("climb", climbed.config, "--json")
    assert parsed(ran) == climbed.ladder()
    assert ran.err == ""


def test_ask_answers_and_shows_what_it_read(climbed: Any, cli: Cli) -> None:
    said = parsed(cli("ask", "latest", ASKED, *CACHE, "--json"))
    assert set(said) == {"answer", "status", "detail", "contexts"}
    assert said["status"] == "ok"
    first = said["contexts"][0]
    assert set(first) == {"doc_id", "start", "end", "score", "text"}
    assert first["doc_id"] == "DV-8_camera.txt"
    assert first["end"] - first["start"] == len(first["text"])
    text = cli("ask", "latest", ASKED, *CACHE).out
    assert text.startswith(said["answer"])
    assert "DV-8_camera.txt" in text


def test_runs_are_listed_and_shown(climbed: Any, cli: Cli) -> None:
    run, ladder = climbed.runs()[-1], climbed.ladder()
    [row] = parsed(cli("runs", "ls", *CACHE, "--json"))
    assert {"run_id", "status", "name", "created", "summary"} <= set(row)
    assert (row["run_id"], row["status"], row["summary"]) == (run.name, "finished", ladder["summary"])
    assert run.name in cli("runs", "ls", *CACHE).out
    assert parsed(cli("runs", "show", *CACHE, "--json")) == ladder
    for name in (run.name, run.name[:-2], str(run), "latest"):
        assert parsed(cli("runs", "show", name, *CACHE, "--json"))["run_id"] == run.name
    shown = cli("runs", "show", *CACHE).out
    for rung in ladder["rungs"]:
        assert rung["decision"]["verdict"] in shown.lower()


def test_report_is_made_again_from_the_run_folder_alone(climbed: Any, cli: Cli) -> None:
    run = climbed.runs()[-1]
    alone = climbed.root / "moved"
    shutil.move(run, alone)
    shutil.rmtree(climbed.cache)
    shutil.rmtree(climbed.docs)
    ran = cli("report", alone)
    assert ran.code == 0
    assert str(alone / "report.html") in ran.out
    assert climbed.settings()["name"] in (alone / "report.html").read_text()
    # What is named by its folder is named so again, since no other command would find it elsewhere.
    assert ran.out.splitlines()[-1] == f"next:   ragladder runs show {alone}"
    made = parsed(cli("report", alone, "--json"))
    assert made["report"] == str(alone / "report.html") and all(Path(table).is_file() for table in made["tables"])


def test_two_runs_are_compared_on_the_same_questions(climbed: Any, cli: Cli) -> None:
    first = climbed.runs()[-1].name
    changed = ("--set", "rungs.retrieval=null", "--set", "name=plain")
    second = parsed(cli("climb", climbed.config, "--json", *changed))["run_id"]
    result = parsed(cli("compare", first, second, *CACHE, "--json", "--metric", "ndcg@5"))
    [comparison] = result["comparisons"]
    assert (result["run_a"], result["run_b"], comparison["metric"]) == (first, second, "ndcg@5")
    assert comparison["difference"] < 0, "the second run kept random vectors"
    assert comparison["n"] == comparison["wins"] + comparison["ties"] + comparison["losses"] == 24
    assert len(result["regressions"]) == min(10, comparison["losses"])
    back = parsed(cli("compare", second, first, *CACHE, "--json", "--metric", "ndcg@5"))["comparisons"][0]
    assert back["difference"] == pytest.approx(-comparison["difference"])
    assert f"{first} is better" in cli("compare", first, second, *CACHE, "--metric", "ndcg@5").out
    same = parsed(cli("compare", first, first, *CACHE, "--json"))
    assert {c["difference"] for c in same["comparisons"]} == {0.0}
    assert same["regressions"] == []


def test_runs_on_other_questions_are_not_compared(climbed: Any, cli: Cli) -> None:
    first = climbed.runs()[-1].name
    climbed.write_rows(climbed.rows()[:-1])
    second = parsed(cli("climb", climbed.config, "--json"))["run_id"]
    ran = cli("compare", first, second, *CACHE)
    assert ran.code == 3
    assert "different questions" in ran.err
    unknown = cli("compare", first, first, *CACHE, "--metric", "ndcg@99")
    assert unknown.code == 3
    assert "ndcg@99" in unknown.err


@pytest.mark.parametrize("which", ["climbed", "all_rungs"])
def test_an_export_answers_as_the_run_does(which: str, request: pytest.FixtureRequest, cli: Cli) -> None:
    space = request.getfixturevalue(which)
    asked = [row["question"] for row in space.rows() if row["split"] == "test"][::5]
    expected = [parsed(cli("ask", "latest", question, *CACHE, "--json")) for question in asked]
    ran = cli("export", "latest", "out", *CACHE)
    assert ran.code == 0
    assert "ragladder.load" in ran.out
    exported = space.root / "elsewhere"
    shutil.move(space.root / "out", exported)
    # It stands on its own: neither the documents nor the store are needed, nor the working directory.
    shutil.rmtree(space.cache)
    shutil.rmtree(space.docs)
    pipeline = ragladder.load(exported, device="cpu")
    for question, said in zip(asked, expected, strict=True):
        assert pipeline.ask(question).text == said["answer"]
        hits = pipeline.retrieve([question])[0]
        assert [hit.chunk.text for hit in hits] == [context["text"] for context in said["contexts"]]
        assert [hit.score for hit in hits] == pytest.approx([context["score"] for context in said["contexts"]])
    settings = (exported / "pipeline.yaml").read_text()
    assert str(space.root) not in settings
    if which == "all_rungs":
        assert "models/embedding" in settings
        assert "models/llm" in settings


def test_an_export_is_a_llama_index_query_engine(climbed: Any, cli: Cli) -> None:
    from llama_index.core.base.base_query_engine import BaseQueryEngine

    said = parsed(cli("ask", "latest", ASKED, *CACHE, "--json"))
    assert cli("export", "latest", "out", *CACHE).code == 0
    engine = ragladder.load("out", device="cpu").as_query_engine()
    assert isinstance(engine, BaseQueryEngine)
    response = engine.query(ASKED)
    assert str(response) == said["answer"]
    assert [node.text for node in response.source_nodes] == [context["text"] for context in said["contexts"]]
    assert response.source_nodes[0].metadata["doc_id"] == "DV-8_camera.txt"


def test_the_quickstart_that_init_writes_passes_its_check(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("init", tmp_path / "start").code == 0
    monkeypatch.chdir(tmp_path / "start")
    ran = cli("check", "quickstart.yaml")
    assert ran.code == 0, ran.err
    assert "80 files" in ran.out
    assert not (tmp_path / "start" / ".ragladder" / "stages").exists()


def test_the_python_functions_are_the_commands(climbed: Any, cli: Cli, comparable: Any) -> None:
    record = ragladder.climb(climbed.config)
    assert comparable(climbed, record.model_dump(mode="json")) == comparable(climbed, climbed.ladder())
    assert set(ragladder.__all__) >= {"climb", "load", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'clim'"):
        ragladder.clim  # noqa: B018


@pytest.mark.parametrize("command", ["ask", "export"])
def test_documents_that_changed_since_the_run_are_not_used_in_silence(climbed: Any, cli: Cli, command: str) -> None:
    best = climbed.runs()[0] / "best.yaml"
    config = yaml.safe_load(best.read_text())
    config["data"]["documents"] = str(climbed.docs)  # of this copy of the workspace, not of the first one
    best.write_text(yaml.safe_dump(config))
    some = next(climbed.docs.iterdir())
    some.write_text(some.read_text() + "\nA sentence that the run did not see.\n")
    ran = cli(command, "latest", "a question" if command == "ask" else "out", "--cache-dir", climbed.cache)
    assert ran.code == 3 and "have changed since" in ran.err
    assert not (climbed.root / "out").exists()
