"""Document-level metrics: equal to trec_eval's, and what graded judgements are read from."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.errors import DataError
from ragladder.core.types import Chunk, Evidence, Question
from ragladder.eval.ir import (
    document_metrics,
    document_ranking,
    document_scores,
    qrels_of,
    ranking_metrics,
    ranking_of,
    relevance_tag,
)

# Random judgements and runs, ties and negative grades among them, with the values that pytrec_eval gives.
CASES = [json.loads(line) for line in Path(__file__).with_name("trec_eval_reference.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES)
def test_the_values_are_those_of_trec_eval(case: dict[str, Any]) -> None:
    expected = case["values"]
    values = ranking_metrics(case["qrels"], ranking_of(case["run"]), (1, 3, 10, 1000))
    assert values["map"] == pytest.approx(expected["map"], abs=1e-9)
    assert values["mrr@1000"] == pytest.approx(expected["recip_rank"], abs=1e-9)
    for k in (1, 3, 10):
        for ours, theirs in (("ndcg", "ndcg_cut"), ("recall", "recall"), ("precision", "P")):
            assert values[f"{ours}@{k}"] == pytest.approx(expected[f"{theirs}_{k}"], abs=1e-9), (ours, k)


def test_worked_out_by_hand() -> None:
    values = ranking_metrics({"a": 3, "b": 1, "c": 0}, ["c", "a", "x", "b"], (2, 4))
    ideal = 3 + 1 / math.log2(3)
    assert values["ndcg@2"] == pytest.approx(3 / math.log2(3) / ideal)
    assert values["ndcg@4"] == pytest.approx((3 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert (values["recall@2"], values["recall@4"]) == (0.5, 1.0)
    assert (values["precision@2"], values["precision@4"]) == (0.5, 0.5)
    assert (values["mrr@2"], values["map"]) == (0.5, (1 / 2 + 2 / 4) / 2)


GRADES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 4), min_size=2, max_size=8)


@given(qrels=GRADES, order=st.permutations(list("abcdefgh")), k=st.integers(1, 8))
def test_property_ndcg_equals_scikit_learns(qrels: dict[str, int], order: list[str], k: int) -> None:
    from sklearn.metrics import ndcg_score

    truth = np.array([[qrels.get(doc, 0) for doc in order]])
    expected = ndcg_score(truth, np.arange(len(order), 0, -1)[None, :], k=k)
    assert ranking_metrics(qrels, order, (k,))[f"ndcg@{k}"] == pytest.approx(expected, abs=1e-12)


@given(qrels=GRADES, order=st.permutations(list("abcdefgh")))
def test_property_values_lie_between_zero_and_one_and_the_ideal_order_is_perfect(
    qrels: dict[str, int], order: list[str]
) -> None:
    assert all(0 <= value <= 1 for value in ranking_metrics(qrels, order, (1, 5)).values())
    if any(qrels.values()):
        best = ranking_metrics(qrels, sorted(qrels, key=lambda doc: -qrels[doc]), (1, 8))
        assert best["ndcg@1"] == best["ndcg@8"] == best["recall@8"] == best["map"] == best["mrr@1"] == pytest.approx(1)


def test_equal_scores_are_ranked_by_falling_id_as_trec_eval_does() -> None:
    assert ranking_of({"a": 1.0, "b": 2.0, "c": 1.0}) == ["b", "c", "a"]
    assert ranking_of({"a": 1.0 + 1e-12, "c": 1.0}) == ["c", "a"]


def question(*doc_ids: str, **tags: str) -> Question:
    return Question("q", "?", "", tuple(Evidence(doc_id, "text") for doc_id in doc_ids), tags)


def test_judgements_are_the_documents_of_the_evidence() -> None:
    assert qrels_of(question("a", "b", "a")) == {"a": 1, "b": 1}
    assert qrels_of(question("a", "b", "a", relevance="1 2 3")) == {"a": 3, "b": 2}
    assert qrels_of(question("a", "b", **relevance_tag([2, 1]))) == {"a": 2, "b": 1}
    assert relevance_tag([1, 1]) == {}


@pytest.mark.parametrize("tag", ["2", "1 2 3", "high low", ""])
def test_grades_that_do_not_fit_the_evidence_are_refused(tag: str) -> None:
    with pytest.raises(DataError, match="'q': the tag 'relevance'.*2 whole numbers"):
        qrels_of(question("a", "b", relevance=tag))


def test_a_document_is_ranked_where_its_first_chunk_is() -> None:
    hits = [Chunk(doc, n, n + 1, "x") for n, doc in enumerate("xaxxab")]
    assert document_ranking(hits) == ["x", "a", "b"]
    scores = {s.metric: s.value for s in document_scores([question("a", "b")], [hits], (2,))}
    assert scores["doc_recall@2"] == 0.5
    assert scores["doc_mrr@2"] == 0.5
    assert scores["doc_map"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_question_without_a_relevant_document_is_not_applicable() -> None:
    for asked in (question(), question("a", relevance="0")):
        scores = document_scores([asked], [[]], (5,))
        assert {(s.value, s.status) for s in scores} == {(None, "not_applicable")}
        assert [s.metric for s in scores] == document_metrics([5])
        assert {s.metric for s in scores} == {"doc_ndcg@5", "doc_recall@5", "doc_precision@5", "doc_mrr@5", "doc_map"}


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        ranking_metrics({"a": 1}, ["a", "a"], (1,))
    with pytest.raises(ValueError, match="cut-offs"):
        ranking_metrics({"a": 1}, ["a"], (0,))
    with pytest.raises(ValueError, match="cut-off"):
        document_scores([question("a")], [[]], ())
