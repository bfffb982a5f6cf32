"""Each lost question is counted at the first place where it was lost."""

import pytest
from ragladder.core.types import Chunk, Evidence, Question
from ragladder.eval.diagnosis import (
    CAUSES,
    FAULTS,
    Counterfactuals,
    Outcome,
    attribute,
    count_causes,
    count_faults,
    fault_of,
)
from ragladder.eval.gold import GoldSpan

GOOD = Chunk("d", 0, 100, "x" * 100)
ALSO = Chunk("d", 500, 600, "x" * 100)
WRONG = Chunk("e", 0, 100, "x" * 100)
SPAN = GoldSpan("d", 10, 50, 100.0, "exact", 40)
SECOND = GoldSpan("d", 510, 550, 100.0, "exact", 40)
LOST = GoldSpan("d", -1, -1, 0.0, "lost", 40)


def outcome(
    candidates: list[Chunk], contexts: list[Chunk], value: float | None, spans: tuple[GoldSpan, ...] = (SPAN,)
) -> Outcome:
    question = Question("q", "?", "!", tuple(Evidence("d", "text") for _ in spans))
    (found,) = attribute([question], [candidates], [contexts], {"q": spans}, {"q": value}, good_enough=0.5)
    return found


@pytest.mark.parametrize(
    ("candidates", "contexts", "value", "spans", "cause", "rank"),
    [
        ([GOOD], [GOOD], 0.5, (SPAN,), "answered", 1),
        ([WRONG, GOOD], [WRONG, GOOD], 0.4, (SPAN,), "wrong_answer", 2),
        ([WRONG, GOOD], [WRONG], 0.4, (SPAN,), "ranked_out", 2),
        ([WRONG], [WRONG], 0.4, (SPAN,), "not_retrieved", None),
        ([], [], 0.0, (SPAN,), "not_retrieved", None),
        ([GOOD], [GOOD], 0.0, (SPAN, LOST), "lost_in_parsing", None),
        # answered all the same, from another passage or by luck: a lost question is what is explained
        ([WRONG], [WRONG], 1.0, (SPAN,), "answered", None),
        ([GOOD], [GOOD], None, (SPAN,), "metric_missing", 1),
        # both pieces of evidence must arrive
        ([GOOD, WRONG, ALSO], [GOOD, WRONG], 0.0, (SPAN, SECOND), "ranked_out", 3),
        ([GOOD, WRONG], [GOOD, WRONG], 0.0, (SPAN, SECOND), "not_retrieved", None),
        ([GOOD, ALSO], [GOOD, ALSO], 0.0, (SPAN, SECOND), "wrong_answer", 2),
        ([GOOD], [GOOD], 0.0, (), "unanswerable_answered", None),
        ([GOOD], [GOOD], 1.0, (), "answered", None),
    ],
)
def test_causes(
    candidates: list[Chunk],
    contexts: list[Chunk],
    value: float | None,
    spans: tuple[GoldSpan, ...],
    cause: str,
    rank: int | None,
) -> None:
    assert outcome(candidates, contexts, value, spans) == Outcome("q", cause, rank)  # type: ignore[arg-type]


def test_a_question_without_a_value_is_missing_not_wrong() -> None:
    question = Question("q", "?", "!", (Evidence("d", "text"),))
    (found,) = attribute([question], [[GOOD]], [[GOOD]], {"q": (SPAN,)}, {}, 0.5)
    assert found.cause == "metric_missing"


def test_evidence_that_was_never_looked_for_is_an_error() -> None:
    question = Question("q", "?", "!", (Evidence("d", "text"),))
    with pytest.raises(ValueError, match="no gold spans"):
        attribute([question], [[]], [[]], {}, {"q": 0.0}, 0.5)


def test_counts_name_every_cause_and_lose_no_question() -> None:
    outcomes = [outcome([GOOD], [GOOD], value) for value in (1.0, 1.0, 0.0, None)]
    counts = count_causes(outcomes)
    assert tuple(counts) == CAUSES
    assert counts["answered"] == 2 and counts["wrong_answer"] == counts["metric_missing"] == 1
    assert sum(counts.values()) == len(outcomes)


FUZZY = GoldSpan("d", 10, 50, 91.0, "fuzzy", 40)


def asked_again(
    first: float | None,
    alone: float | None,
    reference: float | None = 1.0,
    spans: tuple[GoldSpan, ...] = (SPAN,),
    shown: list[Chunk] | None = None,
) -> Outcome:
    """A question whose evidence was kept, answered wrongly, and asked again."""
    question = Question("q", "?", "!", tuple(Evidence("d", "text") for _ in spans))
    again = Counterfactuals({"q": first}, {"q": alone}, {"q": reference})
    context = [WRONG, GOOD]
    prompt = context if shown is None else shown
    return attribute([question], [context], [context], {"q": spans}, {"q": 0.0}, 0.5, [prompt], again)[0]


@pytest.mark.parametrize(
    ("outcome", "cause", "repaired"),
    [
        (asked_again(1.0, 1.0), "ranked_low", True),
        (asked_again(0.0, 1.0), "distracted", False),
        (asked_again(0.0, 0.0), "wrong_answer", False),
        (asked_again(None, None), "wrong_answer", False),
        (asked_again(1.0, 1.0, reference=0.0), "reference_rejected", True),
        (asked_again(1.0, 1.0, reference=None), "reference_rejected", True),
        # the parser changed the words, and as they were written they are enough
        (asked_again(0.0, 1.0, spans=(FUZZY,)), "lost_in_parsing", False),
        (asked_again(0.0, 0.0, spans=(FUZZY,)), "wrong_answer", False),
        (asked_again(1.0, 1.0, shown=[WRONG]), "cut_from_prompt", True),
        # the place wins over what repairs it: evidence that never arrived is not the generator's fault
        (asked_again(0.0, 0.0, shown=[]), "cut_from_prompt", False),
    ],
)
def test_what_repairs_an_answer_says_what_was_wrong(outcome: Outcome, cause: str, repaired: bool) -> None:
    assert (outcome.cause, outcome.repaired) == (cause, repaired)


def test_a_question_without_evidence_is_the_generators_unless_its_reference_is_rejected() -> None:
    question = Question("q", "?", "Not documented")
    for reference, cause in ((1.0, "unanswerable_answered"), (0.0, "reference_rejected")):
        again = Counterfactuals({}, {}, {"q": reference})
        (found,) = attribute([question], [[GOOD]], [[GOOD]], {}, {"q": 0.0}, 0.5, counterfactuals=again)
        assert (found.cause, found.repaired) == (cause, None)


def test_every_cause_but_answered_belongs_to_a_part() -> None:
    assert {fault_of(cause) for cause in CAUSES if cause != "answered"} == set(FAULTS)
    assert fault_of("answered") is None
    outcomes = [asked_again(1.0, 1.0), asked_again(0.0, 1.0), outcome([GOOD], [GOOD], 1.0)]
    counts = count_faults(outcomes)
    assert tuple(counts) == FAULTS and counts["rank"] == counts["generate"] == 1 and sum(counts.values()) == 2
