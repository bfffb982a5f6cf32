"""Splits: no group in two splits, stable when data is added, shares kept, mistakes named."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.errors import ConfigError, DataError
from ragladder.core.types import Evidence, Question
from ragladder.eval.splits import balanced_seed, group_questions, split_questions


def question(number: int, *docs: str, text: str | None = None, **tags: str) -> Question:
    evidence = tuple(Evidence(doc, f"passage {number} of {doc}") for doc in docs)
    return Question(f"q{number}", text or f"What is item {number}?", "!", evidence, tags)


def many(count: int, start: int = 0) -> list[Question]:
    return [question(n, f"d{n // 2}") for n in range(start, start + count)]


DOCS = st.lists(st.sampled_from([f"d{n}" for n in range(30)]), max_size=3, unique=True)


@given(documents=st.lists(DOCS, min_size=1, max_size=60), seed=st.integers(0, 3))
def test_property_a_document_never_stands_in_two_splits(documents: list[list[str]], seed: int) -> None:
    questions = [question(n, *docs) for n, docs in enumerate(documents)]
    try:
        result = split_questions(questions, seed=seed)
    except DataError:
        return  # too few groups: a split is bare, and said so
    where: dict[str, set[str | None]] = defaultdict(set)
    for asked in result.questions:
        for evidence in asked.evidence:
            where[evidence.doc_id].add(asked.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert sum(result.counts.values()) == len(questions)
    assert [q.id for q in result.questions] == [q.id for q in questions]


@given(extra=st.integers(1, 200), seed=st.integers(0, 3))
def test_property_added_questions_on_other_documents_move_nothing(extra: int, seed: int) -> None:
    before = split_questions(many(200), seed=seed).questions
    after = split_questions([*many(extra, start=1000), *many(200)], seed=seed).questions
    assert {q.id: q.split for q in before}.items() <= {q.id: q.split for q in after}.items()


def test_questions_added_to_a_known_document_go_where_it_is() -> None:
    before = split_questions(many(200))
    after = split_questions([*many(200), *(question(1000 + n, f"d{n}") for n in range(100))])
    assert after.questions[:200] == before.questions
    assert all(after.questions[200 + n].split == before.questions[2 * n].split for n in range(100))


def test_a_group_that_grows_by_a_document_mostly_stays() -> None:
    # With one document more to four, another speaks for the group in one case of five, which often says the same.
    questions = [question(n, *(f"{letter}{n}" for letter in "defg")) for n in range(300)]
    before = split_questions(questions).questions
    after = split_questions([*questions, *(question(1000 + n, f"d{n}", f"a{n}") for n in range(300))]).questions
    moved = sum(old.split != new.split for old, new in zip(before, after, strict=False))
    assert 0 < moved < 60


def test_the_order_of_the_questions_does_not_matter() -> None:
    questions = [question(n, f"d{n % 40}", f"e{n % 7}-{n}") for n in range(120)]
    forth, back = split_questions(questions), split_questions(questions[::-1])
    assert sorted(forth.questions, key=lambda q: q.id) == sorted(back.questions, key=lambda q: q.id)


def test_shares_are_kept_in_the_long_run_also_of_groups_with_several_documents() -> None:
    questions = [question(n, f"a{n}", f"b{n}", f"c{n}") for n in range(3000)]
    result = split_questions(questions, shares=(0.5, 0.2, 0.3))
    for split, share in (("train", 0.5), ("dev", 0.2), ("test", 0.3)):
        assert result.counts[split] / 3000 == pytest.approx(share, abs=0.03)
    assert split_questions(questions, shares=(0, 0, 1)).counts == {"train": 0, "dev": 0, "test": 3000}


def test_another_seed_is_another_split() -> None:
    first, second = split_questions(many(200), seed=1), split_questions(many(200), seed=2)
    assert first.questions != second.questions
    again = split_questions(first.questions, seed=2)
    assert again.questions == second.questions
    assert again.moved == sum(a.split != b.split for a, b in zip(first.questions, second.questions, strict=True)) > 0


def test_documents_are_linked_through_questions_on_several() -> None:
    groups = group_questions([question(0, "a", "b"), question(1, "b", "c"), question(2, "c"), question(3, "d")])
    assert groups[0] == groups[1] == groups[2] == ("document:a", "document:b", "document:c")
    assert groups[3] == ("document:d",)


def test_questions_without_evidence_are_grouped_by_their_words() -> None:
    groups = group_questions([question(0, text="Who owns it?"), question(1, text="who owns it"), question(2)])
    assert groups[0] == groups[1] != groups[2]


def test_clusters_join_near_duplicate_questions_and_passages() -> None:
    questions = [
        question(0, "a", text="How long must I hold the reset button of the locker?"),
        question(1, "b", text="How long must I hold the reset buton of the locker?"),
        Question("q2", "Where is it?", "!", (Evidence("c", "The lamp turns amber once the pin was held."),)),
        Question("q3", "And the lamp?", "!", (Evidence("d", "The lamp turns amber once the pin was held"),)),
        question(4, "e", text="Which colour has the parking permit for visitors?"),
    ]
    assert len(set(group_questions(questions))) == 5
    groups = group_questions(questions, "cluster")
    assert groups[0] == groups[1] and groups[2] == groups[3]
    assert len(set(groups)) == 3


def test_tags_join_their_questions_and_their_documents() -> None:
    questions = [question(n, f"d{n}", team="xyz"[n % 3]) for n in range(9)] + [question(9, "d0", team="w")]
    groups = group_questions(questions, "tag", "team")
    assert len(set(groups)) == 3
    assert groups[9] == groups[0]


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="sum 1"):
        split_questions(many(10), shares=(0.5, 0.2, 0.2))
    with pytest.raises(ConfigError, match="three numbers"):
        split_questions(many(10), shares=(0.5, 0.5))
    with pytest.raises(ConfigError, match="say which tag"):
        split_questions(many(10), by="tag")
    with pytest.raises(DataError, match="1 of 2 questions have no tag 'team', the first is 'q1'.*tags: team"):
        split_questions([question(0, team="x"), question(1)], by="tag", tag="team")
    with pytest.raises(DataError, match="no question falls into .* of 1 group the largest has 5 of 5.*yourself"):
        split_questions([question(n, "one") for n in range(5)])


def test_a_seed_that_fills_the_splits_of_few_documents() -> None:
    unfilled = 0
    for documents in range(3, 9):
        questions = [question(n, f"paper {documents} {n % documents}") for n in range(4 * documents)]
        questions += [Question(f"no{n}", f"Who owns yacht {n}?", "!") for n in range(3)]
        chosen = split_questions(questions, seed=balanced_seed(questions), complete=False)
        answerable = [q.split for q in chosen.questions if q.evidence]
        least = min(answerable.count(s) / share for s, share in (("train", 0.5), ("dev", 0.2), ("test", 0.3)))
        assert least >= 0.5 * len(answerable), documents
        first = split_questions(questions, complete=False)
        bare = [s for s in ("train", "dev", "test") if not any(q.split == s and q.evidence for q in first.questions)]
        unfilled += bool(bare)
        assert not chosen.thin and set(bare) <= set(first.thin)
        fuller = split_questions(questions, seed=balanced_seed(questions, enough=0.8), complete=False)
        shares = [sum(q.split == s and bool(q.evidence) for q in fuller.questions) for s in ("train", "dev", "test")]
        assert min(n / share for n, share in zip(shares, (0.5, 0.2, 0.3), strict=True)) >= least
    assert unfilled  # without the choice some of these would be of no use


def test_the_first_seed_stays_where_it_serves() -> None:
    assert balanced_seed(many(200)) == 0
    alone = [question(n, "one") for n in range(5)]  # no seed can help
    assert 0 <= balanced_seed(alone) < 100
