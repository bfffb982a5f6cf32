"""Scores by arrays are those of eval.retrieval, metric by metric and question by question."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.core.types import Chunk, Evidence, Question
from ragladder.eval.gold import GoldSpan
from ragladder.eval.retrieval import retrieval_scores
from ragladder.ladder.sweep.vectors import SpanScorer, is_vectorised

KS = (1, 2, 4)
BUDGETS = (7, 30)
TEXT = "x" * 60


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Question], dict[str, tuple[GoldSpan, ...]], list[Chunk], np.ndarray]:
    """Two documents cut with overlaps, questions with none to three spans (some lost), random rankings."""
    chunks = []
    for doc in ("a", "b"):
        for start, length in draw(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 25)), min_size=1, max_size=7)):
            end = min(60, start + length)
            if not any((c.doc_id, c.start, c.end) == (doc, start, end) for c in chunks):
                chunks.append(Chunk(doc, start, end, TEXT[start:end]))
    questions, gold = [], {}
    for number in range(draw(st.integers(1, 4))):
        spans = []
        for _ in range(draw(st.integers(0, 3))):
            doc, start, length = draw(st.sampled_from("ab")), draw(st.integers(0, 50)), draw(st.integers(1, 20))
            lost = draw(st.integers(0, 5)) == 0
            end = min(60, start + length)
            span = GoldSpan(doc, -1, -1, 0.0, "lost", length) if lost else GoldSpan(doc, start, end, 100.0, "exact")
            spans.append(span)
        evidence = tuple(Evidence(span.doc_id, "x") for span in spans)
        questions.append(Question(f"q{number}", "?", "", evidence))
        gold[f"q{number}"] = tuple(spans)
    width = draw(st.integers(0, 6))
    positions = np.full((len(questions), width), -1, dtype=np.int64)
    for row in positions:
        found = draw(st.permutations(range(len(chunks))))[: draw(st.integers(0, width))]
        row[: len(found)] = found
    return questions, gold, chunks, positions


@settings(max_examples=300, deadline=None)
@given(cases())
def test_every_metric_equals_that_of_the_plain_code(case: tuple) -> None:
    questions, gold, chunks, positions = case
    hits = [[chunks[at] for at in row if at >= 0] for row in positions]
    plain: dict[str, list[float]] = {}
    for score in retrieval_scores(questions, hits, gold, KS, budgets=BUDGETS):
        plain.setdefault(score.metric, []).append(np.nan if score.value is None else score.value)
    names = [name for name in plain if is_vectorised(name)]
    assert {"mrr", "ndcg@4", "token_iou@2", "evidence_recall@7c", "context_chars@4"} <= set(names)
    fast = SpanScorer(questions, gold, chunks, max(KS)).scores(positions, names)
    for name in names:
        np.testing.assert_allclose(fast[name], plain[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["precision_omega", "doc_ndcg@5", "token_f1", "ndcg@5c", "ragas/rouge"])
def test_other_metrics_are_left_to_the_plain_code(name: str) -> None:
    assert not is_vectorised(name)
