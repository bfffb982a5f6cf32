"""Pairs from files and feedback, and what is filtered out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.errors import DataError
from ragladder.embeddings.pair_files import load_feedback, load_pair_file
from ragladder.embeddings.pairs import Pair, PairSet, filtered_pairs, normalise


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_pairs_triplets_and_scores_are_read(tmp_path: Path) -> None:
    jsonl = lines(
        tmp_path / "p.jsonl",
        {"query": "a", "positive": "b"},
        {"anchor": "c", "passage": "d", "negatives": ["e", "f"]},
        {"question": "g", "document": "h", "score": 0.25},
    )
    found = load_pair_file(jsonl)
    assert [(p.query, p.positive, p.negatives, p.scores) for p in found] == [
        ("a", "b", (), ()),
        ("c", "d", ("e", "f"), ()),
        ("g", "h", (), (0.25,)),
    ]
    table = tmp_path / "p.csv"
    table.write_text('Query,Positive,negative_1,negative_2\nx,"y, z",n,\n')
    assert [(p.query, p.positive, p.negatives) for p in load_pair_file(table)] == [("x", "y, z", ("n",))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"query": "a"}\n', r"p.jsonl:1: needs texts 'query' and 'positive'"),
        ('{"query": "a", "positive": " "}\n', "not empty"),
        ('{"query": "a", "positive": "b", "score": "high"}\n', "score 'high' is not a finite number"),
        ('{"query": "a", "positive": "b", "score": NaN}\n', "not a finite number"),
        ("{\n", "p.jsonl:1: not JSON"),
        ("[]\n", "not a JSON object"),
        ("\n", "there is no pair in it"),
    ],
)
def test_a_bad_file_is_named_by_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        load_pair_file(path)


def test_a_file_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.jsonl, \.csv and \.tsv"):
        load_pair_file(tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        load_pair_file(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"feedback is read from \.jsonl"):
        load_feedback(tmp_path / "log.csv", {})


def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    long = "word " * 40_000
    table.write_text(f'query,positive\r\na\u2028b,"two\nlines"\r\nlong,{long}\r\n', newline="")
    assert [(p.query, p.positive) for p in load_pair_file(table)] == [("a\u2028b", "two\nlines"), ("long", long)]
    table.write_text("query,positive\nhow long, exactly?,a day\n")
    with pytest.raises(DataError, match="p.csv:2: more fields than the header names"):
        load_pair_file(table)
    table.write_text(",query,positive\n0,how long?,a day\n")  # as pandas writes an index
    assert load_pair_file(table)[0].query == "how long?"
    (tmp_path / "p.tsv").write_text("query\tpositive\nhow long, exactly?\ta day\n")
    assert load_pair_file(tmp_path / "p.tsv")[0].positive == "a day"


def test_clicks_and_ratings_become_pairs_and_skipped_ones_negatives(tmp_path: Path) -> None:
    shown = {"query": "q", "session": "1"}
    path = lines(
        tmp_path / "log.jsonl",
        {**shown, "text": "above", "clicked": False, "rank": 1},
        {**shown, "chunk_id": "c2", "clicked": True, "rank": 2},
        {**shown, "text": "below", "clicked": False, "rank": 3},
        {"query": "r", "text": "good", "rating": 1},
        {"query": "r", "text": "bad", "rating": -1},
        {"query": "r", "text": "so so", "rating": 0},
        {"query": "r", "chunk_id": "gone", "rating": 1},
    )
    pairs, counts = load_feedback(path, {"c2": "clicked text"})
    assert [(p.query, p.positive, p.negatives) for p in pairs] == [
        ("q", "clicked text", ("above",)),
        ("r", "good", ("bad",)),
    ]
    assert counts == {"feedback_silent": 2, "feedback_unknown": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q", "clicked": True}, "'text' or 'chunk_id'"),
        ({"query": "q", "text": "t"}, "either 'clicked'"),
        ({"query": "q", "text": "t", "clicked": "yes"}, "write true or false"),
        ({"query": "q", "text": "t", "rating": "good"}, "'rating' \\(a number\\)"),
        ({"query": "q", "text": "t", "clicked": False}, "nothing was clicked or rated above 0"),
    ],
)
def test_feedback_that_says_nothing_is_refused(tmp_path: Path, row: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_feedback(lines(tmp_path / "log.jsonl", row), {})


OWN = PairSet((Pair("t", "own?", "own text", "c"),), {"questions": 1, "pairs": 1})


def test_leaks_duplicates_and_contradictions_are_left_out_and_counted() -> None:
    added = [
        Pair("1", "Asked in DEV?", "x", "1"),
        Pair("2", "new?", "Answers dev.", "2"),
        Pair("3", "OWN", "Own text!", "3"),
        Pair("4", "new?", "fresh", "4", ("stale", "Fresh.")),
    ]
    found = filtered_pairs(OWN, added, ["asked in dev"], ["answers dev"], {"source_pairs": 4})
    assert [(p.question_id, p.negatives) for p in found] == [("t", ()), ("4", ("stale",))]
    counts = {name: found.counts[name] for name in ("held_out", "held_out_text", "duplicate", "contradiction", "pairs")}
    assert counts == {"held_out": 1, "held_out_text": 1, "duplicate": 1, "contradiction": 1, "pairs": 2}
    assert "2 training pairs from 1 questions and 4 pairs of files" in found.summary()
    assert "answers a dev or test question" in found.summary()


words = st.text("abc ", min_size=1, max_size=4)


@given(st.lists(st.builds(Pair, words, words, words, words, st.lists(words, max_size=2).map(tuple))), words)
def test_nothing_that_is_held_out_or_stands_twice_is_kept(added: list[Pair], asked: str) -> None:
    found = filtered_pairs(OWN, added, [asked], [], {})
    keys = [(normalise(p.query), normalise(p.positive)) for p in found]
    assert len(set(keys)) == len(keys)
    assert normalise(asked) not in {query for query, _ in keys[1:]}
    assert not any((normalise(p.query), normalise(text)) in keys for p in found for text in p.negatives)
