"""`ragladder compare`: what it says of two runs, and which runs it refuses. Run folders are written by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from ragladder.core.errors import ConfigError, DataError
from ragladder.eval.multiple import holm
from ragladder.ladder.compare import RunComparison, compare_runs
from ragladder.ladder.config import ScoreSettings
from ragladder.ladder.measures import lower_is_better
from ragladder.ladder.metric_versions import metric_versions
from ragladder.ladder.records import ArmRecord, DataRecord, Diagnosis, LadderRecord

N = 80
Values = Sequence[float | None]


def write_run(folder: Path, name: str, values: dict[str, Values], questions: int = N, **changed: Any) -> Path:
    """A run folder with scores of the final arm on test; a value of None is a timeout."""
    path = folder / "runs" / name
    path.mkdir(parents=True)
    arm = ArmRecord(arm="baseline", pipeline={}, scores={}, seconds_per_question=0, context_tokens=0, causes={})
    data = {"documents": 40, "failures": {}, "questions": {"test": questions}, "unanswerable": {}, "evidence_lost": {}}
    data |= {"documents_sha256": "d", "questions_sha256": "q"} | changed.pop("data", {})
    record = LadderRecord(
        **{
            "status": "finished",
            "run_id": name,
            "name": name,
            "created": "2026-11-20T10:00:00+00:00",
            "ragladder": "0.1.0",
            "config_sha256": "c",
            "seed": 0,
            "data": DataRecord(**data),
            "answer_metric": next(iter(values)),
            "metrics": metric_versions(values, ScoreSettings()),
            "baseline": arm,
            "diagnosis": Diagnosis(causes={}, ceilings=(), can_pay={}),
            "rungs": (),
            "final": arm,
            "summary": "s",
            "next_step": "n",
            "seconds": 1.0,
        }
        | changed
    )
    (path / "ladder.json").write_text(record.model_dump_json())
    (path / "run.json").write_text(json.dumps({"status": "finished", "name": name, "created": record.created}))
    rows = [
        {"id": f"q{i}", "question": f"Question {i}?", "tags": {"kind": "table" if i % 4 == 0 else "text", "all": "yes"}}
        | {"evidence": [{"doc_id": f"d{i // 2}"}] if i % 5 else []}
        for i in range(questions)
    ]
    (path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [
        {"arm": "baseline", "split": "test", "question_id": f"q{i}", "metric": metric, "value": value}
        | {"status": "ok" if value is not None else "timeout", "detail": ""}
        for metric, row in values.items()
        for i, value in enumerate(row)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(scores), path / "scores.parquet")
    return path


def noisy(mean: float, seed: int, spread: float = 0.2) -> list[float | None]:
    generator = random.Random(seed)
    return [mean + generator.uniform(-spread, spread) for _ in range(N)]


def compared(tmp_path: Path, a: dict[str, Values], b: dict[str, Values], **changed: Any) -> RunComparison:
    return compare_runs(write_run(tmp_path, "run-a", a), write_run(tmp_path, "run-b", b, **changed))


def test_the_better_run_is_named_with_its_figures(tmp_path: Path) -> None:
    result = compared(tmp_path, {"token_f1": noisy(0.5, 1)}, {"token_f1": noisy(0.7, 2)})
    [comparison] = result.comparisons
    assert result.verdict.startswith("run-b is better in token_f1: +0.")
    assert comparison.difference is not None and comparison.low is not None and comparison.high is not None
    assert 0 < comparison.low < comparison.difference < comparison.high
    assert comparison.wins + comparison.ties + comparison.losses == comparison.n == N
    assert comparison.holm_p == comparison.p_two_sided, "one metric needs no correction"


def test_turned_round_it_says_the_same(tmp_path: Path) -> None:
    one = compared(tmp_path / "x", {"token_f1": noisy(0.5, 1)}, {"token_f1": noisy(0.7, 2)})
    two = compared(tmp_path / "y", {"token_f1": noisy(0.7, 2)}, {"token_f1": noisy(0.5, 1)})
    assert two.verdict.startswith("run-a is better in token_f1: -0.")
    assert two.comparisons[0].difference == pytest.approx(-(one.comparisons[0].difference or 0))
    assert two.comparisons[0].holm_p == pytest.approx(one.comparisons[0].holm_p, abs=0.01)


def test_a_run_against_itself_cannot_be_told_apart(tmp_path: Path) -> None:
    result = compared(tmp_path, {"token_f1": noisy(0.5, 1)}, {"token_f1": noisy(0.5, 1)})
    assert result.verdict.startswith("the two cannot be told apart in token_f1")
    assert result.comparisons[0].holm_p == 1.0 and result.regressions == ()


def test_holm_over_metrics_takes_a_find_back(tmp_path: Path) -> None:
    """A difference that one metric alone would show is not enough among six."""
    names = ["token_f1", "exact_match", "answer_recall", "answer_contained", "mrr", "ndcg@10"]
    base = noisy(0.5, 1)
    shifted = [(v or 0) + d for v, d in zip(base, noisy(0.03, 5), strict=True)]
    arms = {name: base for name in names}, {name: noisy(0.5, 9) for name in names} | {"token_f1": shifted}
    folders = write_run(tmp_path, "run-a", arms[0]), write_run(tmp_path, "run-b", arms[1])
    alone, many = compare_runs(*folders, ["token_f1"]), compare_runs(*folders, names)
    lead = many.comparisons[0]
    assert lead.p_two_sided is not None and lead.p_two_sided < 0.05
    assert alone.verdict.startswith("run-b is better") and many.verdict.startswith("the two cannot be told apart")
    assert [c.holm_p for c in many.comparisons] == pytest.approx(holm([c.p_two_sided or 0 for c in many.comparisons]))


def test_the_verdict_names_the_other_metrics_too(tmp_path: Path) -> None:
    a = {"token_f1": noisy(0.5, 1), "mrr": noisy(0.7, 2), "exact_match": noisy(0.5, 3)}
    b = {"token_f1": noisy(0.7, 4), "mrr": noisy(0.5, 5), "exact_match": noisy(0.5, 6)}
    folders = write_run(tmp_path, "run-a", a), write_run(tmp_path, "run-b", b)
    verdict = compare_runs(*folders, list(a)).verdict
    assert "run-a is better in mrr" in verdict and "not told apart in exact_match" in verdict


def test_of_a_cost_less_is_better(tmp_path: Path) -> None:
    result = compared(tmp_path, {"context_chars@5": noisy(900, 1)}, {"context_chars@5": noisy(700, 2)})
    assert lower_is_better("context_chars@5") and not lower_is_better("ndcg@5")
    assert result.verdict.startswith("run-b is better in context_chars@5: -")
    assert result.comparisons[0].wins == N and result.regressions == ()


def test_slices_and_questions_begin_with_the_largest_loss(tmp_path: Path) -> None:
    worse = [(v or 0) - (0.4 if i % 4 == 0 else -0.1) for i, v in enumerate(noisy(0.5, 1))]
    result = compared(tmp_path, {"token_f1": noisy(0.5, 1)}, {"token_f1": worse})
    assert [(t.tag, t.value) for t in result.tags] == [("kind", "table"), ("kind", "text")], "'all' is no slice"
    table, text = (t.comparison for t in result.tags)
    assert (table.n, text.n) == (20, 60)
    assert [table.holm_p, text.holm_p] == holm([table.p_two_sided or 0, text.p_two_sided or 0])
    drops = [r.after - r.before for r in result.regressions]
    assert len(drops) == 10 and drops == sorted(drops) and drops[0] < 0
    assert result.regressions[0].question.startswith("Question")
    text_form = "\n".join(result.lines())
    assert text_form.index("kind=table") < text_form.index("kind=text") < text_form.index("largest regressions")


def test_a_slice_of_one_question_is_shown_but_not_tested(tmp_path: Path) -> None:
    values = {"token_f1": [0.5, 0.6, 0.7]}
    result = compare_runs(write_run(tmp_path, "run-a", values, 3), write_run(tmp_path, "run-b", values, 3))
    table = next(t.comparison for t in result.tags if t.value == "table")
    assert table.n == 1 and table.holm_p is None and "not tested" in "\n".join(result.lines())


def test_missing_scores_leave_no_verdict(tmp_path: Path) -> None:
    gaps = noisy(0.9, 2)
    gaps[:6] = [None] * 6
    result = compared(tmp_path, {"token_f1": noisy(0.5, 1)}, {"token_f1": gaps})
    assert result.verdict.startswith("no verdict in token_f1: 0 scores of run-a and 6 of run-b are missing")
    assert "missing 0/6" in "\n".join(result.lines())


# --- refusals ---


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"data": {"questions_sha256": "other"}}, "different questions"),
        ({"data": {"documents_sha256": "other"}}, "different documents"),
        ({"metrics": {"token_f1": "answers 0"}}, "not the same in both runs: answers 1"),
        ({"metrics": {}, "ragladder": "0.0.9"}, "that of ragladder 0.0.9 in run-b"),
    ],
)
def test_unlike_runs_are_refused_with_the_reason(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    values = {"token_f1": noisy(0.5, 1)}
    with pytest.raises(DataError, match=says) as refusal:
        compared(tmp_path, values, values, **changed)
    assert "climb" in str(refusal.value), "it says what to do"


def test_unlike_settings_of_a_metric_are_refused(tmp_path: Path) -> None:
    values = {"token_f1": noisy(0.5, 1)}
    other = metric_versions(values, ScoreSettings(abstention="No answer"))
    with pytest.raises(DataError, match="abstention 'No answer' in run-b"):
        compared(tmp_path, values, values, metrics=other)


def test_scores_of_unlike_judges_are_refused(tmp_path: Path) -> None:
    values = {"ragas/faithfulness": noisy(0.5, 1)}
    a = write_run(tmp_path, "run-a", values, judges={"ragas/faithfulness": "ragas/faithfulness:aaaa"})
    b = write_run(tmp_path, "run-b", values, judges={"ragas/faithfulness": "ragas/faithfulness:bbbb"})
    with pytest.raises(ConfigError, match="different judges") as refusal:
        compare_runs(a, b)
    assert refusal.value.exit_code == 2
    assert compare_runs(a, a).comparisons[0].difference == 0


def test_other_test_questions_of_one_file_are_refused(tmp_path: Path) -> None:
    values = {"token_f1": noisy(0.5, 1)}
    fewer = {"token_f1": noisy(0.5, 1)[:-1]}
    with pytest.raises(DataError, match="different test questions: 1 are in one only, for instance 'q79'"):
        compared(tmp_path, values, fewer)


def test_a_metric_of_one_run_only_is_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path, "run-a", {"token_f1": noisy(0.5, 1), "mrr": noisy(0.5, 2)})
    b = write_run(tmp_path, "run-b", {"token_f1": noisy(0.5, 1)})
    with pytest.raises(DataError, match="'mrr' was not scored in both runs; in both: token_f1"):
        compare_runs(a, b, ["mrr"])


def test_the_command_prints_and_refuses_with_exit_codes(tmp_path: Path, cli: Callable[..., Any]) -> None:
    write_run(tmp_path, "run-a", {"token_f1": noisy(0.5, 1)})
    write_run(tmp_path, "run-b", {"token_f1": noisy(0.7, 2)})
    write_run(tmp_path, "run-c", {"token_f1": noisy(0.7, 2)}, data={"questions_sha256": "other"})
    where = ("--cache-dir", tmp_path)
    said = cli("compare", "run-a", "run-b", *where)
    assert said.code == 0 and "run-b is better in token_f1" in said.out and "p 0" in said.out
    as_json = json.loads(cli("compare", "run-a", "run-b", *where, "--json").out)
    fields = {"run_a", "run_b", "alpha", "comparisons", "tags", "regressions", "verdict"}
    assert set(as_json) == fields and as_json["comparisons"][0]["holm_p"] < 0.001
    refused = cli("compare", "run-a", "run-c", *where)
    assert refused.code == 3 and "different questions" in refused.err and not refused.out
