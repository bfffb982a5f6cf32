"""Judges against human labels: statistics against textbooks, probes, refusals, the corrected mean, the command."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError
from ragladder.core.types import Evidence, Question
from ragladder.eval._agreement import auc, corrected_mean, kappa
from ragladder.eval.calibrate import (
    CalibrateSettings,
    LabelledAnswer,
    calibrate,
    judge_identity,
    load_labels,
    require_same_judge,
)
from ragladder.eval.judge import JudgeSettings
from ragladder.ladder.cli.app import app
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from typer.testing import CliRunner

QUESTIONS = tuple(
    Question(f"q{n}", f"How many {thing}?", f"{10 * n} {thing}", (Evidence("d", f"There are {10 * n} {thing} here."),))
    for n, thing in enumerate(("lamps", "doors", "pumps", "valves", "cables", "fuses"), 1)
)
JUDGE = JudgeSettings.model_validate(
    {
        "llm": {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "judge"},
        "metrics": ["context_recall"],
    }
)


def settings(metric: str = "token_f1", **changes: object) -> CalibrateSettings:
    return CalibrateSettings.model_validate({"metric": metric, "probes": 0, **changes})


def row(answer: str, human: float | None, question: str = "", **changes: object) -> LabelledAnswer:
    return LabelledAnswer(question or f"question {answer}", answer, "ten lamps", human=human, **changes)  # type: ignore[arg-type]


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


class Judge:
    """A ChatModel test double for context_recall: supported where the context shares a number with the reference."""

    def __init__(self, fooled: bool = False) -> None:
        self.fooled = fooled

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return [Completion(self._reply(request)) for request in requests]

    def _reply(self, request: ChatRequest) -> str:
        text = request.messages[0].content.rpartition("\ninput: ")[2].rpartition("\nOutput:")[0]
        given = json.loads(text)
        number = given["answer"].split()[0]
        verdict = int(self.fooled or number in given["context"].split())
        entry = {"statement": given["answer"], "reason": "", "attributed": verdict}
        return json.dumps({"classifications": [entry]})

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


def test_kappa_and_its_interval_are_the_textbooks() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4, standard error .1303 on 1/n (Fleiss, Cohen, Everitt, 1969)
    a = np.repeat([True, True, False, False], [20, 5, 10, 15])
    b = np.repeat([True, False, True, False], [20, 5, 10, 15])
    found = kappa(a, b, range(50))
    assert found.value == pytest.approx(0.4)
    assert found.low is not None and found.high is not None
    p = np.array([[0.4, 0.1], [0.2, 0.3]])
    rows, columns, k = p.sum(1), p.sum(0), 0.4
    diagonal = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - k)) ** 2 for i in range(2))
    off = (1 - k) ** 2 * sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(2) for j in range(2) if i != j)
    chance = float(rows @ columns)
    variance = (diagonal + off - (k - chance * (1 - k)) ** 2) / (50 * (1 - chance) ** 2)
    reach = 2.0095752371292397 * math.sqrt(variance * 50 / 49)  # t(.975, 49)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=4, max_size=60))
def test_kappa_and_auc_equal_scikit_learns(rows: list[tuple[int, bool]]) -> None:
    scores, human = np.array([r[0] for r in rows], dtype=float), np.array([r[1] for r in rows])
    passed = scores >= 2
    area, agreed = auc(scores, human, range(len(rows))), kappa(passed, human, range(len(rows)))
    if human.all() or not human.any():
        assert area.value is None
    else:
        assert area.value == pytest.approx(roc_auc_score(human, scores))
    if (passed.all() and human.all()) or not (passed.any() or human.any()):
        assert agreed.value is None
    else:
        assert agreed.value == pytest.approx(cohen_kappa_score(passed, human))


def test_repeated_questions_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    human = rng.random(80) < 0.5
    passed = np.where(rng.random(80) < 0.8, human, ~human)
    once = kappa(passed, human, range(80))
    five_times = kappa(np.tile(passed, 5), np.tile(human, 5), list(range(80)) * 5)
    assert (five_times.value, five_times.low, five_times.high) == pytest.approx((once.value, once.low, once.high))


def test_no_disagreement_gives_no_interval() -> None:
    alike = np.array([True, True, False])
    found = kappa(alike, alike, range(3))
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_corrected_mean_is_right_where_the_judge_is_biased() -> None:
    covered, widths, alone = 0, [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = rng.random(500)
        judge = 0.5 * truth + 0.4 + rng.normal(0, 0.05, 500)  # .15 too kind
        found, weight = corrected_mean(judge[:50], truth[:50], judge[50:], range(50), range(50, 500))
        assert found.low is not None and found.high is not None and 0.5 < weight <= 1
        covered += found.low <= 0.5 <= found.high
        widths.append(found.high - found.low)
        alone.append(2 * 2.01 * truth[:50].std(ddof=1) / math.sqrt(50))
    assert 0.92 <= covered / 300 <= 0.98
    assert np.mean(widths) < 0.7 * np.mean(alone)  # narrower than the labels by themselves


def test_a_useless_judge_leaves_the_mean_of_the_labels() -> None:
    human = np.tile([0.0, 1.0, 1.0, 0.0, 1.0], 4)
    found, weight = corrected_mean(np.full(20, 0.7), human, np.full(100, 0.7), range(20), range(20, 120))
    assert (found.value, weight) == (pytest.approx(0.6), 0.0)


def test_agreement_bias_and_confusion_of_an_offline_metric() -> None:
    rows = [
        row("ten lamps", 1.0),
        row("ten lamps!", 0.0),
        row("nine doors", 0.0),
        row("10", 1.0),
        row("unlabelled", None),
    ]
    found = calibrate(rows, settings())
    assert (found.rows, found.labelled, found.compared, found.questions) == (5, 4, 4, 4)
    c = found.confusion
    assert c is not None and (c.both_accept, c.judge_only, c.human_only, c.both_reject) == (1, 1, 1, 1)
    assert found.agreement is not None and found.agreement.value == 0.5
    assert found.kappa is not None and found.kappa.value == 0.0
    assert found.bias is not None and found.bias.value == 0.0
    assert found.judge_mean == pytest.approx(0.4)
    assert found.corrected_mean is None  # fewer than ten labels say too little


def test_unlabelled_answers_give_a_corrected_mean() -> None:
    rows = [row("ten lamps" if n % 2 else "none", float(n % 2), f"q{n}") for n in range(20)]
    rows += [row("ten lamps", None, f"u{n}") for n in range(20)]
    found = calibrate(rows, settings())
    assert found.judge_mean == pytest.approx(0.75)
    assert found.corrected_mean is not None and found.corrected_mean.value == pytest.approx(0.75, abs=0.15)
    assert found.judge_weight is not None and found.judge_weight > 0.4


def test_a_sound_judge_passes_the_probes_and_is_compared() -> None:
    rows = [LabelledAnswer("a", "x", "10 lamps", ("There are 10 lamps",), 1.0)]
    rows += [LabelledAnswer("b", "x", "20 doors", ("There are 10 lamps",), 0.0)]
    chosen = settings("ragas/context_recall", probes=4)
    found = calibrate(rows, chosen, QUESTIONS, JUDGE, Resources(), model=Judge())
    assert [(p.name, p.passed, p.right, p.cases) for p in found.probes] == [
        ("gold", True, 4, 4),
        ("empty", True, 4, 4),
        ("shuffled", True, 4, 4),
    ]
    assert found.sound and found.agreement is not None and found.agreement.value == 1.0


def test_a_judge_that_accepts_everything_fails_before_the_labels_are_judged() -> None:
    rows = [LabelledAnswer("a", "x", "10 lamps", ("There are 10 lamps",), 1.0)]
    chosen = settings("ragas/context_recall", probes=4)
    found = calibrate(rows, chosen, QUESTIONS, JUDGE, Resources(), model=Judge(fooled=True))
    assert [p.passed for p in found.probes] == [True, False, False]
    assert not found.sound and found.compared == 0 and found.kappa is None


def test_probes_need_unlike_questions() -> None:
    with pytest.raises(DataError, match="two questions"):
        calibrate([row("ten", 1.0)], settings(probes=3), QUESTIONS[:1])


def test_scores_of_different_judges_are_refused() -> None:
    rows = [row("a", 1.0, score=0.9, judge="one"), row("b", 0.0, score=0.2, judge="two")]
    with pytest.raises(ConfigError, match="different judges.*'one' and 'two'"):
        calibrate(rows, settings("any"))
    with pytest.raises(DataError, match="none"):
        calibrate([rows[0], row("c", 1.0)], settings("any"))
    found = calibrate([rows[0], row("b", 0.0, score=0.2, judge="one")], settings("any"))
    assert found.judge == "one" and found.agreement is not None and found.agreement.value == 1.0


def test_identity_changes_with_what_changes_a_score_only() -> None:
    here = Resources()
    first = judge_identity("ragas/context_recall", JUDGE, here)
    more_metrics = JUDGE.model_copy(update={"metrics": ("context_recall", "faithfulness")})
    warmer = JUDGE.model_copy(update={"temperature": 0.5})
    assert judge_identity("ragas/context_recall", more_metrics, here, {"embedder": 1}) == first
    assert judge_identity("ragas/context_recall", warmer, here) != first
    assert judge_identity("ragas/faithfulness", JUDGE, here) != first
    require_same_judge(first, first)
    with pytest.raises(ConfigError, match="one judge"):
        require_same_judge(first, judge_identity("ragas/context_recall", warmer, here))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("ragas/noise_sensitivity", "cannot be calibrated"),
        ("ragas/faithfulness", "set score.judge"),
        ("ragas/semantic_similarity", "embedding model"),
    ],
)
def test_what_a_metric_lacks_is_said(metric: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        calibrate([row("ten", 1.0)], settings(metric))


def test_metrics_of_contexts_and_references_need_them() -> None:
    with pytest.raises(DataError, match="'context'"):
        calibrate([row("ten", 1.0)], settings("ragas/context_recall"), judge=JUDGE)
    with pytest.raises(DataError, match="'reference'"):
        calibrate([LabelledAnswer("q", "ten", human=1.0)], settings())


def test_labels_are_read_with_questions_filled_in(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        'id,question,answer,human,context\nq1,,ten,yes,"[""one"", ""two""]"\n,Why?,so,0.25,[1] a passage\nq2,,x,,\n',
    )
    first, second, third = load_labels(path, QUESTIONS)
    assert (first.question, first.reference, first.human) == ("How many lamps?", "10 lamps", 1.0)
    assert first.contexts == ("one", "two")
    assert (second.human, second.contexts, second.reference) == (0.25, ("[1] a passage",), "")
    assert third.human is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,answer\nq,a\n", "no column human"),
        ("question,answer,human,colour\nq,a,1,red\n", "unknown column colour"),
        ("question,answer,human\nq,a,perhaps\n", "labels.csv:2: human: 'perhaps'"),
        ("question,answer,human\nq,a,2\n", "from 0 to 1"),
        ("question,answer,human\nq,a,nan\n", "from 0 to 1"),
        ("id,answer,human\nq99,a,1\n", "id 'q99' is none"),
        ("question,answer,human,score\nq,a,1,0.5\n", "belong together"),
        ("question,answer,human\nq,a,\n", "no row has a label"),
        ("question,answer,human,context\nq,a,1,[3]\n", "texts only"),
    ],
)
def test_bad_labels_are_named_by_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        load_labels(table(tmp_path, text), QUESTIONS)
    assert said in str(error.value)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "d.txt").write_text("There are 10 lamps here.\n")
    lines = [
        {"id": q.id, "question": q.text, "answer": q.answer, "evidence": [{"doc_id": "d.txt", "text": "10 lamps"}]}
        for q in QUESTIONS
    ]
    for line, q in zip(lines, QUESTIONS, strict=True):
        line |= {"evidence": [{"doc_id": "d.txt", "text": q.evidence[0].text}], "split": "dev"}
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = tmp_path / "config.yaml"
    path.write_text("data: {documents: docs, questions: questions.jsonl}\nruntime: {device: cpu}\n")
    return path


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, ["judge", "calibrate", *map(str, arguments)])
    return result.exit_code, result.output, result.exception


def test_command_prints_the_calibration_and_takes_an_earlier_one(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = table(tmp_path, "id,answer,human\nq1,10 lamps,yes\nq2,walls and windows,no\nq3,30 pumps,no\n")
    code, output, _ = run(experiment, labels, "--json")
    found = json.loads(output)
    assert (code, found["metric"], found["compared"], found["sound"]) == (0, "answer_recall", 3, True)
    assert found["agreement"]["value"] == pytest.approx(2 / 3)
    (tmp_path / "earlier.json").write_text(output)
    code, output, _ = run(experiment, labels, "--baseline", tmp_path / "earlier.json")
    assert code == 0 and "before: 0.667" in output and "probe gold" in output
    code, _, error = run(experiment, labels, "--metric", "exact_match", "--baseline", tmp_path / "earlier.json")
    assert code != 0 and isinstance(error, ConfigError) and "different judges" in str(error)


def test_command_ends_with_3_where_a_probe_fails(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = table(tmp_path, "id,answer,human\nq1,10 lamps,yes\n")
    # other questions' answers are alike enough, in letters, to pass so low a threshold
    code, output, _ = run(
        experiment, labels, "--metric", "ragas/non_llm_string_similarity", "--threshold", "0.1", "--quiet"
    )
    assert code == 3 and "FAILED" in output and "kappa" not in output
