"""Examples: which passages stand in a prompt, and which answer is learnt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.chat.types import Message
from ragladder.core.errors import DataError
from ragladder.core.types import Chunk, Evidence, Question
from ragladder.llm_ft import ExampleSettings, build_examples, load_examples, save_examples

ABSTAIN = "Not documented [none]"


def chunk(number: int, text: str = "") -> Chunk:
    return Chunk(f"d{number}.md", 0, 100, text or f"passage {number}", ref=f"D-{number}")


def question(evidence: Sequence[Evidence], name: str = "q1") -> Question:
    return Question(name, "How long?", "12 seconds [D-1]" if evidence else ABSTAIN, tuple(evidence))


def render(text: str, chunks: Sequence[Chunk]) -> tuple[Message, ...]:
    return (Message("user", "\n".join([*(c.text for c in chunks), text])),)


GOLD = chunk(1, "Hold the pin for 12 seconds.")
PIECE = Evidence("d1.md", "pin for 12 seconds", 9, 27)
OTHERS = [chunk(n) for n in range(2, 20)]


def build(questions, retrieved, oracle, fits=None, **settings):
    return build_examples(questions, retrieved, oracle, render, ExampleSettings(**settings), fits)


@given(p_oracle=st.floats(0, 1), top_k=st.integers(1, 8), copies=st.integers(1, 5), found=st.booleans())
def test_the_answer_always_agrees_with_the_passages(p_oracle: float, top_k: int, copies: int, found: bool) -> None:
    retrieved = [OTHERS[0], GOLD, *OTHERS[1:]] if found else OTHERS
    made = build([question([PIECE])], {"q1": retrieved}, {"q1": [GOLD]}, p_oracle=p_oracle, top_k=top_k, copies=copies)
    assert 1 <= len(made.examples) <= copies
    assert len({(one.messages, one.completion) for one in made.examples}) == len(made.examples)
    for example in made.examples:
        has_gold = GOLD.id in example.context_ids
        assert (example.kind == "oracle") == has_gold
        assert example.completion == ("12 seconds [D-1]" if has_gold else ABSTAIN)
        assert ("12 seconds" in example.messages[0].content) == has_gold
        assert len(example.context_ids) == len(set(example.context_ids)) == top_k


def test_share_of_oracle_examples_follows_p_oracle() -> None:
    questions = [question([PIECE], f"q{n}") for n in range(400)]
    retrieved = {q.id: OTHERS for q in questions}
    made = build(questions, retrieved, {q.id: [GOLD] for q in questions}, p_oracle=0.7, copies=1)
    share = sum(example.kind == "oracle" for example in made.examples) / 400
    assert 0.63 < share < 0.77
    assert len(made.inserted) == sum(example.kind == "oracle" for example in made.examples)


def test_inserted_evidence_stands_at_every_rank() -> None:
    questions = [question([PIECE], f"q{n}") for n in range(100)]
    retrieved = {q.id: OTHERS for q in questions}
    oracle = {q.id: [GOLD] for q in questions}
    made = build(questions, retrieved, oracle, p_oracle=1, top_k=3, shuffle=False, copies=1)
    assert {example.context_ids.index(GOLD.id) for example in made.examples} == {0, 1, 2}


def test_without_shuffle_the_first_copy_is_what_retrieval_found() -> None:
    found = [OTHERS[0], GOLD, *OTHERS[1:]]
    made = build([question([PIECE])], {"q1": found}, {"q1": [GOLD]}, p_oracle=1, top_k=4, shuffle=False, copies=2)
    assert made.examples[0].context_ids == tuple(c.id for c in found[:4])
    assert made.examples[1].context_ids != made.examples[0].context_ids
    assert made.inserted == ()


def test_unanswerable_questions_abstain() -> None:
    made = build([question([])], {"q1": OTHERS}, {}, p_oracle=1, copies=3)
    assert [example.completion for example in made.examples] == [ABSTAIN] * 3
    assert {example.kind for example in made.examples} == {"abstain"}


def test_a_second_chunk_with_the_evidence_is_no_distractor() -> None:
    copy_of_gold = Chunk("d1.md", 5, 60, "the pin for 12 seconds. Then")
    same_text = chunk(50, "another document: PIN for 12  seconds")
    retrieved = [copy_of_gold, same_text, *OTHERS]
    made = build([question([PIECE])], {"q1": retrieved}, {"q1": [GOLD]}, p_oracle=0, copies=4)
    for example in made.examples:
        assert copy_of_gold.id not in example.context_ids
        if example.kind == "abstain":
            assert all("12 seconds" not in message.content for message in example.messages)


def test_evidence_already_retrieved_is_not_inserted_twice() -> None:
    overlapping = Chunk("d1.md", 0, 40, "Hold the pin for 12 seconds. Then wait")
    made = build([question([PIECE])], {"q1": [overlapping, *OTHERS]}, {"q1": [GOLD, overlapping]}, p_oracle=1, copies=1)
    assert GOLD.id not in made.examples[0].context_ids
    assert overlapping.id in made.examples[0].context_ids
    assert made.inserted == ()


def test_all_pieces_of_evidence_are_in_an_oracle_prompt() -> None:
    second = chunk(30, "The lamp is amber.")
    split = [Chunk("d40.md", 0, 10, "It takes a"), Chunk("d40.md", 10, 20, " full hour")]
    pieces = [PIECE, Evidence("d30.md", "lamp is amber", 4, 17), Evidence("d40.md", "takes a full hour", 3, 20)]
    made = build([question(pieces)], {"q1": OTHERS}, {"q1": [GOLD, second, *split]}, p_oracle=1, top_k=5, copies=1)
    assert {GOLD.id, second.id, *(c.id for c in split)} < set(made.examples[0].context_ids)
    assert len(made.examples[0].context_ids) == 5


def test_evidence_that_no_chunk_holds_is_reported() -> None:
    made = build([question([PIECE]), question([], "q2")], {"q1": OTHERS, "q2": OTHERS}, {})
    assert made.without_oracle == ("q1",)
    assert {example.question_id for example in made.examples} == {"q2"}
    with pytest.raises(DataError, match="no training example"):
        build([question([PIECE])], {"q1": OTHERS}, {})


def test_distractors_go_first_where_the_prompt_is_too_long() -> None:
    def fits(messages: tuple[Message, ...], completion: str) -> bool:
        return len(messages[0].content) + len(completion) < 80

    made = build([question([PIECE])], {"q1": OTHERS}, {"q1": [GOLD]}, fits, p_oracle=1, copies=3)
    assert made.trimmed == 3
    for example in made.examples:
        assert fits(example.messages, example.completion)
        assert GOLD.id in example.context_ids
        assert example.completion == "12 seconds [D-1]"


def test_a_seed_gives_one_result_and_questions_do_not_disturb_each_other() -> None:
    both = [question([PIECE]), question([PIECE], "q2")]
    retrieved = {"q1": OTHERS, "q2": OTHERS}
    oracle = {"q1": [GOLD], "q2": [GOLD]}
    first = build(both, retrieved, oracle, copies=6).examples
    assert build(both, retrieved, oracle, copies=6).examples == first
    assert build(both[1:], retrieved, oracle, copies=6).examples == first[6:]
    assert build(both, retrieved, oracle, copies=6, seed=1).examples != first


def test_a_question_without_retrieval_is_an_error() -> None:
    with pytest.raises(DataError, match="no retrieved passages for 1 train questions, for instance q1"):
        build([question([PIECE])], {}, {"q1": [GOLD]})


def test_examples_survive_a_file(tmp_path) -> None:
    found = [chunk(2, "Umlaut ä\u2028 and\nlines"), *OTHERS]
    made = build([question([PIECE])], {"q1": found}, {"q1": [GOLD]}, copies=4)
    path = tmp_path / "train.jsonl"
    save_examples(made.examples, path)
    assert tuple(load_examples(path)) == made.examples


@pytest.mark.parametrize("line", ["{", '{"question_id": "q"}', "[1]", '"text"'])
def test_a_broken_line_is_named(tmp_path, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=r"train\.jsonl:1 is no example"):
        load_examples(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_examples(tmp_path / "absent.jsonl")
