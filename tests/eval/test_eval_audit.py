"""The audit: each fault that it looks for, planted; and data without faults."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.types import Document, Evidence, Question
from ragladder.eval._near import near_duplicates, normal_form
from ragladder.eval.audit import AuditReport, AuditSettings, audit_questions
from ragladder.eval.closed_book import ClosedBook
from ragladder.eval.power import design_effect
from ragladder.eval.synth import CallCounts

WORDS = ("amber", "bolt", "crane", "delta", "ember", "flint", "gauge", "hinge", "ivory", "joint", "kiln", "latch")


def clean(count: int = 120) -> list[Question]:
    """Questions without a fault: two a document, split by document."""
    generator = random.Random(1)
    questions = []
    for n in range(count):
        words = " ".join(generator.sample(WORDS, 6))
        split = ("train", "dev", "test")[(n // 2) % 3]
        evidence = (Evidence(f"d{n // 2}.md", f"Passage {n} says {words}."),)
        text = f"Where does {words} go on shelf {n}?"
        questions.append(Question(f"q{n}", text, f"{n} km", evidence, {"kind": "x"}, split))  # type: ignore[arg-type]
    return questions


def documents(questions: list[Question]) -> list[Document]:
    texts: dict[str, list[str]] = {}
    for question in questions:
        for evidence in question.evidence:
            texts.setdefault(evidence.doc_id, []).append(evidence.text)
    return [Document(key, "\n\n".join(parts), key, key) for key, parts in texts.items()]


def found(report: AuditReport) -> set[tuple[str, str]]:
    return {(finding.check, finding.level) for finding in report.findings}


def audit(questions: list[Question], **settings: float) -> AuditReport:
    return audit_questions(questions, documents(questions), AuditSettings(**settings))  # type: ignore[arg-type]


def test_data_without_faults_is_fit_and_nothing_is_found() -> None:
    report = audit(clean())
    assert (report.fit, report.findings) == (True, ())
    assert (report.splits, report.documents) == ({"train": 40, "dev": 40, "test": 40}, 60)
    assert report.tags == {"kind": {"x": {"dev": 40, "test": 40, "train": 40}}}


def test_a_question_in_two_splits_makes_the_data_unfit() -> None:
    questions = clean()
    questions[2] = replace(questions[2], text=questions[0].text.upper(), answer=questions[0].answer)
    report = audit(questions)
    assert not report.fit
    (finding,) = [f for f in report.findings if f.level == "error"]
    assert (finding.check, finding.count, finding.examples) == ("leakage", 1, ("q0 (train) and q2 (dev)",))


def test_a_repeated_question_within_a_split_is_a_warning() -> None:
    questions = clean()
    questions[1] = replace(questions[1], text=questions[0].text, answer=questions[0].answer)
    assert found(audit(questions)) == {("duplicates", "warning")}


def test_near_duplicates_are_told_apart_by_split() -> None:
    questions = clean()
    questions[1] = replace(questions[1], text=questions[0].text.replace("does", "dose"), answer="0 km")
    assert found(audit(questions)) == {("duplicates", "info")}
    questions = clean()
    questions[2] = replace(questions[2], text=questions[0].text.replace("does", "dose"), answer="0 km")
    assert found(audit(questions)) == {("leakage", "warning")}


def test_contradictory_answers() -> None:
    questions = clean()
    questions[1] = replace(questions[1], text=questions[0].text)
    assert ("contradiction", "error") in found(audit(questions))
    questions[1] = replace(questions[1], answer="0 KM.")
    assert ("contradiction", "error") not in found(audit(questions))
    questions[1] = replace(questions[1], evidence=())
    assert ("contradiction", "error") in found(audit(questions)), "answerable and not answerable"


def test_a_document_of_two_splits_is_a_warning_a_shared_passage_an_error() -> None:
    questions = clean()
    questions[2] = replace(questions[2], evidence=(Evidence("d0.md", "Another passage of the first document."),))
    assert found(audit(questions)) == {("leakage", "warning")}
    questions[2] = replace(questions[2], evidence=questions[0].evidence)
    report = audit(questions)
    assert found(report) == {("leakage", "warning"), ("leakage", "error")} and not report.fit


def test_overlapping_passages_of_two_splits_are_found_by_their_place() -> None:
    questions = clean()
    part = questions[0].evidence[0].text[3:]
    questions[2] = replace(questions[2], evidence=(Evidence("d0.md", part),))
    corpus = documents(clean())
    assert ("leakage", "error") in found(audit_questions(questions, corpus))
    assert ("leakage", "error") not in found(audit_questions(questions)), "without documents nothing is known of places"


def test_lost_gold_is_a_warning_up_to_a_share_and_an_error_above() -> None:
    questions = clean()
    corpus = documents(questions)
    questions[0] = replace(questions[0], evidence=(Evidence("d0.md", "Nothing of this kind stands anywhere at all."),))
    report = audit_questions(questions, corpus)
    assert report.fit and found(report) == {("gold", "warning")}
    assert "1 of 120 passages" in report.findings[0].message
    assert not audit_questions(questions, corpus, AuditSettings(max_lost=0.005)).fit


def test_gold_of_a_document_that_is_not_there_is_an_error() -> None:
    questions = clean()
    report = audit_questions(questions, documents(questions)[1:])
    assert not report.fit
    assert report.findings[0].examples == ("q0: d0.md", "q1: d0.md")


def test_without_documents_the_gold_is_not_looked_for_and_that_is_said() -> None:
    report = audit_questions(clean())
    assert (report.fit, report.documents, found(report)) == (True, None, {("gold", "info")})


def test_answers_that_are_empty_or_very_long() -> None:
    questions = clean()
    questions[0] = replace(questions[0], answer=" ")
    questions[1] = replace(questions[1], answer="word " * 101)
    report = audit(questions)
    assert [(f.check, f.level, f.count) for f in report.findings] == [("answers", "warning", 1)] * 2
    assert found(audit([replace(q, answer="") for q in clean()])) == {("answers", "info")}
    assert not audit([*clean(), Question("odd", "?!", "")]).fit


def test_splits_that_are_missing_or_small() -> None:
    assert found(audit([replace(q, split=None) for q in clean()])) == {("splits", "warning")}
    messages = [f.message for f in audit(clean(60)).findings]
    assert messages == ["splits below 30 questions decide next to nothing"]
    some = [*clean()[1:], replace(clean()[0], split=None)]
    assert [f.message for f in audit(some).findings] == ["1 questions have no split and are used by nothing"]
    without = [q for q in clean() if q.split != "test"]
    assert [f.message for f in audit(without).findings] == ["no question has the split test"]


def test_a_split_that_the_documents_do_not_answer_makes_the_data_unfit() -> None:
    questions = [replace(q, evidence=()) if q.split == "dev" else q for q in clean()]
    assert ("splits", "error") in found(audit(questions)) and not audit(questions).fit
    kept = [replace(q, evidence=()) if q.split == "dev" and n % 2 else q for n, q in enumerate(clean())]
    assert ("splits", "error") not in found(audit(kept))


def test_a_tag_value_that_only_one_of_dev_and_test_has() -> None:
    questions = [replace(q, tags={"kind": "table" if q.split == "dev" else "text"}) for q in clean()]
    report = audit(questions)
    assert found(report) == {("tags", "warning")}
    assert report.findings[0].examples == ("kind=table: 40 in dev, 0 in test", "kind=text: 0 in dev, 40 in test")


def test_power_follows_the_number_the_spread_and_the_groups() -> None:
    dev, test = audit(clean(), icc=0).power
    assert (dev.split, test.split, test.questions, test.clusters, test.measured) == ("dev", "test", 40, 20, False)
    # (z_.95 + z_.80) x sd / sqrt(n)
    assert test.detectable == pytest.approx((1.6448536 + 0.8416212) * 0.3 / 40**0.5, rel=1e-6)
    assert audit(clean(480), icc=0).power[1].detectable == pytest.approx(test.detectable / 2)
    assert audit(clean(), icc=1).power[1].detectable == pytest.approx(test.detectable * 2**0.5)
    measured = audit_questions(clean(), None, AuditSettings(icc=0), measured_sd=0.15).power[1]
    assert (measured.detectable, measured.measured) == (pytest.approx(test.detectable / 2), True)
    assert "40 test questions" in test.sentence() and "11.8 points of 100 or more" in test.sentence()
    assert design_effect([1, 1, 1], 0.5) == 1.0 and design_effect([4], 1.0) == 4.0


def test_texts_that_differ_in_a_number_or_code_are_not_near() -> None:
    pair = ["What does error code E-417 mean on the display?", "What does error code E-418 mean on the display?"]
    assert near_duplicates(pair, 90) == []
    assert near_duplicates([pair[0], pair[0].replace("mean", "means")], 90)[0][:2] == (0, 1)


def test_a_near_duplicate_is_found_among_ten_thousand_of_one_template() -> None:
    generator = random.Random(2)
    texts = [
        f"What is the {generator.choice(WORDS)} of the {generator.choice(WORDS)} {n} in {generator.choice(WORDS)}?"
        for n in range(10_000)
    ]
    texts[9_000] = texts[10] + " please"
    pairs = near_duplicates(texts, 85)
    assert (10, 9_000) in {pair[:2] for pair in pairs}


@given(texts=st.lists(st.sampled_from(["a b", "A b!", "c d", "", "c  d", "?"]), max_size=12))
def test_property_equal_texts_are_all_paired_with_the_first(texts: list[str]) -> None:
    pairs = near_duplicates(texts, 100)
    assert all(i < j and normal_form(texts[i]) == normal_form(texts[j]) for i, j, _ in pairs)
    forms = [normal_form(text) for text in texts]
    repeated = {j for j, form in enumerate(forms) if form and form in forms[:j]}
    assert {j for _, j, _ in pairs} == repeated


def test_synthetic_questions_that_decide_are_named() -> None:
    questions = [replace(q, tags={"source": "synthetic-extractive"}) for q in clean()]
    assert found(audit(questions)) == {("synthetic", "warning")}
    assert audit(questions).findings[0].count == 80, "training questions are no fault"
    questions = [replace(q, tags={"source": "synthetic-llm"}) for q in clean()]
    assert found(audit(questions)) == {("synthetic", "info")} and audit(questions).fit


def known(asked: int, checked: int, right: int) -> ClosedBook:
    answers = {f"q{n}": "7 km" for n in range(right)}
    return ClosedBook(asked=asked, checked=checked, known=answers, calls=CallCounts(calls=asked))


def test_what_an_llm_knows_without_documents_is_a_warning_above_a_share() -> None:
    def findings(result: ClosedBook, **settings: float) -> list[tuple[str, int]]:
        report = audit_questions(clean(), documents(clean()), AuditSettings(**settings), known=result)  # type: ignore[arg-type]
        assert report.closed_book == result and report.fit
        return [(f.level, f.count) for f in report.findings if f.check == "closed book"]

    assert findings(known(100, 100, 0)) == []
    assert findings(known(100, 100, 10)) == [("info", 10)]
    assert findings(known(100, 100, 11)) == [("warning", 11)]
    assert findings(known(100, 100, 11), max_known=0.2) == [("info", 11)]
    assert findings(known(100, 60, 0)) == [("warning", 1)]


def test_questions_about_two_things_are_no_duplicates_however_alike() -> None:
    pairs = near_duplicates(
        ["How long does the filter of the pump last?", "How long does the filter of the loom last?"], 80
    )
    assert pairs == []
    typo = near_duplicates(
        ["How long does the filter of the pump last?", "How long does the filtre of the pump last?"], 80
    )
    assert [pair[:2] for pair in typo] == [(0, 1)]
    more = near_duplicates(["Where is the key of the safe?", "Where is the small key of the safe?"], 80)
    assert [pair[:2] for pair in more] == [(0, 1)]
