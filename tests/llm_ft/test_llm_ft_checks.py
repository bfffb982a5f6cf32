"""Checks: each one finds what it is for, and only that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ragladder.core.chat.types import Message
from ragladder.core.errors import DataError
from ragladder.llm_ft import CheckSettings, Encoder, Example, check_examples

LIMITS = CheckSettings(min_abstain=0)


def example(number: int, completion: str = "", **changes) -> Example:
    text = f"Colour of door {number}?"
    made = Example(
        f"q{number}",
        text,
        (Message("user", f"Door {number} has lamp L-{number} in red.\n{text}"),),
        completion or f"L-{number} [HW-1]",
        "oracle",
    )
    return replace(made, **changes)


def findings(examples, settings=LIMITS, **more) -> dict[str, str]:
    return {finding.check: finding.severity for finding in check_examples(examples, settings, **more).findings}


GOOD = [example(number) for number in range(50)]


def test_good_data_have_no_findings() -> None:
    report = check_examples(GOOD, LIMITS, held_out=["something else"])
    assert report.findings == ()
    assert (report.examples, report.questions, report.kinds) == (50, 50, {"oracle": 50})
    assert len(report.samples) == 3
    report.raise_errors()


@pytest.mark.parametrize(("bad", "severity"), [(3, "warning"), (10, "error")])
def test_unsupported_answers(bad: int, severity: str) -> None:
    wrong = [example(number, "quite other words [HW-1]") for number in range(bad)]
    assert findings(wrong + GOOD[bad:]) == {"unsupported": severity}


@pytest.mark.parametrize(
    ("completion", "supported"),
    [
        ("l-7 [HW-1]", True),
        ("L-7; red [HW-1, HW-2]", True),
        ("L-7; seventeen metres [HW-1]", False),
        ("red lamp has been [HW-1]", True),
        ("Colour of door [HW-1]", False),
        ("L [HW-1]", True),
        ("7 has lamp L-71 [HW-1]", True),
        ("ed [HW-1]", False),
    ],
)
def test_support_is_words_of_the_passages(completion: str, supported: bool) -> None:
    only = [example(7, completion, messages=(Message("user", "Lamp L-7 has red.\nColour of door 7?"),))]
    assert ("unsupported" not in findings(only)) == supported


def test_abstentions_need_no_support() -> None:
    abstain = [example(number, "Not documented [none]", kind="abstain") for number in range(10)]
    assert findings(abstain + GOOD[10:]) == {}
    assert findings(GOOD, CheckSettings()) == {"balance": "warning"}
    mostly = [*(example(n, "Not documented [none]", kind="abstain") for n in range(9)), GOOD[10]]
    assert findings(mostly) == {"balance": "warning"}
    assert findings(mostly[:9]) == {"balance": "error"}, "nothing but abstaining could be learnt"


def test_contradictions() -> None:
    other = example(3, "red [HW-1]", question_id="q99", messages=(Message("user", "It is red."),))
    report = check_examples([*GOOD, other], LIMITS)
    assert [(finding.check, finding.count) for finding in report.findings] == [("contradiction", 2)]
    assert report.errors, "2 of 51 are more than 2%"
    one_prompt = [GOOD[0], replace(GOOD[0], completion="Not documented [none]", kind="abstain")]
    assert findings(one_prompt * 5) == {"contradiction": "error", "duplicate": "error"}
    copies = [GOOD[0], replace(GOOD[0], messages=(Message("user", "nothing"),), completion="No", kind="abstain")]
    assert "contradiction" not in findings(copies)


def test_duplicates() -> None:
    report = check_examples([*GOOD, GOOD[0], GOOD[0]], LIMITS)
    assert [(finding.check, finding.count, finding.severity) for finding in report.findings] == [
        ("duplicate", 2, "warning")
    ]


def test_leakage_is_always_an_error() -> None:
    report = check_examples(GOOD, LIMITS, held_out=["colour of  DOOR 5", "else"])
    found = [(finding.check, finding.count, finding.severity) for finding in report.findings]
    assert found == [("leakage", 1, "error")]
    with pytest.raises(DataError, match=r"(?s)cannot be used:\n  leakage: 1 of 50 examples have a question of the dev"):
        report.raise_errors()


def test_empty_completions_are_errors() -> None:
    assert findings([replace(GOOD[0], completion="  "), *GOOD[1:]]) == {"empty": "error"}


def test_style() -> None:
    style = CheckSettings(min_abstain=0, style=r".+ \[[^\]]+\]")
    assert findings(GOOD, style) == {}
    assert findings([example(0, "L-0."), *GOOD[1:]], style) == {"style": "warning"}
    assert findings([replace(e, completion="L-0 red") for e in GOOD[:5]], style)["style"] == "error"
    with pytest.raises(DataError, match="is no regular expression"):
        check_examples(GOOD, CheckSettings(style="("))


def test_lengths_against_the_window(tiny_model: Path) -> None:
    encoder = Encoder.from_folder(tiny_model)
    lengths = sorted(len(row.input_ids) for row in encoder.encode_all(GOOD))
    report = check_examples(GOOD, LIMITS, encoder=encoder, max_length=lengths[-1])
    assert report.findings == ()
    assert report.tokens is not None
    assert (report.tokens.longest, report.tokens.total) == (lengths[-1], sum(lengths))
    assert report.tokens.median in lengths
    long = [example(99, messages=(Message("user", "L-99 " * 60),))]
    assert findings([*GOOD, *long], encoder=encoder, max_length=lengths[-1]) == {"too_long": "warning"}
    assert findings(GOOD, encoder=encoder, max_length=lengths[0] - 1) == {"too_long": "error"}


def test_no_examples() -> None:
    with pytest.raises(DataError, match="no training examples"):
        check_examples([], LIMITS)
