"""Questions by patterns: each pattern makes a believable question, with the document's own text as its evidence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.types import Document, Section
from ragladder.eval.synth import SynthSettings, synthesise
from ragladder.eval.synth._headings import Names, heading_questions
from ragladder.eval.synth.extractive import Extracted, extract_questions

BODY = "Take the cover off before anything else, and keep the screws in the tray of the bench."


def parsed(text: str, title: str = "Handbook of the pump", id_: str = "d.md") -> Document:
    """A document with its sections, as the Markdown parser gives them."""
    heads = []
    place = 0
    for line in text.splitlines(keepends=True):
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            heads.append((place, level, line.strip("# \n")))
        place += len(line)
    sections = []
    for number, (start, level, name) in enumerate(heads):
        end = next((s for s, lv, _ in heads[number + 1 :] if lv <= level), len(text))
        above = [(lv, n) for _, lv, n in heads[:number]]
        path = [name]
        for lv, other in reversed(above):
            if lv < level:
                path.insert(0, other)
                level = lv
        sections.append(Section(start, end, len(path), tuple(path)))
    return Document(id_, text, title, id_, tuple(sections))


def made(text: str, title: str = "Handbook of the pump") -> list[Extracted]:
    document = parsed(text, title)
    found = extract_questions(document, Names([document.text]))
    for item in found:
        assert 0 <= item.start < item.end <= len(text) and text[item.start : item.end].strip()
    return found


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("Replacing the filter", "How does replacing the filter work (Handbook of the pump)?"),
        ("How to bleed the line", "How do I bleed the line (Handbook of the pump)?"),
        ("Who decides", "Handbook of the pump: who decides?"),
        ("When the mains fails", "Handbook of the pump: what happens when the mains fails?"),
        ("Before you start", "Handbook of the pump: what should be done before you start?"),
        ("How it is paid", "Handbook of the pump: how is it paid?"),
        ("How long it keeps", "Handbook of the pump: how long does it keep?"),
        ("What you record", "Handbook of the pump: what do you record?"),
        ("3.2 On the road", "Handbook of the pump: on the road"),
    ],
)
def test_headings_become_the_question_that_their_section_answers(heading: str, question: str) -> None:
    (found,) = made(f"# Handbook of the pump\n\n## {heading}\n\n{BODY}\n")
    assert (found.text, found.pattern, found.answer) == (question, "heading", BODY)


def test_subjects_are_asked_about_with_their_title_and_names_keep_their_capital() -> None:
    text = f"# Handbook of the pump\n\n## Spare parts\n\n{BODY} All the spare parts lie in Harsveld.\n\n"
    text += f"## Harsveld\n\n{BODY}\n"
    found = [item.text for item in made(text)]
    assert len(found) == 2
    assert "spare parts" in found[0] and "Harsveld" in found[1]
    assert all("Handbook of the pump" in asked for asked in found)


def test_nested_headings_name_what_they_belong_to_and_shouting_is_lowered() -> None:
    text = f"# Handbook of the pump\n\n## LEVELS\n\n### J2\n\n{BODY}\n"
    assert [item.text for item in made(text)] == ["Handbook of the pump, levels: what about J2?"]


def test_questions_of_the_document_are_taken_with_what_follows_them() -> None:
    text = f"# FAQ\n\n**Can a neighbour collect the egg?**\n\n{BODY}\n\n## What if the lamp stays red?\n\n{BODY}\n"
    found = [(item.text, item.pattern, item.answer) for item in made(text)]
    assert found == [
        ("Can a neighbour collect the egg?", "question", BODY),
        ("What if the lamp stays red?", "question", BODY),
    ]


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("A hollow is one of the compartments of a locker.", "What is a hollow?"),
        ("Siskin is the name of the second controller.", "What is Siskin?"),
        ("Droppage means a charge on late payment.", 'What does "Droppage" mean?'),
        ("The framework supplier is the firm that delivers first.", "What is the framework supplier"),
        (
            "**Cage map.** The screen of the cell draws the roll cage.",
            "What does Handbook of the pump say about cage map?",
        ),
    ],
)
def test_definitions_are_asked_for(sentence: str, question: str) -> None:
    text = f"The words of the house are kept in this list and in no other.\n\n{sentence}\n\nThe rest is in the annex."
    (found,) = made(text)
    assert found.text.startswith(question) and found.pattern == "definition"
    assert text[found.start : found.end] == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "This is the second of the three controllers.",
        "It is a pity that the lamp of the door went out.",
        "The trainer is the reservist who lives next door.",
        "A tick means ice, and a hum means the bearing.",
        "What the lamp means is the subject of another page.",
    ],
)
def test_sentences_that_define_nothing_outside_their_page_are_left(sentence: str) -> None:
    assert made(f"The list is kept for the people of the house.\n\n{sentence}\n") == []


def test_rows_of_a_glossary_and_of_codes() -> None:
    text = (
        "The words and the codes of the house are in the two tables.\n\n"
        "| Word | Meaning |\n|---|---|\n| Clutch | A batch of parcels for one nest |\n\n"
        "| code | title | action |\n|---|---|---|\n| E-417 | The door does not close | Restart the door |\n\n"
        "| Town | Lead |\n|---|---|\n| Harsveld | Willem Zandbergen of the north |\n"
    )
    found = [(item.text, item.answer) for item in made(text)]
    assert found == [
        ('What does "Clutch" mean?', "A batch of parcels for one nest"),
        ("What does code E-417 mean?", "The door does not close, Restart the door"),
    ]


def test_a_table_below_a_heading_answers_with_its_rows_not_its_header() -> None:
    rows = "| Plan | Nests |\n|---|---|\n| Small plan of the house | 4 nests in a row |\n"
    text = f"# Handbook of the pump\n\nThe plans are in the table of this page.\n\n## Plans\n\n{rows}\n"
    (found,) = [item for item in made(text) if item.pattern == "heading"]
    assert found.answer == "Small plan of the house, 4 nests in a row"


def test_long_sections_give_their_first_sentences_whole() -> None:
    long = " ".join(f"Sentence number {n} says that the lamp of the door is on." for n in range(20))
    (found,) = made(f"# Handbook of the pump\n\n## Lamps\n\n{long}\n")
    assert 100 < len(found.answer) <= 330 and found.answer.endswith("is on.")


def test_text_in_another_language_gives_nothing() -> None:
    text = "# Handbuch\n\n## Filter wechseln\n\nDie Klappe wird zuerst abgenommen und die Schrauben kommen ins Fach.\n"
    assert made(text, "Handbuch") == []


@given(text=st.text(alphabet="# |\nabA.?*-1:the is", max_size=300))
def test_property_any_text_is_taken_and_evidence_lies_in_it(text: str) -> None:
    document = parsed("The list of the words. " + text)
    for item in extract_questions(document, Names([document.text])):
        assert item.text.strip() and 0 <= item.start < item.end <= len(document.text)
    for section in document.sections:
        assert isinstance(heading_questions(document, section, Names([])), str)


def test_without_an_llm_patterns_write_labelled_single_hop_questions_and_say_so() -> None:
    again = "# Manual of the lamp\n\n## Replacing the filter\n\n" + BODY
    docs = [
        parsed(
            f"# Handbook of the pump\n\n## Replacing the filter\n\n{BODY}\n\n## Who decides\n\n{BODY} Ask at the desk."
        ),
        parsed(again, "Manual of the lamp", "lamp.md"),
        parsed(again, "Manual of the lamp", "lamp_v2.md"),
    ]
    result = synthesise(docs, SynthSettings(n=10))
    assert [question.text for question in result.questions] and len(result.questions) == 2
    assert {q.tags["source"] for q in result.questions} == {"synthetic-extractive"}
    assert {q.tags["kind"] for q in result.questions} == {"single"}
    report = result.report
    assert (report.writer, report.calls, report.kinds[0].note) == ("extractive", None, "the documents give no more")
    assert {c.name: c.fell for c in report.filters if c.fell} == {"ambiguous": 2}
    assert report.tried == report.kept + 2
    text = "\n".join(report.lines())
    assert "multi and unanswerable: need an LLM" in text and "do not report scores on them" in text
    assert synthesise(docs, SynthSettings(n=1)).questions == result.questions[:1] or len(result.questions) == 2
