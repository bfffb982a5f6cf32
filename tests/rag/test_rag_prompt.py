"""Prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.chat import estimate_tokens
from ragladder.core.components import Model
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError
from ragladder.core.types import Chunk
from ragladder.rag.prompt import (
    TEMPLATES,
    Demonstration,
    PromptSettings,
    build_messages,
    build_prompt,
    extraction_prompt,
    ordered,
    passage_heading,
    render_passage,
)

NEST = Chunk("HW-207_nest.html", 0, 9, "Hold the pin.\n", "HW-207", "Nest restart", ("Nest restart", "N4"))
BILL = Chunk("BL-104_plume.pdf", 5, 9, "14 days.", "BL-104", "Plume", ())


def test_the_default_is_this_text_exactly() -> None:
    messages = build_messages("How long?", [NEST, BILL], PromptSettings())
    assert [message.role for message in messages] == ["user"]
    assert messages[0].content == (
        "Question: How long?\n\n[HW-207] Nest restart > N4\nHold the pin.\n\n[BL-104] Plume\n14 days.\n\n"
        "Question: How long?\nAnswer:"
    )


def test_without_passages_it_is_closed_book() -> None:
    prompt = build_prompt("How long?", [], PromptSettings())
    assert prompt.messages[0].content == "Question: How long?\n\nQuestion: How long?\nAnswer:"
    assert prompt.contexts == ()
    assert "\n\n\n" not in build_messages("q", [], PromptSettings(template="plain"))[0].content


def test_headings_stand_once() -> None:
    assert passage_heading(NEST) == "Nest restart > N4"
    assert passage_heading(Chunk("d", 0, 1, "x", "", "T", ("A", "B"))) == "T > A > B"
    assert passage_heading(Chunk("d", 0, 1, "x", "", "", ("A",))) == "A"
    assert render_passage(Chunk("d", 0, 1, "x")) == "[d]\nx"


def test_order_and_budget() -> None:
    small, large = Chunk("a", 0, 1, "x" * 20, "A"), Chunk("b", 0, 1, "y" * 4000, "B")
    settings = PromptSettings(max_context_tokens=50, order="best_last")
    prompt = build_prompt("q", [NEST, large, small], settings)
    assert prompt.contexts == (small, NEST)
    text = prompt.messages[0].content
    assert text.index("[A]") < text.index("[HW-207]") and "[B]" not in text
    counted: list[str] = []

    def one_a_passage(passage: str) -> int:
        counted.append(passage)
        return 1

    by_tokenizer = build_prompt("q", [NEST, large, small], PromptSettings(max_context_tokens=2), (), one_a_passage)
    assert by_tokenizer.contexts == (NEST, large)
    assert counted[0] == render_passage(NEST)


@given(st.lists(st.integers(1, 200), max_size=8), st.integers(1, 120))
def test_what_is_kept_fits(lengths: list[int], most: int) -> None:
    chunks = [Chunk("d", n, n + 1, "x" * length, f"R{n}") for n, length in enumerate(lengths)]
    kept = build_prompt("q", chunks, PromptSettings(max_context_tokens=most)).contexts
    assert sum(estimate_tokens(render_passage(chunk)) for chunk in kept) <= most
    assert list(kept) == [chunk for chunk in chunks if chunk in kept]


def test_demonstrations_stand_before_and_must_be_there() -> None:
    examples = [Demonstration("Q1?", "A1 [X]"), Demonstration("Q2?", "A2 [Y]", (BILL,)), Demonstration("Q3?", "A3")]
    text = build_messages("q", [NEST], PromptSettings(demonstrations=2), examples)[0].content
    assert text.startswith(
        "Question: Q1?\nAnswer: A1 [X]\n\n[BL-104] Plume\n14 days.\n\nQuestion: Q2?\nAnswer: A2 [Y]\n\nQuestion: q\n\n"
    )
    assert "Q3" not in text
    with pytest.raises(ConfigError, match="demonstrations is 2, but 1"):
        build_messages("q", [], PromptSettings(demonstrations=2), examples[:1])


def test_braces_in_texts_stay_as_they_are() -> None:
    odd = Chunk("d", 0, 1, 'set {"a": {question}} here', "R")
    template = 'Reply as {"answer": "..."}\n{demonstrations}\n\n{contexts}\n\n{question}'
    text = build_messages("what is {contexts}?", [odd], PromptSettings(template=template))[0].content
    assert text == 'Reply as {"answer": "..."}\n[R]\nset {"a": {question}} here\n\nwhat is {contexts}?'


def test_the_other_templates_say_how_to_abstain() -> None:
    for name in ("plain", "cited", "reasoned"):
        text = build_messages("q?", [NEST], PromptSettings(template=name, abstention="no idea"))[0].content
        assert "write: no idea" in text or "write: Answer: no idea" in text
        assert text.index("Hold the pin.") < text.index("Question: q?")
    assert "{" not in build_messages("q", [NEST], PromptSettings(template="cited"))[0].content


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("plian", "did you mean 'plain'"),
        ("Answer {question}", "lacks {contexts}"),
        ("Answer from {contexts}", "lacks {question}"),
        ("{contexts} {question} {demonstration}", "did you mean {demonstrations}"),
    ],
)
def test_templates_that_cannot_work_are_refused(template: str, said: str) -> None:
    class Config(Model):
        prompt: PromptSettings

    with pytest.raises(ConfigError, match=r"a\.yaml.*prompt.template") as caught:
        validate({"prompt": {"template": template}}, Config, "a.yaml")
    assert said in str(caught.value)
    assert set(TEMPLATES) == {"question_twice", "plain", "cited", "reasoned"}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=8, unique=True))
def test_every_order_keeps_all_passages(places: list[tuple[str, int]]) -> None:
    chunks = [Chunk(doc, start, start + 1, "x") for doc, start in places]
    for order in ("best_first", "best_last", "ends", "document"):
        assert sorted(c.id for c in ordered(chunks, order)) == sorted(c.id for c in chunks)
    by_document = ordered(chunks, "document")
    assert [c.doc_id for c in by_document] == sorted(
        (c.doc_id for c in chunks), key=[c.doc_id for c in chunks].index
    ), "the document of the best passage first"
    for doc in "ab":
        starts = [c.start for c in by_document if c.doc_id == doc]
        assert starts == sorted(starts)


def test_the_best_stand_at_the_ends() -> None:
    chunks = [Chunk("d", n, n + 1, "x") for n in range(5)]
    assert [c.start for c in ordered(chunks, "ends")] == [0, 2, 4, 3, 1]
    assert [c.start for c in ordered(chunks, "best_last")] == [4, 3, 2, 1, 0]


def test_json_is_asked_for_and_shown_in_the_examples() -> None:
    settings = PromptSettings(output="json", demonstrations=2)
    examples = [Demonstration("Q1?", "12 s [X] [Y]"), Demonstration("Q2?", "")]
    text = build_messages("q", [NEST], settings, examples)[0].content
    assert text.startswith("Reply with one JSON object")
    assert 'Answer: {"answered": true, "answer": "12 s", "citations": ["X", "Y"]}' in text
    assert 'Answer: {"answered": false, "answer": "", "citations": []}' in text
    plain = build_messages("q", [NEST], PromptSettings(demonstrations=2, abstention="no idea"), examples)[0].content
    assert "Question: Q2?\nAnswer: no idea\n" in plain


def test_the_first_call_of_a_chain_asks_for_sentences_and_the_second_reads_them() -> None:
    settings = PromptSettings(chain="extract", max_context_tokens=18)
    first = extraction_prompt("How {long}?", [NEST, Chunk("a", 0, 1, "x" * 400)], settings)
    assert first.contexts == (NEST,)
    assert "word for word" in first.messages[0].content and "Question: How {long}?" in first.messages[0].content
    second = build_prompt("How?", [NEST], settings, extract="Hold it. [HW-207]").messages[0].content
    assert "Hold it. [HW-207]" in second and "N4" not in second
