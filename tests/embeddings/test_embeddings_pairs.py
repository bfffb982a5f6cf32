"""Training pairs and hard negatives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ragladder.core.errors import DataError
from ragladder.core.types import Chunk, Question
from ragladder.embeddings.mine import HardNegativeSettings, MiningCorpus, mine_negatives, mining_corpus
from ragladder.embeddings.pairs import Pair, load_pairs, save_pairs, training_pairs


def chunk(doc: str, start: int, end: int) -> Chunk:
    return Chunk(doc, start, end, "x" * (end - start))


def question(name: str, text: str = "") -> Question:
    return Question(name, text or f"question {name}", "answer")


CHUNKS = [chunk("d", 0, 100), chunk("d", 80, 200), chunk("e", 0, 50)]
TEXTS = [f"title\n{c.id}" for c in CHUNKS]


def test_the_chunk_with_most_of_the_evidence_is_the_positive() -> None:
    found = training_pairs([question("q")], CHUNKS, TEXTS, {"q": [("d", 70, 120)]})
    assert [(p.question_id, p.chunk_id, p.positive) for p in found] == [("q", "d:80-200", "title\nd:80-200")]


def test_each_question_that_gives_no_pair_is_counted_by_its_reason() -> None:
    questions = [question(name) for name in ("ok", "none", "lost", "cut")]
    questions += [question("two", "Question OK!"), question("held", "HELD  out?")]
    gold = {
        "ok": [("d", 0, 10), ("e", 0, 10)],
        "two": [("d", 0, 10)],
        "lost": [("d", -1, -1)],
        "cut": [("d", 150, 400)],
        "held": [("d", 0, 10)],
    }
    found = training_pairs(questions, CHUNKS, TEXTS, gold, held_out=[question("dev", "held out")])
    assert [p.chunk_id for p in found] == ["d:0-100", "e:0-50"]
    expected = {"questions": 6, "pairs": 2, "unanswerable": 1, "lost": 1, "cut": 1, "duplicate": 1, "held_out": 1}
    assert found.counts == expected
    assert "1 questions that also stand in dev or test" in found.summary()


@given(st.integers(0, 180), st.integers(1, 60), st.floats(0.1, 1))
def test_a_positive_holds_at_least_the_share_asked_for(start: int, length: int, cover: float) -> None:
    span = ("d", start, start + length)
    shares = {c.id: (min(span[2], c.end) - max(start, c.start)) / length for c in CHUNKS if c.doc_id == "d"}
    try:
        (pair,) = training_pairs([question("q")], CHUNKS, TEXTS, {"q": [span]}, cover)
    except DataError:
        assert max(shares.values()) < cover
    else:
        assert shares[pair.chunk_id] == max(shares.values()) >= cover


def test_nothing_left_is_an_error_with_counts() -> None:
    with pytest.raises(DataError, match="0 training pairs from 1 questions .*1 questions without evidence"):
        training_pairs([question("q")], CHUNKS, TEXTS, {})
    with pytest.raises(DataError, match="1 embedding texts for 3 chunks"):
        training_pairs([question("q")], CHUNKS, ["one"], {})


@given(st.lists(st.builds(Pair, *[st.text()] * 4, st.lists(st.text(), max_size=2).map(tuple)), max_size=5))
def test_saved_pairs_load_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    save_pairs(path, pairs)
    assert load_pairs(path) == pairs


def test_a_broken_file_of_pairs_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, [Pair("q", "a", "b", "c")])
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(DataError, match="pairs.jsonl:2: not a training pair"):
        load_pairs(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_pairs(tmp_path / "none.jsonl")


def test_chunks_that_touch_the_evidence_are_forbidden() -> None:
    corpus = mining_corpus(CHUNKS, TEXTS, {"q": [("d", 90, 100)], "r": [("d", 100, 110)], "lost": [("d", -1, -1)]})
    assert corpus.forbidden == {"q": {TEXTS[0], TEXTS[1]}, "r": {TEXTS[1]}, "lost": frozenset()}


@pytest.fixture(scope="module")
def model(tiny_model: Path):
    from ragladder.embeddings.models import load_model

    return load_model(tiny_model)


POOL = ("hold the button", "press the button", "hold the lamp", "the van", "my invoice", "robot battery", "reset code")
PAIRS = [Pair("q", "hold the button how long", POOL[0], "c0"), Pair("r", "where is my invoice", POOL[4], "c4")]
OPEN = {"relative_margin": None, "range_max": 5}


def test_negatives_are_the_best_ranked_that_are_not_forbidden(model, capfd: pytest.CaptureFixture[str]) -> None:
    free = mine_negatives(PAIRS, MiningCorpus(POOL, {}), model, HardNegativeSettings(num_negatives=2, **OPEN))
    assert (free.complete, free.partial, free.without) == (2, 0, 0)
    taken = frozenset(free.pairs[0].negatives)
    assert PAIRS[0].positive not in taken
    held = mine_negatives(PAIRS, MiningCorpus(POOL, {"q": taken}), model, HardNegativeSettings(num_negatives=2, **OPEN))
    assert not taken & set(held.pairs[0].negatives)
    assert held.pairs[1] == free.pairs[1]
    assert capfd.readouterr() == ("", "")


def test_the_window_counts_ranks_of_allowed_candidates(model) -> None:
    corpus = MiningCorpus(POOL, {})
    every = mine_negatives(PAIRS, corpus, model, HardNegativeSettings(num_negatives=5, **OPEN))
    later = mine_negatives(PAIRS, corpus, model, HardNegativeSettings(num_negatives=2, range_min=2, **OPEN))
    assert later.pairs[0].negatives == every.pairs[0].negatives[2:4]


def test_pairs_without_enough_negatives_are_kept(model) -> None:
    none = mine_negatives(PAIRS, MiningCorpus(POOL, {}), model, HardNegativeSettings(max_score=-0.99))
    assert [(p.question_id, p.negatives) for p in none.pairs] == [("q", ()), ("r", ())]
    assert none.without == 2
    some = mine_negatives(
        PAIRS, MiningCorpus(POOL[:3], {}), model, HardNegativeSettings(num_negatives=4, relative_margin=None)
    )
    assert (some.complete, some.partial, some.without) == (0, 2, 0)
    assert "0 of 2 pairs have all, 2 have some" in some.summary()


def test_a_window_too_small_is_refused() -> None:
    with pytest.raises(ValidationError, match="leave room"):
        HardNegativeSettings(range_min=49, range_max=50, num_negatives=2)
