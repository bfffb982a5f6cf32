"""Which worked examples a prompt shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.errors import ConfigError, DataError
from ragladder.core.types import Document, Evidence, Question
from ragladder.rag.demonstrations import (
    DemonstrationPool,
    load_demonstrations,
    save_demonstrations,
    train_demonstrations,
)
from ragladder.rag.prompt import Demonstration, PromptSettings

EVIDENCE = (Evidence("a.md", "Hold it for 12 seconds."),)
DOCUMENTS = {"a.md": Document("a.md", "Hold it for 12 seconds.", "Nest", "HW-207")}


def question(name: str, text: str, split: str = "train", **others: object) -> Question:
    values = {"answer": "12 seconds [HW-207]", "evidence": EVIDENCE, **others}
    return replace(Question(name, text, "", split=split), **values)


def pool(texts: list[str], **settings: object) -> DemonstrationPool:
    found = [Demonstration(text, f"answer of {text}") for text in texts]
    return DemonstrationPool(found, PromptSettings.model_validate(settings))


def test_only_train_questions_with_an_answer_and_none_that_dev_or_test_ask() -> None:
    questions = [
        question("t1", "How long?"),
        question("t2", "How long?"),
        question("t3", "Which day?", answer=""),
        question("t4", "Who won?", evidence=(), answer="Not documented"),
        question("t5", "What  COLOUR is it"),
        question("d1", "What colour is it?", "dev"),
        question("e1", "When?", "test"),
    ]
    found = train_demonstrations(questions, DOCUMENTS, PromptSettings())
    assert found == (Demonstration("How long?", "12 seconds [HW-207]"), Demonstration("Who won?", ""))
    shown = train_demonstrations(questions, DOCUMENTS, PromptSettings(demonstration_evidence=True))
    (passage,) = shown[0].contexts
    assert (passage.text, passage.ref, passage.title) == ("Hold it for 12 seconds.", "HW-207", "Nest")
    assert shown[1].contexts == ()


@given(st.sampled_from(["fixed", "similar"]), st.integers(0, 5), st.integers(0, 11))
def test_a_question_is_never_its_own_example_and_the_number_is_right(choice: str, seed: int, asked: int) -> None:
    texts = [f"What is part {n} for?" for n in range(12)]
    one = pool(texts, demonstrations=3, demonstration_choice=choice, demonstration_seed=seed)
    for variant in (texts[asked], texts[asked].upper().rstrip("?")):
        (shown,) = one.choose([variant])
        assert len({demonstration.question for demonstration in shown}) == 3
        assert texts[asked] not in [demonstration.question for demonstration in shown]
    assert one.choose(["other"]) == one.choose(["other"])


def test_fixed_is_by_seed_and_the_same_for_all() -> None:
    texts = [f"question {n}" for n in range(20)]
    first = pool(texts, demonstrations=4).choose(["x", "y"])
    assert first[0] == first[1]
    assert pool(texts, demonstrations=4, demonstration_seed=1).choose(["x"])[0] != first[0]


def test_similar_shows_the_most_similar_last() -> None:
    texts = ["When is the bill due?", "How heavy is the drone?", "How is the drone reset?", "Where is the office?"]
    (shown,) = pool(texts, demonstrations=2, demonstration_choice="similar").choose(["drone reset button"])
    assert [one.question for one in shown] == ["How heavy is the drone?", "How is the drone reset?"]


def test_too_few_are_an_error() -> None:
    with pytest.raises(ConfigError, match="demonstrations is 2, but there are only 2 train questions"):
        pool(["a", "b"], demonstrations=2)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    settings = PromptSettings(demonstration_evidence=True)
    found = train_demonstrations([question("t1", "Wie läng?")], DOCUMENTS, settings)
    save_demonstrations(tmp_path / "d.jsonl", found)
    assert load_demonstrations(tmp_path / "d.jsonl") == found
    (tmp_path / "d.jsonl").write_text("{")
    with pytest.raises(DataError, match="export again"):
        load_demonstrations(tmp_path / "d.jsonl")
