"""What the report works out from a run: flows of questions, knobs of a sweep, costs, comparisons of runs."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from page_reading import Page, unpacked
from ragladder.core.config import validate
from ragladder.core.errors import DataError
from ragladder.ladder.compare import compare_runs
from ragladder.ladder.config import ExperimentConfig
from ragladder.ladder.records import LadderRecord
from ragladder.ladder.report import build_comparison, build_report
from ragladder.ladder.report.findings import compared, curves, facts, found_tables, learning_curves, mixtures
from ragladder.ladder.report.flow import CAUSES, climb_flow, flow_chart, moves, rung_flow
from ragladder.ladder.report.sweep_charts import parallel_lines
from ragladder.ladder.report.sweep_views import compact, of_sweep, of_trials
from ragladder.ladder.sweep.results import SweepRecord
from report_run import write_run

GRID = [(size, mode) for size in (128, 256) for mode in ("dense", "bm25")]
CAUSE = st.sampled_from(CAUSES)


def trial(number: int, changes: dict[str, Any], mean: float | None, objective: str = "hit@5") -> dict[str, Any]:
    row = {"rung": "retrieval", "trial": number, "axis": "x", "value": "null", "changes": json.dumps(changes)}
    return {**row, "objective": objective, "mean": mean, "status": "ok" if mean is not None else "failed"}


# --- flows ---


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.tuples(CAUSE, CAUSE), min_size=1, max_size=40))
def test_no_question_is_lost_on_the_way(pairs: dict[str, tuple[str, str]]) -> None:
    causes = {"a": {q: pair[0] for q, pair in pairs.items()}, "b": {q: pair[1] for q, pair in pairs.items()}}
    flow = rung_flow(causes, "a", "b")
    assert flow is not None
    assert flow.counts[0] == Counter(pair[0] for pair in pairs.values())
    assert flow.counts[1] == Counter(pair[1] for pair in pairs.values())
    assert sum(flow.links[0].values()) == len(pairs)
    assert sum(move.n for move in moves(flow)) == sum(before != after for before, after in pairs.values())
    drawn = str(flow_chart(flow, "x"))
    assert drawn.count("<path") == len(flow.links[0])


def test_moves_say_what_was_gained() -> None:
    causes = {"a": {"1": "ranked_out", "2": "answered", "3": "ranked_out", "4": "wrong_answer"}}
    causes["b"] = {"1": "answered", "2": "wrong_answer", "3": "answered", "4": "wrong_answer"}
    flow = rung_flow(causes, "a", "b")
    assert flow is not None
    assert [(m.before, m.after, m.n, m.gained) for m in moves(flow)] == [
        ("ranked_out", "answered", 2, True),
        ("answered", "wrong_answer", 1, False),
    ]
    assert rung_flow(causes, "a", "unknown") is None


def test_the_flow_of_the_climb_leaves_out_what_was_not_adopted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 12)
    record = LadderRecord.model_validate_json((folder / "ladder.json").read_bytes())
    causes = {arm: dict.fromkeys("abc", "answered") for arm in ("baseline", "retrieval", "embedding", "llm")}
    flow = climb_flow(causes, record)
    assert flow is not None
    assert flow.titles == ("Questions", "Baseline", "Retrieval knobs")


# --- knobs ---


def test_numbers_among_words_stand_last_and_ascend() -> None:
    values = [30, "none", 4, "auto", 5]
    rows = [trial(number, {"retrieve.per_document": value}, 0.1 * number) for number, value in enumerate(values)]
    [view] = of_trials(rows, {}, "grid")
    assert [value.label for value in view.knobs[0].values] == ["none", "auto", "4", "5", "30"]


def test_a_knob_that_matters_leads_and_its_share_is_right() -> None:
    scores = {128: {"dense": 0.2, "bm25": 0.3}, 256: {"dense": 0.6, "bm25": 0.7}}
    rows = [trial(i, {"chunk.size": s, "retrieve.mode": m}, scores[s][m]) for i, (s, m) in enumerate(GRID)]
    [view] = of_trials(rows, {}, "grid")
    size, mode = view.knobs
    assert (size.name, mode.name) == ("chunk.size", "retrieve.mode")
    # Sums of squares by hand: 0.16 between the sizes, 0.01 between the modes, 0.17 in all.
    assert size.importance == pytest.approx(0.16 / 0.17) and mode.importance == pytest.approx(0.01 / 0.17)
    assert size.alone == pytest.approx(0.4) and mode.alone == pytest.approx(0.1)
    assert [(v.label, v.trials, round(v.mean, 6), v.low, v.high) for v in size.values] == [
        ("128", 2, 0.25, 0.2, 0.3),
        ("256", 2, 0.65, 0.6, 0.7),
    ]
    assert [one.score for one in view.tried if one.best] == [0.7]


def test_a_guided_search_has_no_shares_and_compares_what_differs_in_one_knob() -> None:
    pipeline = {"retrieve": {"mode": "dense"}, "chunk": {"kind": "token", "size": 256}}
    hybrid = {"retrieve.mode": "hybrid"}
    chunks = [{"kind": "section", "size": size, "overlap": 0} for size in (128, 256)]
    rows = [
        trial(1, {}, 0.3),
        trial(2, hybrid, 0.7),
        trial(3, hybrid | {"chunk": chunks[0]}, 0.8),
        trial(4, hybrid | {"chunk": chunks[1]}, 0.75),
        trial(5, hybrid | {"chunk": chunks[1], "rerank": "x"}, None),
    ]
    [view] = of_trials(rows, pipeline, "coordinate")
    assert view.guided and view.failed == 1
    found = {knob.name: knob for knob in view.knobs}
    assert all(knob.importance is None for knob in view.knobs)
    assert found["retrieve.mode"].alone == pytest.approx(0.4) and found["chunk"].alone == pytest.approx(0.1)
    # What all sections share is left out; what the incumbent has is named by its value where a word holds it.
    assert {v.label for v in found["chunk"].values} == {"token (as it was)", "section, size 128", "section, size 256"}
    assert {v.label for v in found["retrieve.mode"].values} == {"dense", "hybrid"}
    assert "rerank" not in found


def test_objectives_are_not_mixed_and_less_is_better_for_a_cost() -> None:
    rows = [trial(i, {"k": i}, 0.1 * i) for i in range(3)]
    rows += [trial(i, {"k": i}, 100.0 * (i + 1), "context_chars@5") for i in range(3)]
    views = of_trials(rows, {}, "grid")
    assert [view.objective for view in views] == ["hit@5", "context_chars@5"]
    assert [one.score for view in views for one in view.tried if one.best] == [0.2, 100.0]
    assert of_trials(rows[:2], {}, "grid") == []


@pytest.mark.parametrize("changes", ["", "null", "[1]", "{broken"])
def test_rows_without_readable_changes_draw_nothing(changes: str) -> None:
    assert of_trials([{"changes": changes, "mean": 0.5, "status": "ok"}] * 4, {}, "grid") == []


def test_compact_words() -> None:
    assert compact({"kind": "section", "size": 256}) == "section, size 256"
    assert [compact(v) for v in (None, True, 0.5, "x", ["a", 1], {})] == ["none", "true", "0.5", "x", "a, 1", ""]


def sweep_record(**changes: Any) -> dict[str, Any]:
    def one(rank: int | None, size: int, score: float | None, chars: float, pareto: bool) -> dict[str, Any]:
        status, error = ("ok", "") if rank else ("failed", "<b>")
        named = {"rank": rank, "trial": size, "point": {"chunk.size": size}, "status": status, "error": error}
        known = {"objectives": {"hit@5": score, "context_chars": chars}, "estimates": {}, "pareto": pareto}
        return named | known | {"behind": None, "same_as_best": None, "seconds": 1.0}

    values = [{"value": size, "trials": 1, "mean": 0.5, "best": 0.5} for size in (64, 128, 256)]
    record = {
        "status": "finished", "run_id": "20261120-1-s", "name": "s", "created": "2026-11-20T10:00:00+00:00",
        "ragladder": "0.1.0", "config_sha256": "ab", "seed": 0, "search": "grid",
        "objectives": ["hit@5", "context_chars"], "constraints": [], "questions": 30, "counts": {"ok": 3, "failed": 1},
        "plan": [], "summary": "Best of 4 on dev: <chunk> 256", "winner": {"chunk.size": 256}, "best_yaml": "best.yaml",
        "trials": [one(1, 256, 0.8, 900, True), one(2, 128, 0.7, 500, True), one(3, 64, 0.6, 700, False),
                   one(None, 32, None, 0, False)],
        "axes": [{"axis": "chunk.size", "importance": 0.9, "spread": 0.2, "values": values}],
        "pareto": [256, 128], "tokens": 0, "money": 0.0, "seconds": 9.0,
    }  # fmt: skip
    return record | changes


def test_the_folder_of_a_sweep_gets_its_page(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(sweep_record()), encoding="utf-8")
    page = Page(build_report(tmp_path).read_text(encoding="utf-8"))
    words = page.words()
    assert "Best of 4 on dev: <chunk> 256" in words and "90% of the variance (fANOVA)" in words
    assert "failed: <b>" in words
    front = [a for t, a in page.tags if t == "circle" and "final" in a["class"]]
    assert len(front) == 2
    with open(tmp_path / "trials.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    first = [(row["rank"], row["chunk.size"], row["hit@5"]) for row in rows[:2]]
    assert first == [("1", "256", "0.8"), ("2", "128", "0.7")]


def test_a_sweep_with_too_few_scores_says_so(tmp_path: Path) -> None:
    record = sweep_record()
    (tmp_path / "sweep.json").write_text(json.dumps(record | {"trials": record["trials"][:2]}), encoding="utf-8")
    assert "nothing to draw" in build_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "sweep.json").write_text('{"schema_version": 7}', encoding="utf-8")
    with pytest.raises(DataError, match=r"sweep\.json: does not fit this version"):
        build_report(tmp_path)


def test_an_axis_that_a_trial_does_not_name_is_as_configured_or_off(tmp_path: Path) -> None:
    for search, word in (("coordinate", "as configured"), ("grid", "off")):
        record = sweep_record(search=search, summary="Best of 4 on dev: 64. Not tested.")
        del record["trials"][2]["point"]["chunk.size"]
        (tmp_path / "sweep.json").write_text(json.dumps(record), encoding="utf-8")
        view = of_sweep(SweepRecord.model_validate(record))
        assert view is not None and {v.label for v in view.knobs[0].values} == {"256", "128", word}
        page = Page(build_report(tmp_path).read_text(encoding="utf-8"))
        assert f" {word} 1.0 s" in page.words() and page.words().index("Best of 4") < page.words().index("Not tested.")


def test_a_line_a_trial() -> None:
    view = of_sweep(SweepRecord.model_validate(sweep_record()))
    assert view is not None
    drawn = str(parallel_lines(view, "x"))
    assert drawn.count("<polyline") == 3 and drawn.count('class="best"') == 1


# --- findings ---


def test_curves_need_two_points_and_numbers() -> None:
    history = [{"step": 1, "loss": 2.0, "dev": None}, {"step": 2, "loss": 1.0, "dev": 0.5}, "no row"]
    assert [(c.name, c.x_name, c.points) for c in curves(history)] == [("loss", "step", ((1.0, 2.0), (2.0, 1.0)))]
    assert curves("broken") == [] and learning_curves({"curve": "x"}) == [] and mixtures({"candidates": [[1]]}) == []
    points = [{"share": 1.0, "questions": 40, "hit": 0.5}, {"share": 0.5, "questions": 20, "hit": 0.4}]
    [curve] = learning_curves({"curve": {"points": points}})
    assert (curve.x_name, curve.points) == ("questions", ((20.0, 0.4), (40.0, 0.5)))


def test_lists_of_records_are_tables_and_not_facts() -> None:
    details = {"sizes": [{"model": "a", "bytes": 1}, {"model": "b"}], "pairs": 3, "data": {"rows": [{"x": None}]}}
    tables = found_tables(details)
    assert [(t.title, t.columns, t.rows) for t in tables] == [
        ("sizes", ("model", "bytes"), (("a", "1"), ("b", "–"))),
        ("data: rows", ("x",), (("–",),)),
    ]
    assert facts(details) == [("pairs", "3")]


def test_every_comparison_says_what_it_was_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 12)
    record = LadderRecord.model_validate_json((folder / "ladder.json").read_bytes())
    rung = record.rungs[0]
    assert [purpose for purpose, _ in compared(rung)] == ["Dev: chose it", "Test: the gate", "Test: guardrail"]
    again = rung.decision.primary.model_copy() if rung.decision.primary else None
    prompted = rung.model_copy(update={"decision": rung.decision.model_copy(update={"prompt": again})})
    assert [purpose for purpose, _ in compared(prompted)][1:3] == ["Test: the gate", "Test: against the best prompt"]


def test_the_yaml_of_the_page_on_the_report_is_what_a_config_takes() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    [text] = re.findall(r"```yaml\n(.*?)```", page, re.S)
    data = {"data": {"documents": "docs", "questions": "q.jsonl"}}
    validate({**data, **yaml.safe_load(text)}, ExperimentConfig, "report.md")


# --- comparisons of runs ---


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("two")
    folders = [write_run(root / name, 60) for name in ("first", "second")]
    path = folders[1] / "ladder.json"
    record = LadderRecord.model_validate_json(path.read_bytes())
    changed = record.baseline.model_copy(update={"pipeline": {"chunk": {"size": 64}}})
    rungs = record.rungs[:-1]
    other = record.model_copy(update={"name": "plain <b>", "run_id": "b", "final": changed, "rungs": rungs})
    path.write_text(other.model_dump_json(), encoding="utf-8")
    return folders


def test_runs_side_by_side(two: list[Path], tmp_path: Path) -> None:
    result = compare_runs(*two)
    page = Page(build_comparison(two, [result], tmp_path / "page.html").read_text(encoding="utf-8"))
    words = page.words()
    assert result.verdict in words and "B: plain <b>" in words
    index = unpacked(page.scripts["data-index"])
    assert [arm for arm, _ in index["arms"]] == ["A: quickstart", "B: plain <b>"]
    assert (index["baseline"], index["final"]) == ("A: quickstart", "B: plain <b>")
    lead = result.comparisons[0]
    questions = [row[3] == "test" for row in index["questions"]]
    for arm, mean in (("A: quickstart", lead.incumbent), ("B: plain <b>", lead.candidate)):
        values = index["scores"][arm][lead.metric]
        on_test = [v for v, asked in zip(values, questions, strict=True) if asked and v is not None]
        assert sum(on_test) / len(on_test) == pytest.approx(mean, abs=1e-4)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert "chunk.size" in words


def test_how_runs_got_there_and_what_they_are_made_of_stand_side_by_side(two: list[Path], tmp_path: Path) -> None:
    words = Page(build_comparison(two, [compare_runs(*two)], tmp_path / "p.html").read_text(encoding="utf-8")).words()
    ladders = words[words.index("How each got there") : words.index("Settings that differ")]
    first = LadderRecord.model_validate_json((two[0] / "ladder.json").read_bytes())
    gate = first.rungs[0].decision.primary
    assert gate is not None and gate.difference is not None and ladders.count(f"{gate.difference:+.3f}") == 2
    assert ladders.count("LLM finetuning") == 1 and ladders.count("not in this run") == 1
    differs, same = words[words.index("What differs") :].split("What is the same", 1)
    assert f"run {first.run_id} b" in differs and f"seed {first.seed} {first.seed}" in same
    assert first.data.documents_sha256[:12] in same and first.data.documents_sha256[:12] not in differs


def test_three_runs_are_compared_with_the_first(two: list[Path], tmp_path: Path) -> None:
    folders = [two[0], two[1], two[0]]
    results = [compare_runs(folders[0], other) for other in folders[1:]]
    words = Page(build_comparison(folders, results, tmp_path / "p.html").read_text(encoding="utf-8")).words()
    assert "C: quickstart against A: quickstart" in words and results[1].verdict in words


def test_a_page_needs_two_runs_and_their_comparisons(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 runs: a page takes 2 to 8"):
        build_comparison(two[:1], [], tmp_path / "p.html")
    with pytest.raises(DataError, match="0 comparisons for 2 runs"):
        build_comparison(two, [], tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_a_page_cannot_be_a_folder_nor_lie_below_a_file(two: list[Path], tmp_path: Path) -> None:
    result = compare_runs(*two)
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "page.html"):
        with pytest.raises(DataError, match="cannot be written there"):
            build_comparison(two, [result], path)


def test_the_command_writes_the_page(two: list[Path], tmp_path: Path) -> None:
    from ragladder.ladder.cli.app import app
    from typer.testing import CliRunner

    for folder in two:
        (folder / "run.json").write_text("{}", encoding="utf-8")
    page = tmp_path / "page.html"
    ran = CliRunner().invoke(app, ["compare", *map(str, two), "--html", str(page)])
    assert ran.exit_code == 0, ran.output
    assert f"page: {page}" in ran.output and page.is_file()
    pair = json.loads(CliRunner().invoke(app, ["compare", *map(str, two), "--json"]).output)
    three = json.loads(CliRunner().invoke(app, ["compare", *map(str, [*two, two[0]]), "--json"]).output)
    assert three[0] == pair and [one["run_a"] for one in three] == [pair["run_a"]] * 2 and len(three) == 2
