"""Synthetic questions: every candidate is kept or counted, evidence is the documents' own text, runs can be resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from ragladder.core.cache import JsonCache
from ragladder.core.chat import Completion
from ragladder.core.errors import BudgetError, DataError
from ragladder.core.types import Chunk, Document, Evidence, Question
from ragladder.eval._near import NearIndex, normal_form
from ragladder.eval.closed_book import closed_book
from ragladder.eval.questions import load_questions, save_questions
from ragladder.eval.splits import split_questions
from ragladder.eval.synth import Asker, SynthBudget, SynthResult, SynthSettings, read_json, synthesise
from ragladder.eval.synth.filters import agreement, verbatim
from ragladder.eval.synth.passages import Passage, in_turn, passages_of, related_pairs
from ragladder.eval.synth.settings import SynthFilters
from synth_double import Double, answer, corpus

DOCS = corpus(12)


class Searcher:
    """Finds the documents' passages that share most words with a question."""

    def __init__(self, documents: Sequence[Document], miss: str = "") -> None:
        self.chunks = [
            Chunk(p.doc_id, p.start, p.end, p.text) for document in documents for p in passages_of(document, 800)
        ]
        self.miss = miss

    def __call__(self, questions: Sequence[str], k: int) -> list[list[Chunk]]:
        found = []
        for question in questions:
            words = set(normal_form(question).split())
            ranked = sorted(self.chunks, key=lambda c: -len(words & set(normal_form(c.text).split())))
            found.append([chunk for chunk in ranked[:k] if not (self.miss and self.miss in chunk.text)])
        return found


def settings(**changes: Any) -> SynthSettings:
    return SynthSettings.model_validate({"n": 20, **changes})


def asker(model: Any, folder: Path, budget: SynthBudget | None = None) -> Asker:
    return Asker(model, {"model": "double"}, JsonCache(folder), budget, (1.0, 2.0), at_once=3)


def run(tmp_path: Path, model: Any = None, budget: SynthBudget | None = None, **changes: Any) -> SynthResult:
    wanted = settings(**changes)
    model = Double() if model is None else model
    return synthesise(DOCS, wanted, (), asker(model, tmp_path, budget), Searcher(DOCS))


def fell(result: SynthResult) -> dict[str, int]:
    return {count.name: count.fell for count in result.report.filters if count.fell}


def adds_up(result: SynthResult) -> bool:
    report = result.report
    return report.tried == report.kept + sum(c.fell for c in report.filters) and report.kept == len(result.questions)


def test_questions_of_all_kinds_with_verbatim_evidence_tags_and_splits(tmp_path: Path) -> None:
    result = run(tmp_path, personas=["an auditor"])
    texts = {document.id: document.text for document in DOCS}
    kinds = {kind.kind: (kind.kept, kind.wanted) for kind in result.report.kinds}
    assert kinds == {"single": (12, 12), "multi": (4, 4), "unanswerable": (4, 4)}
    assert adds_up(result) and result.report.writer == "llm"
    for question in result.questions:
        assert question.tags["source"] == "synthetic-llm" and question.tags["persona"] == "an auditor"
        assert question.split in ("train", "dev", "test")
        wanted = {"single": 1, "multi": 2, "unanswerable": 0}[question.tags["kind"]]
        assert len({evidence.doc_id for evidence in question.evidence}) == wanted
        for evidence in question.evidence:
            assert texts[evidence.doc_id][evidence.start : evidence.end] == evidence.text
        assert question.answerable or question.answer == "Not documented"
    save_questions(tmp_path / "made.jsonl", result.questions)
    assert load_questions(tmp_path / "made.jsonl") == result.questions


def test_the_same_replies_give_the_same_questions_and_nothing_is_asked_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = Double()
    second = run(tmp_path, again)
    assert second.questions == first.questions and again.asked == []
    assert second.report.calls is not None and second.report.calls.reused == second.report.calls.calls
    assert second.report.calls.prompt_tokens == first.report.calls.prompt_tokens  # type: ignore[union-attr]


@pytest.mark.parametrize("stop_after", [1, 7, 25])
def test_a_run_that_broke_off_goes_on_where_it_was(tmp_path: Path, stop_after: int) -> None:
    class Breaks(Double):
        def complete(self, requests: Sequence[Any]) -> list[Any]:
            if len(self.asked) >= stop_after:
                raise KeyboardInterrupt
            return super().complete(requests)

    whole = Double()
    expected = run(tmp_path / "whole", whole)
    broken = Breaks()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", broken)
    rest = Double()
    assert run(tmp_path / "broken", rest).questions == expected.questions
    assert len(broken.asked) + len(rest.asked) == len(whole.asked)


@hypothesis.settings(max_examples=25)
@given(data=st.data())
def test_property_every_candidate_is_kept_or_counted(data: st.DataObject, tmp_path_factory: Any) -> None:
    bad = st.sampled_from(["", "no JSON", "{", '{"question": 1}', '{"known": true, "answer": "7"}', "null", "[{}]"])
    faults = data.draw(st.dictionaries(st.integers(0, 60), bad, max_size=30))
    calls = data.draw(st.integers(1, 80))
    folder = tmp_path_factory.mktemp("memory")
    result = run(folder, Double(faults), SynthBudget(calls=calls), n=10)
    assert adds_up(result)
    assert result.report.calls is not None and result.report.calls.calls <= calls


def test_what_is_wrong_with_a_reply_is_counted_by_its_filter(tmp_path: Path) -> None:
    def wrote(**reply: Any) -> str:
        base = {"question": "How long is it?", "answer": "5 days", "evidence": "Ask the desk when in doubt"}
        return json.dumps({**base, **reply})

    faults = {
        0: "I cannot help with that.",
        1: wrote(question=""),
        2: wrote(evidence="Nothing of this kind stands in the passage at all."),
        3: wrote(question="What does the passage say about days?"),
        4: wrote(answer=" "),
        5: wrote(evidence="Ask"),
        6: wrote(question="How long does the desk work?"),
    }
    result = run(tmp_path, Double(faults), n=7, kinds={"single": 1}, tries=1)
    assert adds_up(result)
    assert fell(result) == {"unreadable": 1, "declined": 1, "evidence": 2, "form": 2, "answerable": 1}
    examples = {count.name: count.examples for count in result.report.filters}
    assert "speaks of the text: 'the passage'" in examples["form"][0]
    assert "I cannot help with that." in examples["unreadable"][0]
    assert result.questions == () and "tries a question" in result.report.kinds[0].note


def test_an_llm_that_cannot_write_is_given_up_after_one_wave(tmp_path: Path) -> None:
    model = Double({number: "hm" for number in range(5000)})
    result = run(tmp_path, model, n=200, kinds={"single": 1})
    assert fell(result) == {"unreadable": 32} and len(model.asked) == 32
    assert "none of the first 32 replies could be used" in result.report.kinds[0].note
    failing = run(tmp_path / "other", Double(status="timeout"), n=40, kinds={"single": 1})
    assert fell(failing) == {"failed": 32} and failing.report.calls.failed == 32  # type: ignore[union-attr]


def test_closed_book_hops_and_unanswerable_are_checked(tmp_path: Path) -> None:
    every = "\n".join(f"<excerpt>\n{document.text}\n</excerpt>" for document in DOCS)

    class KnowsAll(Double):
        """Answers also without documents, from one excerpt, and what no document tells."""

        def complete(self, requests: Sequence[Any]) -> list[Any]:
            done = super().complete(requests)
            for place, request in enumerate(requests):
                prompt = request.messages[-1].content
                if 'Form: {"known"' in prompt:
                    asked = prompt.rpartition("Question: ")[2].partition("\n")[0]
                    said = answer(f"{every}\n\nQuestion: {asked}\n")
                    if asked.startswith("Who invented"):
                        said = '{"known": true, "answer": "Mrs Wren"}'
                    done[place] = Completion(said)
            return done

    result = run(tmp_path, KnowsAll(), n=10, tries=1)
    assert result.questions == () and adds_up(result)
    assert fell(result) == {"closed_book": 6, "every_hop": 2, "unanswerable": 2}


def test_the_round_trip_drops_what_a_search_does_not_find(tmp_path: Path) -> None:
    wanted = settings(n=48, kinds={"single": 1}, tries=1)
    miss = Searcher(DOCS, miss="The cable of the")
    result = synthesise(DOCS, wanted, (), asker(Double(), tmp_path), miss)
    assert fell(result) == {"round_trip": 12} and len(result.questions) == 36
    without = settings(n=48, kinds={"single": 1}, tries=1, filters={"round_trip": False})
    assert len(synthesise(DOCS, without, (), asker(Double(), tmp_path), miss).questions) == 48


def test_a_second_question_on_a_passage_is_a_duplicate_and_existing_ones_are_not_repeated(tmp_path: Path) -> None:
    first = run(tmp_path, n=48, kinds={"single": 1})
    assert len(first.questions) == 48
    second = synthesise(DOCS, settings(n=5, kinds={"single": 1}), first.questions, asker(Double(), tmp_path / "b"))
    assert second.questions == () and fell(second) == {"duplicate": 15}


def test_budgets_stop_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    stopped = run(tmp_path / "part", budget=SynthBudget(calls=30))
    assert adds_up(stopped) and stopped.report.calls.calls == 30  # type: ignore[union-attr]
    assert stopped.report.stopped == "synth.budget.calls is used up: 30 of 30"
    assert 0 < len(stopped.questions) < 20 or fell(stopped)["unfinished"]
    rest = Double()
    assert run(tmp_path / "part", rest).questions == whole.questions
    for budget, name in ((SynthBudget(tokens=900), "tokens"), (SynthBudget(money=0.001), "money")):
        result = run(tmp_path / name, budget=budget)
        assert f"synth.budget.{name} is used up" in result.report.stopped and adds_up(result)


def test_the_models_own_budget_ends_it_too(tmp_path: Path) -> None:
    class Spent(Double):
        def complete(self, requests: Sequence[Any]) -> list[Any]:
            if len(self.asked) > 12:
                raise BudgetError("llm.budget.tokens is used up")
            return super().complete(requests)

    result = run(tmp_path, Spent())
    assert result.report.stopped == "llm.budget.tokens is used up" and adds_up(result)


def test_known_documents_keep_their_split_and_closed_splits_get_nothing(tmp_path: Path) -> None:
    known = [
        Question(f"k{n}", f"What is known about number {n}?", "x", (Evidence(d.id, d.text[:40]),), {}, "test")
        for n, d in enumerate(DOCS[:6])
    ]
    result = synthesise(DOCS, settings(n=30, kinds={"single": 1}), known, asker(Double(), tmp_path), Searcher(DOCS))
    places = {e.doc_id: q.split for q in result.questions for e in q.evidence}
    assert {places[document.id] for document in DOCS[:6] if document.id in places} == {"test"}
    only = settings(n=30, split={"shares": [1, 0, 0]})
    result = synthesise(DOCS, only, known, asker(Double(), tmp_path), Searcher(DOCS))
    assert {question.split for question in result.questions} == {"train"}
    assert not {e.doc_id for q in result.questions for e in q.evidence} & {document.id for document in DOCS[:6]}
    assert any("6 documents of splits" in note for note in result.report.notes)
    all_known = [*known, *(Question(f"l{n}", "?", "x", (Evidence(d.id, "x"),), {}, "dev") for n, d in enumerate(DOCS))]
    with pytest.raises(DataError, match="hold no passage to ask about"):
        synthesise(DOCS, only, all_known, asker(Double(), tmp_path))


def test_a_group_with_known_questions_goes_where_most_of_them_are() -> None:
    new = [Question("n", "New?", "", (Evidence("a", "x"), Evidence("b", "y")))]

    def known(*splits: Any) -> list[Question]:
        return [Question(f"k{n}", f"{n}?", "", (Evidence("ab"[n % 2], "x"),), {}, s) for n, s in enumerate(splits)]

    for splits, wanted in ((("dev", "dev", "train"), "dev"), (("train", "test"), "test"), (("train", None), "train")):
        result = split_questions(new, known=known(*splits), complete=False)
        assert result.questions[0].split == wanted
    with pytest.raises(DataError, match="no question falls into"):
        split_questions(new, known=known("dev"))


def test_closed_book_names_what_an_llm_knows(tmp_path: Path) -> None:
    asked = [Question(f"q{n}", f"Question {n}?", f"{n} km", (Evidence("d", "x"),)) for n in range(4)]
    replies = {0: '{"known": true, "answer": "It is 0 km."}', 1: '{"known": true, "answer": "2 km"}', 2: "broken"}
    found = closed_book([*asked, Question("no", "No?", "")], asker(Double(replies), tmp_path))
    assert (found.asked, found.checked, found.known) == (4, 3, {"q0": "It is 0 km."})
    assert found.calls.unreadable == 1


class Form(BaseModel):
    question: str


@pytest.mark.parametrize(
    "text",
    [
        '{"question": "A?"}',
        '```json\n{"question": "A?"}\n```',
        'Sure! Here it is: {"question": "A?", "more": 1} Anything else?',
        '<think>{"question": "B?"} or so</think>{"question": "A?"}',
        '{"draft": {"x": 1}} {"question": "A?"}',
    ],
)
def test_json_is_found_whatever_stands_round_it(text: str) -> None:
    found = read_json(text, Form)
    assert found is not None and found.question == "A?"


@given(text=st.text(alphabet='{}[]":,ab\\ \n', max_size=60))
def test_property_broken_json_is_none_and_never_an_error(text: str) -> None:
    assert read_json(text, Form) is None or "question" in text


@pytest.mark.parametrize("opening", ["{", '{"question": ', "[", '{"question": ['])
def test_deep_nesting_ends_as_none(opening: str) -> None:
    assert read_json(opening * 2000, Form) is None


@given(start=st.integers(0, 60), length=st.integers(25, 120), glue=st.sampled_from([" ", "\n", "  ", " \t"]))
def test_property_evidence_is_always_the_passages_own_text(start: int, length: int, glue: str) -> None:
    text = DOCS[0].text
    passage = Passage("d", 1000, 1000 + len(text), text, "t")
    quoted = glue.join(text[start : start + length].split())
    found, why = verbatim(f'"{quoted}"', passage, SynthFilters())
    assert found is not None, why
    assert found.start is not None and found.end is not None
    assert text[found.start - 1000 : found.end - 1000] == found.text


def test_evidence_that_is_long_or_changed_falls() -> None:
    passage = Passage("d", 0, 400, "The lamp turns amber after 12 seconds. " * 10, "t")
    assert "characters long" in verbatim(passage.text, passage, SynthFilters(max_evidence=100))[1]
    assert "not in the passage" in verbatim("The lamp turns amber after 13 seconds.", passage, SynthFilters())[1]
    exact = SynthFilters(evidence=100)
    assert verbatim("The lamp turms amber after 12 seconds. The lamp", passage, exact)[0] is None


def test_answers_agree_by_words_and_never_against_a_number() -> None:
    assert agreement("It takes 12 seconds in all.", "12 seconds") == 1.0
    assert agreement("13 seconds", "12 seconds") == 0.0
    assert agreement("", "12") == agreement("12", "") == 0.0
    assert 0 < agreement("the red lamp", "the red light") < 1


@given(size=st.integers(200, 900), number=st.integers(0, 11))
def test_property_passages_are_stretches_of_the_document(size: int, number: int) -> None:
    document = DOCS[number]
    found = passages_of(document, size)
    assert found
    for passage in found:
        assert document.text[passage.start : passage.end] == passage.text == passage.text.strip()
        assert len(passage.text) <= size
    assert all(a.end <= b.start for a, b in zip(found, found[1:], strict=False))


def test_passages_are_taken_from_all_documents_in_turn_and_stay_in_order_when_one_is_added() -> None:
    passages = [p for document in DOCS for p in passages_of(document, 800)]
    order = in_turn(passages, 3, "x")
    assert sorted(p.key for p in order) == sorted(p.key for p in passages)
    assert len({p.doc_id for p in order[:12]}) == 12
    fewer = in_turn([p for p in passages if p.doc_id != DOCS[4].id], 3, "x")
    assert fewer == [p for p in order if p.doc_id != DOCS[4].id]
    assert in_turn(passages, 4, "x") != order


def test_pairs_are_of_two_documents_and_share_rare_words() -> None:
    texts = ["zebra quartz common words here", "common words there only", "quartz zebra once more common words"]
    passages = [Passage(f"d{n}", 0, len(t), t, "t") for n, t in enumerate(texts)]
    pairs = related_pairs(passages)
    assert [(a.doc_id, b.doc_id) for a, b in pairs] == [("d0", "d2")] or pairs[0][1].doc_id == "d2"
    assert all(a.doc_id != b.doc_id for a, b in pairs)
    assert related_pairs(passages[:1]) == []


@given(texts=st.lists(st.sampled_from(["What is a crop?", "what is a crop", "How far is it to go?", "E-1?", "E-2?"])))
def test_property_the_index_keeps_one_of_each_text(texts: list[str]) -> None:
    index = NearIndex(90)
    kept = []
    for text in texts:
        if index.nearest(text) is None:
            kept.append(text)
            index.add(text)
    assert sorted({normal_form(text) for text in texts}) == sorted(normal_form(text) for text in kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "greater than or equal to 1"),
        ({"kinds": {}}, "kinds: need a share above 0"),
        ({"kinds": {"single": 0}}, "kinds: need a share above 0"),
        ({"kinds": {"double": 1}}, "double"),
        ({"styles": []}, "at least one style"),
        ({"personas": [" "]}, "no empty text"),
        ({"split": {"by": "tag"}}, "split by 'document' or 'cluster'"),
        ({"split": {"shares": [0.5, 0.5, 0.5]}}, "sum 1"),
        ({"filters": {"evidence": 20}}, "greater than or equal to 85"),
        ({"budget": {"calls": 0}}, "greater than or equal to 1"),
        ({"by": "extractive", "llm": {"kind": "local", "model": "x"}}, "asks no LLM"),
        ({"wishes": 1}, "Extra inputs"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SynthSettings.model_validate(changes)


@given(
    n=st.integers(1, 500),
    shares=st.dictionaries(st.sampled_from(["single", "multi", "unanswerable"]), st.floats(0.01, 5), min_size=1),
)
def test_property_the_kinds_share_out_all_questions(n: int, shares: dict[str, float]) -> None:
    counts = SynthSettings.model_validate({"n": n, "kinds": shares}).wanted()
    assert sum(counts.values()) == n
    for kind, count in counts.items():
        assert abs(count - n * shares[kind] / sum(shares.values())) < 1


def test_of_a_large_corpus_a_part_is_drawn_and_that_is_said(tmp_path: Path) -> None:
    many = [Document(f"d{n}", DOCS[n % 12].text, "t", "r", DOCS[n % 12].sections) for n in range(2100)]
    result = synthesise(many, settings(n=4, kinds={"single": 1}), (), asker(Double(), tmp_path))
    assert result.report.notes[0] == "2000 of 2100 documents were drawn, and the others not asked about"
    assert result.report.passages == 8000 and adds_up(result)


def test_the_section_in_the_docs_is_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (block,) = [part for part in page.split("```") if part.startswith("yaml\nsynth:")]
    found = SynthSettings.model_validate(yaml.safe_load(block.removeprefix("yaml\n"))["synth"])
    assert found.n == 200 and found.budget.calls == 1500
