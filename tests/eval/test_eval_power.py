"""What a number of questions can show, by hand."""

from __future__ import annotations

import math

import pytest
from ragladder.core.types import Evidence, Question
from ragladder.eval.power import power_rows


def questions(count: int, per_document: int = 1) -> list[Question]:
    return [
        Question(f"q{i}", "?", "!", (Evidence(f"d{i // per_document}", "x"),), split="test" if i % 2 else "dev")
        for i in range(count)
    ]


def test_detectable_and_needed_by_hand() -> None:
    dev, test = power_rows(questions(400), sd=0.3, icc=0.05)
    reach = (1.6449 + 0.8416) * 0.3 / math.sqrt(200)
    assert (dev.split, test.split, test.questions, test.clusters) == ("dev", "test", 200, 200)
    assert test.detectable == pytest.approx(reach, abs=1e-4)
    assert test.needed == pytest.approx(200 * (reach / 0.02) ** 2, rel=0.01)
    assert f"2 points need about {test.needed:,}" in test.sentence()


def test_what_needs_more_questions() -> None:
    plain = power_rows(questions(400), 0.3, 0.05)[1]
    shared = power_rows(questions(400, 8), 0.3, 0.05)[1]
    spent = power_rows(questions(400), 0.3, 0.05, alpha=0.05 / 3)[1]
    larger = power_rows(questions(400), 0.3, 0.05, gain=0.04)[1]
    measured = power_rows(questions(400), 0.3, 0.05, measured_sd=0.1)[1]
    assert shared.needed > plain.needed and spent.needed > plain.needed
    assert larger.needed == pytest.approx(plain.needed / 4, abs=1)
    assert measured.measured and measured.needed < plain.needed
