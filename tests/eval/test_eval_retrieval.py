"""Retrieval metrics against values worked out by hand, and what holds for any retrieval."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.types import Chunk, Evidence, Question
from ragladder.eval.gold import GoldSpan
from ragladder.eval.retrieval import evidence_ranks, retrieval_metrics, retrieval_scores


def chunk(start: int, end: int, doc_id: str = "d") -> Chunk:
    return Chunk(doc_id, start, end, "x" * (end - start))


def span(start: int, end: int, doc_id: str = "d") -> GoldSpan:
    return GoldSpan(doc_id, start, end, 100.0, "exact", end - start)


def lost(length: int) -> GoldSpan:
    return GoldSpan("d", -1, -1, 0.0, "lost", length)


def question(spans: int = 1) -> Question:
    return Question("q", "?", "!", (Evidence("d", "text"),) * spans)


def scored(
    spans: list[GoldSpan], hits: list[Chunk], ks: tuple[int, ...] = (1, 2, 3), **more: object
) -> dict[str, float | None]:
    scores = retrieval_scores([question(len(spans))], [hits], {"q": tuple(spans)}, ks, **more)  # type: ignore[arg-type]
    assert len({score.metric for score in scores}) == len(scores)
    return {score.metric: score.value for score in scores}


def test_ranks_and_the_metrics_on_them() -> None:
    hits = [chunk(0, 100), chunk(200, 300), chunk(300, 400)]
    values = scored([span(210, 250), span(310, 330)], hits)
    assert [values[f"hit@{k}"] for k in (1, 2, 3)] == [0.0, 1.0, 1.0]
    assert [values[f"evidence_recall@{k}"] for k in (1, 2, 3)] == [0.0, 0.5, 1.0]
    assert values["mrr"] == 0.5
    ideal = 1 + 1 / math.log2(3)
    assert values["ndcg@3"] == pytest.approx((1 / math.log2(3) + 1 / 2) / ideal)
    assert values["ndcg@1"] == 0.0


def test_characters_of_evidence_and_context() -> None:
    # 40 characters of evidence, 30 of them in the first chunk; the second chunk is elsewhere
    values = scored([span(70, 110)], [chunk(0, 100), chunk(500, 600)], (1, 2))
    assert values["token_recall@1"] == pytest.approx(30 / 40)
    assert values["token_precision@1"] == pytest.approx(30 / 100)
    assert values["token_iou@1"] == pytest.approx(30 / 110)
    assert values["token_precision@2"] == pytest.approx(30 / 200)
    assert values["context_chars@2"] == 200.0


def test_overlapping_evidence_and_chunks_count_once_in_the_evidence_and_twice_in_the_cost() -> None:
    values = scored([span(0, 60), span(40, 100)], [chunk(0, 80), chunk(20, 100)], (2,))
    assert values["token_recall@2"] == pytest.approx(1.0)
    assert values["token_precision@2"] == pytest.approx(100 / 160)
    assert values["token_iou@2"] == pytest.approx(100 / 160)


def test_the_same_offsets_in_another_document_are_not_evidence() -> None:
    values = scored([span(0, 50)], [chunk(0, 50, "other")], (1,))
    assert values["hit@1"] == values["token_recall@1"] == values["mrr"] == 0.0


@pytest.mark.parametrize(("start", "held"), [(0, True), (25, True), (50, True), (51, False), (100, False)])
def test_a_chunk_holds_evidence_from_half_of_it_on(start: int, held: bool) -> None:
    assert evidence_ranks([span(0, 100)], [chunk(start, 200)]) == [1 if held else None]


def test_a_lost_span_counts_in_full_against_recall() -> None:
    values = scored([span(0, 60), lost(60)], [chunk(0, 60)], (1,))
    assert values["evidence_recall@1"] == 0.5
    assert values["token_recall@1"] == pytest.approx(0.5)
    assert values["token_precision@1"] == 1.0
    assert values["token_iou@1"] == pytest.approx(0.5)


def test_all_lost_scores_zero_not_missing() -> None:
    values = scored([lost(40)], [chunk(0, 100)], (1,), chunks=[chunk(0, 100)], budgets=(50,))
    assert {name: value for name, value in values.items() if name != "context_chars@1"} == dict.fromkeys(
        set(values) - {"context_chars@1"}, 0.0
    )


def test_precision_omega_is_the_best_that_a_chunking_allows() -> None:
    small = [chunk(start, start + 50) for start in range(0, 200, 50)]
    large = [chunk(0, 200)]
    assert scored([span(40, 60)], [], (1,), chunks=small)["precision_omega"] == pytest.approx(20 / 100)
    assert scored([span(40, 60)], [], (1,), chunks=large)["precision_omega"] == pytest.approx(20 / 200)
    assert scored([span(40, 60)], [], (1,), chunks=[chunk(40, 60, "other")])["precision_omega"] == 0.0


def test_a_budget_cuts_the_text_where_it_ends() -> None:
    hits = [chunk(0, 100), chunk(200, 300)]
    values = scored([span(0, 50), span(200, 240)], hits, (1,), budgets=(49, 60, 119, 120, 500))
    # the second span has 40 characters; half of it is there from 120 on
    assert [values[f"evidence_recall@{b}c"] for b in (49, 60, 119, 120, 500)] == [0.5, 0.5, 0.5, 1.0, 1.0]
    assert scored([span(0, 50)], hits, (1,), budgets=(24,))["evidence_recall@24c"] == 0.0


def test_tokens_of_the_context_are_counted_once_a_chunk() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text) // 10

    hits = [chunk(0, 100), chunk(200, 250), chunk(0, 100)]
    values = scored([span(0, 50)], hits, (1, 2, 3), count_tokens=count)
    assert [values[f"context_tokens@{k}"] for k in (1, 2, 3)] == [10.0, 15.0, 25.0]
    assert len(counted) == 2
    scores = retrieval_scores([question(0)], [hits], {"q": ()}, (2,), count_tokens=count)
    assert [(s.value, s.status) for s in scores if s.metric == "context_tokens@2"] == [(15.0, "ok")]


def test_the_names_are_those_of_the_scores() -> None:
    for chunks, budgets in (([chunk(0, 9)], (10, 20)), (None, ())):
        values = scored([span(0, 9)], [chunk(0, 9)], (1, 3), chunks=chunks, budgets=budgets)
        names = retrieval_metrics((1, 3), budgets, chunks is not None)
        assert [name for name in values if not name.startswith("context_chars")] == names


def test_a_long_chunk_far_in_front_touches_evidence_too() -> None:
    chunks = [chunk(0, 500), *(chunk(start, start + 10) for start in range(0, 1000, 10))]
    # the chunk of 500 and one of 10 touch it: 5 of 500 characters
    assert scored([span(402, 407)], [], (1,), chunks=chunks)["precision_omega"] == pytest.approx(5 / 500)


def test_a_question_without_evidence_is_not_applicable_but_has_a_cost() -> None:
    scores = retrieval_scores([question(0)], [[chunk(0, 30)]], {"q": ()}, (1,), chunks=[chunk(0, 30)], budgets=(10,))
    assert {score.status for score in scores if score.metric != "context_chars@1"} == {"not_applicable"}
    cost = next(score for score in scores if score.metric == "context_chars@1")
    assert (cost.value, cost.status) == (30.0, "ok")


def test_nothing_retrieved_scores_zero() -> None:
    values = scored([span(0, 10)], [], (1, 5))
    assert set(values.values()) == {0.0}


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="no gold spans"):
        retrieval_scores([question()], [[]], {}, (1,))
    with pytest.raises(ValueError, match="cut-off"):
        retrieval_scores([question()], [[]], {"q": (span(0, 1),)}, ())
    with pytest.raises(ValueError):
        retrieval_scores([question()], [], {"q": (span(0, 1),)}, (1,))


PLACES = st.tuples(st.integers(0, 200), st.integers(1, 80), st.sampled_from("ab")).map(
    lambda p: (p[0], p[0] + p[1], p[2])
)
SPANS = st.lists(st.one_of(PLACES.map(lambda p: span(*p)), st.integers(1, 50).map(lost)), min_size=1, max_size=4)
HITS = st.lists(PLACES.map(lambda p: chunk(*p)), max_size=8, unique_by=lambda c: c.id)


@given(spans=SPANS, hits=HITS)
def test_property_all_shares_lie_between_zero_and_one(spans: list[GoldSpan], hits: list[Chunk]) -> None:
    values = scored(spans, hits, (1, 3, 10), chunks=hits, budgets=(20, 100))
    for name, value in values.items():
        assert value is not None
        assert value >= 0 and (name.startswith("context_chars") or value <= 1), name


@given(spans=SPANS, hits=HITS)
def test_property_more_context_never_lowers_recall(spans: list[GoldSpan], hits: list[Chunk]) -> None:
    values = scored(spans, hits, (1, 2, 4, 8), budgets=(10, 50, 100, 800))
    for name in ("hit", "evidence_recall", "token_recall"):
        row = [values[f"{name}@{k}"] for k in (1, 2, 4, 8)]
        assert row == sorted(row, key=float)  # type: ignore[arg-type]
    row = [values[f"evidence_recall@{b}c"] for b in (10, 50, 100, 800)]
    assert row == sorted(row, key=float)  # type: ignore[arg-type]


@given(spans=SPANS, hits=HITS)
def test_property_iou_is_at_most_recall_and_precision(spans: list[GoldSpan], hits: list[Chunk]) -> None:
    values = scored(spans, hits, (4,))
    iou = values["token_iou@4"]
    assert iou is not None and iou <= min(values["token_recall@4"], values["token_precision@4"]) + 1e-12  # type: ignore[type-var]


@given(places=st.lists(PLACES, min_size=1, max_size=4))
def test_property_exactly_the_evidence_is_perfect(places: list[tuple[int, int, str]]) -> None:
    first, *_ = places
    values = scored([span(*first)], [chunk(*first)], (1,))
    assert {values[name] for name in values if not name.startswith("context")} == {1.0}
