"""Answers: SQuAD's examples, abstention, citations and what cannot be scored."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ragladder.core.types import Answer, Evidence, Question, Score
from ragladder.eval.answers import (
    ANSWER_METRICS,
    READ,
    abstains,
    answer_recall,
    answer_scores,
    exact_match,
    normalise_answer,
    token_f1,
)

SAYS_NOTHING = "Not documented"


def scored(answer: str | Answer, reference: str, answerable: bool = True) -> dict[str, Score]:
    question = Question("q", "?", reference, (Evidence("d", "text"),) if answerable else ())
    answer = answer if isinstance(answer, Answer) else Answer("q", answer)
    scores = answer_scores([question], [answer], SAYS_NOTHING)
    assert tuple(score.metric for score in scores) == ANSWER_METRICS
    return {score.metric: score for score in scores}


@pytest.mark.parametrize(
    ("answer", "reference", "em", "f1"),
    [
        ("The Denver Broncos!", "Denver Broncos", 1.0, 1.0),
        ("denver  broncos", "The Denver Broncos", 1.0, 1.0),
        ("Broncos", "Denver Broncos", 0.0, 2 / 3),  # precision 1, recall 1/2
        ("the cat sat on the mat", "a cat on mat", 0.0, 2 * 3 / 7),  # 3 of 4 and 3 of 3
        ("Santa Clara, California", "Levi's Stadium", 0.0, 0.0),
        ("yes yes", "yes", 0.0, 2 / 3),  # a repeated token counts once
        ("", "", 1.0, 1.0),
        ("", "gold", 0.0, 0.0),
    ],
)
def test_squad_examples(answer: str, reference: str, em: float, f1: float) -> None:
    assert exact_match(answer, reference) == em
    assert token_f1(answer, reference) == pytest.approx(f1)


def test_punctuation_separates_so_that_numbers_stay_apart() -> None:
    assert normalise_answer("E-417, 1.25 m") == "e 417 1 25 m"
    assert exact_match("1.25", "125") == 0.0


@given(one=st.text(max_size=40), two=st.text(max_size=40))
def test_property_measures_are_symmetric_bounded_and_one_for_equal_texts(one: str, two: str) -> None:
    assert token_f1(one, two) == token_f1(two, one)
    assert 0 <= exact_match(one, two) <= token_f1(one, two) <= 1
    assert token_f1(one, one) == exact_match(one, one) == 1
    assert normalise_answer(normalise_answer(one)) == normalise_answer(one)


@pytest.mark.parametrize(
    ("answer", "contained"),
    [("It takes 12 seconds [HW-207].", 1.0), ("112 seconds", 0.0), ("12 s", 0.0), ("12  Seconds!", 1.0)],
)
def test_answer_contained_leaves_citations_out_and_keeps_words_whole(answer: str, contained: float) -> None:
    assert scored(answer, "12 seconds [HW-207]")["answer_contained"].value == contained


@pytest.mark.parametrize(
    ("answer", "recall"),
    [
        ("It takes 12 seconds, which is long.", 1.0),
        ("12 minutes", 0.5),
        ("Nobody knows.", 0.0),
        ("", 0.0),
        ("12 12 12", 0.5),
        ("12 seconds [HW-209]", 1.0),  # the citation has a metric of its own
    ],
)
def test_answer_recall_is_the_share_of_the_references_tokens(answer: str, recall: float) -> None:
    assert scored(answer, "12 seconds [HW-207]")["answer_recall"].value == recall


@pytest.mark.parametrize("metric", ["answer_recall", "answer_contained"])
def test_a_long_answer_is_not_read_to_its_end(metric: str) -> None:
    padding = "word " * READ
    assert scored(padding + "blue", "blue")[metric].value == 1.0
    assert scored(padding + "word blue", "blue")[metric].value == 0.0


def test_a_reference_that_is_a_citation_alone_is_looked_for_as_it_stands() -> None:
    assert scored("see [HW-207]", "[HW-207]")["answer_recall"].value == 1.0
    assert scored("see [HW-208]", "[HW-207]")["answer_contained"].value == 0.0


@given(answer=st.text(max_size=60), reference=st.text(min_size=1, max_size=40))
def test_property_recall_is_bounded_and_one_for_an_answer_that_begins_with_the_reference(
    answer: str, reference: str
) -> None:
    plain = normalise_answer(reference)
    assume(plain)
    assert 0 <= answer_recall(answer, plain) <= 1
    assert answer_recall(f"{plain} {answer}", plain) == 1
    assert answer_recall(answer, plain) >= token_f1(answer, plain) / 2  # F1 is at most twice the recall


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("14 days; 30 days [BL-110, BL-104]", 1.0),
        ("14 days [bl-104]; 30 days [ BL-110 ]", 1.0),
        ("14 days; 30 days [BL-104]", 0.0),
        ("14 days; 30 days [BL-104, BL-110, BL-1]", 0.0),
        ("14 days; 30 days", 0.0),
    ],
)
def test_citations_are_compared_as_sets(answer: str, cited: float) -> None:
    assert scored(answer, "14 days; 30 days [BL-104, BL-110]")["citation_correct"].value == cited


def test_without_a_cited_reference_citations_are_not_applicable() -> None:
    score = scored("x [HW-1]", "x")["citation_correct"]
    assert (score.value, score.status) == (None, "not_applicable")


@pytest.mark.parametrize(
    ("answer", "answerable", "correct"),
    [
        ("Not documented [none]", False, 1.0),
        ("not documented.", False, 1.0),
        ("", False, 1.0),
        ("12 seconds", False, 0.0),
        ("Not documented", True, 0.0),
        ("12 seconds", True, 1.0),
        ("Not documentedly so", False, 0.0),
    ],
)
def test_abstention_is_right_where_the_documents_are_silent(answer: str, answerable: bool, correct: float) -> None:
    assert scored(answer, "Not documented [none]", answerable)["abstention_correct"].value == correct


def test_no_abstention_phrase_makes_no_answer_an_abstention() -> None:
    assert not abstains("12 seconds", "")
    assert not abstains("12 seconds", " - the ")
    assert abstains(" ", "")


def test_a_failed_answer_keeps_its_status_on_every_metric() -> None:
    scores = scored(Answer("q", "", status="timeout", detail="60 s"), "x [A]")
    assert {(score.value, score.status, score.detail) for score in scores.values()} == {(None, "timeout", "60 s")}


def test_without_a_reference_only_abstention_is_scored() -> None:
    scores = scored("12 seconds", " ")
    assert scores.pop("abstention_correct").value == 1.0
    assert {(score.value, score.status) for score in scores.values()} == {(None, "not_applicable")}


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError):
        answer_scores([], [Answer("q", "x")], SAYS_NOTHING)
