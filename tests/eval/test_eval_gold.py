"""Evidence is found again however a parser changes its looks, at offsets that hold it, and nowhere else."""

import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.types import Document, Evidence, Question
from ragladder.eval._finder import PassageFinder
from ragladder.eval.gold import fold, locate, locate_text, spans_of

BEFORE = "# Restart\n\nThe nest must be empty before any work starts. "
EVIDENCE = "Hold the restart pin for 12 seconds until the lamp turns amber."
AFTER = "\n\nThen wait for the weathercock to show it again."

WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyzäöüéß", min_size=4, max_size=9), min_size=4, max_size=12)
FILLER = st.text("ABCDEFG .,\n|#-*", max_size=80)


def letters(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if c.isalnum())


def document(text: str, id_: str = "d") -> Document:
    return Document(id_, text, "t", "r")


def question(*evidence: Evidence, id_: str = "q") -> Question:
    return Question(id_, "?", "!", evidence)


def test_exact_evidence_is_found_at_its_place() -> None:
    span = locate_text(EVIDENCE, "d", BEFORE + EVIDENCE + AFTER)
    assert (span.doc_id, span.start, span.end) == ("d", len(BEFORE), len(BEFORE) + len(EVIDENCE))
    assert (span.score, span.method, span.found, span.length) == (100.0, "exact", True, len(EVIDENCE))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ("Hold the  restart pin\nfor 12 seconds\tuntil the lamp turns amber.", "whitespace"),
        ("Hold the re-\nstart pin for 12 sec-\nonds until the lamp turns amber.", "hyphenation"),
        ("Hold the re\u00adstart pin for 12 seconds until the lamp turns amber.", "soft hyphen"),
        ("“Hold the ‘restart’ pin for 12 seconds until the lamp turns amber.”", "quotes"),
        ("| Hold the restart pin | for 12 seconds | until the lamp | turns amber. |", "table marks"),
        ("**Hold** the _restart pin_ for `12 seconds` until the lamp turns amber.", "markup"),
        ("HOLD THE RESTART PIN FOR 12 SECONDS UNTIL THE LAMP TURNS AMBER.", "case"),
        ("Hold the restart pin for １２ seconds until the lamp turns amber.", "full-width digits"),
    ],
)
def test_looks_do_not_matter(changed: str, what: str) -> None:
    text = BEFORE + changed + AFTER
    span = locate_text(EVIDENCE, "d", text)
    assert span.method == "normalised", what
    assert letters(text[span.start : span.end]) == letters(EVIDENCE)
    assert text[span.start].isalnum() and text[span.end - 1].isalnum()


def test_ligatures_are_their_letters() -> None:
    text = "Before. The oﬃce ﬁles a ﬂat fee for it. After."
    span = locate_text("The office files a flat fee for it.", "d", text)
    assert (span.method, text[span.start : span.end]) == ("normalised", "The oﬃce ﬁles a ﬂat fee for it")


@given(
    words=WORDS,
    before=FILLER,
    after=FILLER,
    glue=st.lists(st.sampled_from([" ", "  ", "\n", " | ", "-\n", " “", "* "])),
)
def test_property_any_glue_between_words_is_found_whole(
    words: list[str], before: str, after: str, glue: list[str]
) -> None:
    parts = [w + (glue[n % len(glue)] if glue else " ") for n, w in enumerate(words[:-1])]
    text = before + "\n" + "".join(parts) + words[-1] + "\n" + after
    span = locate_text(" ".join(words), "d", text)
    assert span.method in ("exact", "normalised")
    assert letters(text[span.start : span.end]) == letters("".join(words))


@given(wanted=st.text(max_size=60), text=st.text(max_size=200))
def test_property_spans_lie_in_the_text(wanted: str, text: str) -> None:
    span = locate_text(wanted or "x", "d", text)
    if span.found:
        assert 0 <= span.start < span.end <= len(text)
        assert 0 < span.score <= 100
    else:
        assert (span.start, span.end, span.score) == (-1, -1, 0.0)
    if span.method == "exact":
        assert text[span.start : span.end] == (wanted or "x")


@given(words=WORDS)
def test_property_what_is_not_there_is_lost(words: list[str]) -> None:
    span = locate_text(" ".join(words), "d", "0123456789 " * 40)
    assert (span.method, span.length) == ("lost", len(" ".join(words)))


def test_a_few_misread_letters_are_found_with_a_lower_score() -> None:
    text = BEFORE + "Hold the restart pln for 12 seconds untll the lamp turns ambcr." + AFTER
    span = locate_text(EVIDENCE, "d", text)
    assert span.method == "fuzzy"
    assert 85 <= span.score < 100
    assert text[span.start : span.end] in text
    assert abs(span.start - len(BEFORE)) <= 3 and abs(span.end - len(BEFORE) - len(EVIDENCE)) <= 3


def test_a_like_row_with_another_value_is_not_the_evidence() -> None:
    rows = "| E-416 | door does not close at all | restart |\n| E-418 | door does not close at all | restart |"
    assert locate_text("E-417 | door does not close at all | restart", "d", rows).method == "lost"
    assert locate_text("E-418 | door does not close at oll | restart", "d", rows).method == "fuzzy"


def test_a_short_text_is_found_exactly_or_not_at_all() -> None:
    assert locate_text("12 s", "d", "wait 12 s now").method == "exact"
    assert locate_text("12 s", "d", "wait 12\ns now").method == "lost"


def test_half_a_passage_is_not_the_passage() -> None:
    assert locate_text(EVIDENCE, "d", EVIDENCE[: len(EVIDENCE) // 2]).method == "lost"
    assert locate_text(EVIDENCE, "d", "").method == "lost"


def test_locate_keeps_the_order_of_evidence_and_marks_lost_documents() -> None:
    asked = question(Evidence("b", "second text of the pair"), Evidence("gone", "text"), Evidence("a", "first text"))
    gold = locate(
        [asked, question(id_="none")], [document("first text", "a"), document("the second\ntext of the pair", "b")]
    )
    assert [span.doc_id for span in gold["q"]] == ["b", "gone", "a"]
    assert [span.method for span in gold["q"]] == ["normalised", "lost", "exact"]
    assert gold["none"] == ()


def test_known_offsets_win_over_the_first_occurrence_and_wrong_ones_do_not_count() -> None:
    text = "wait here. wait here. wait here."
    right = locate([question(Evidence("d", "wait here.", 11, 21))], [document(text)])["q"][0]
    wrong = locate([question(Evidence("d", "wait here.", 3, 13))], [document(text)])["q"][0]
    assert (right.start, wrong.start) == (11, 0)


def test_all_evidence_of_one_document_agrees_with_single_searches() -> None:
    text = re.sub(" ", "\n", BEFORE + EVIDENCE + AFTER)
    pieces = [EVIDENCE, "The nest must be empty before any work starts.", "wait for the weathercock"]
    gold = locate([question(*(Evidence("d", piece) for piece in pieces))], [document(text)])
    assert list(gold["q"]) == [locate_text(piece, "d", text) for piece in pieces]


def test_evidence_that_was_never_looked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="question 'q' has evidence but no gold spans"):
        spans_of({}, question(Evidence("d", "x")))
    assert spans_of({}, question()) == ()


@given(text=st.text(max_size=120))
def test_property_the_normal_form_is_that_of_each_character(text: str) -> None:
    folded, offsets = fold(text)
    expected = [
        (letter, place)
        for place, character in enumerate(text)
        for letter in unicodedata.normalize("NFKD", character).casefold()
        if letter.isalnum()
    ]
    assert folded == "".join(letter for letter, _ in expected)
    assert [int(offset) for offset in offsets] == [place for _, place in expected]


def test_spans_are_plain_numbers_that_can_be_written_as_json() -> None:
    for wanted in (EVIDENCE.upper(), EVIDENCE.replace("amber", "ambre")):
        span = locate_text(wanted, "d", "Ä " + BEFORE + EVIDENCE + AFTER)
        assert span.found and type(span.start) is int and type(span.end) is int


def test_documents_are_gone_through_once_whatever_the_order_of_the_questions() -> None:
    seen: list[str] = []

    def corpus() -> Iterator[Document]:
        for name in ("a", "b"):
            seen.append(name)
            yield document(f"{BEFORE}{EVIDENCE}{AFTER} {name}", name)

    asked = [question(Evidence(name, EVIDENCE), id_=f"q{n}") for n, name in enumerate("bab")]
    gold = locate(asked, corpus())
    assert seen == ["a", "b"] and list(gold) == ["q0", "q1", "q2"]
    assert all(
        span.found and span.doc_id == evidence.doc_id
        for q in asked
        for span, evidence in zip(gold[q.id], q.evidence, strict=True)
    )


CORPUS = {
    "a.md": BEFORE + EVIDENCE + AFTER,
    "b.md": "Other text. HOLD THE RESTART PIN FOR 12 SECONDS until the lamp turns amber.",
    "c.md": "Nothing of the kind, wait 12 s.",
}


@pytest.mark.parametrize("together", [True, False])
def test_passages_are_found_in_all_documents_exactly_or_else_by_letters(together: bool) -> None:
    passages = [EVIDENCE, "Hold the restart pin\nfor 12 seconds", "12 s", "not there at all, nowhere", ""]
    finder = PassageFinder(CORPUS, passages if together else ())
    found = [finder.documents(passage) for passage in passages[:4]]
    assert found == [["a.md"], ["a.md", "b.md"], ["a.md", "c.md"], []]


@given(start=st.integers(0, 60), length=st.integers(1, 90), loose=st.booleans())
def test_property_each_stretch_of_a_document_is_found_in_it(start: int, length: int, loose: bool) -> None:
    text = CORPUS["a.md"] * 2
    passage = text[start : start + length]
    if loose:
        passage = passage.upper().replace(" ", "\n")
    finder = PassageFinder({**CORPUS, "a.md": text}, [passage, EVIDENCE])
    if not loose or len(letters(passage)) >= 12:
        assert "a.md" in finder.documents(passage)
