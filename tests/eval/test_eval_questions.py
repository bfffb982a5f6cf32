"""Question files: what is read, what is written, and what each mistake in them is called."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.errors import DataError
from ragladder.core.types import Evidence, Question
from ragladder.eval.questions import (
    by_split,
    files_identity,
    load_questions,
    question_files,
    save_questions,
    with_evidence,
)

ROW = {"id": "q1", "question": "How long?", "answer": "12 s", "evidence": [{"doc_id": "d.md", "text": "for 12 s"}]}


def write(path: Path, *rows: Any, newline: str = "\n") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes((newline.join(lines) + newline).encode())
    return path


def test_a_row_becomes_a_question(tmp_path: Path) -> None:
    row = {**ROW, "tags": {"kind": "table"}, "split": "dev"}
    (loaded,) = load_questions(write(tmp_path / "q.jsonl", row))
    assert loaded == Question("q1", "How long?", "12 s", (Evidence("d.md", "for 12 s"),), {"kind": "table"}, "dev")
    assert loaded.answerable


def test_no_evidence_means_unanswerable(tmp_path: Path) -> None:
    (loaded,) = load_questions(write(tmp_path / "q.jsonl", {"id": "q1", "question": "?"}))
    assert not loaded.answerable


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", {**ROW, "id": "2"})
    write(tmp_path / "a.jsonl", {**ROW, "id": "1"})
    (tmp_path / "notes.txt").write_text("no question")
    assert [q.id for q in load_questions(tmp_path)] == ["1", "2"]
    assert [f.name for f in question_files(tmp_path)] == ["a.jsonl", "b.jsonl"]


def test_broken_json_is_named_by_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", ROW, "", '{"id": "q2", "question": }', {**ROW, "id": "q3"}, "not json")
    with pytest.raises(DataError) as caught:
        load_questions(path)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert f"{path}:3: not valid JSON" in lines[1] and "column 26" in lines[1]
    assert f"{path}:5: not valid JSON" in lines[2]


def test_all_problems_of_a_row_are_named_by_key(tmp_path: Path) -> None:
    bad = {"id": "", "questoin": "?", "evidence": [{"doc_id": "d"}], "split": "valid"}
    path = write(tmp_path / "q.jsonl", ROW, bad, "[1]")
    with pytest.raises(DataError) as caught:
        load_questions(path)
    message = str(caught.value)
    for key in ("id", "question", "questoin", "evidence.0.text", "split"):
        assert f"{path}:2: {key}: " in message
    assert f"{path}:3: line: " in message


def test_ids_that_stand_twice_are_named_with_both_places(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROW)
    write(tmp_path / "b.jsonl", {**ROW, "id": "q2"}, ROW)
    with pytest.raises(DataError) as caught:
        load_questions(tmp_path)
    assert f"{tmp_path / 'b.jsonl'}:2: id 'q1' stands twice (first at {tmp_path / 'a.jsonl'}:1)" in str(caught.value)


def test_only_the_first_problems_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="and 5 more") as caught:
        load_questions(write(tmp_path / "q.jsonl", *["x"] * 25))
    assert len(str(caught.value).split("\n")) == 1 + 20 + 1


def test_a_wrong_encoding_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b'\n{"id": "q2", "question": "caf\xe9?"}\n')
    with pytest.raises(DataError, match=r"q\.jsonl:2: not UTF-8 text; save the file as UTF-8"):
        load_questions(path)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "q.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="holds none"):
        load_questions(tmp_path / "q.jsonl")


def test_files_of_windows_editors_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", ROW, {**ROW, "id": "q2"}, newline="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [q.id for q in load_questions(path)] == ["q1", "q2"]


def test_a_line_separator_inside_a_text_is_no_new_line(tmp_path: Path) -> None:
    (loaded,) = load_questions(write(tmp_path / "q.jsonl", {**ROW, "question": "one\u2028two\x85three"}))
    assert loaded.text == "one\u2028two\x85three"


def test_missing_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_questions(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"no \.jsonl file"):
        load_questions(tmp_path)


def test_identity_follows_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", ROW)
    before = files_identity(path)
    assert before == files_identity(tmp_path)
    write(path, {**ROW, "answer": "13 s"})
    assert files_identity(path) != before


def test_by_split_keeps_order_and_says_what_there_is() -> None:
    questions = [Question(str(n), "?", "!", split="dev" if n % 2 else "test") for n in range(4)]
    assert [q.id for q in by_split(questions, "dev")] == ["1", "3"]
    with pytest.raises(DataError, match="none has split 'train'.*2 dev"):
        by_split(questions, "train")


def test_a_split_that_the_documents_cannot_answer_is_refused() -> None:
    passage = (Evidence("a.md", "It hums."),)
    questions = [Question("1", "?", "!", split="dev"), Question("2", "?", "!", passage, split="test")]
    assert [q.id for q in with_evidence(questions, "test")] == ["2"]
    with pytest.raises(DataError, match="split 'dev' can score neither .* its only question has no evidence"):
        with_evidence(questions, "dev")
    with pytest.raises(DataError, match="none of its 2 questions has evidence"):
        with_evidence([*questions, Question("3", "?", "!", split="dev")], "dev")


@pytest.mark.parametrize("name", ["q q.csv", "q.TSV"])
def test_a_table_is_not_read_as_jsonl_line_by_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("question,answer\n" * 9)
    with pytest.raises(DataError) as caught:
        load_questions(tmp_path / name)
    assert "is a table" in str(caught.value) and "\n" not in str(caught.value)
    assert f"ragladder data import csv {shlex.quote(str(tmp_path / name))} FOLDER" in str(caught.value)


def test_questions_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none/q.jsonl: cannot be written"):
        save_questions(tmp_path / "none" / "q.jsonl", [])
    with pytest.raises(DataError, match="cannot be written"):
        save_questions(tmp_path, [])


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
EVIDENCE = st.builds(Evidence, TEXT, TEXT, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))
QUESTIONS = st.lists(
    st.builds(
        Question,
        TEXT,
        TEXT,
        st.text(st.characters(codec="utf-8"), max_size=30),
        st.lists(EVIDENCE, max_size=2).map(tuple),
        st.dictionaries(TEXT, TEXT, max_size=2),
        st.sampled_from([None, "train", "dev", "test"]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda q: q.id,
)


@given(questions=QUESTIONS)
def test_property_what_is_saved_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, questions: list[Question]
) -> None:
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    save_questions(path, questions)
    assert load_questions(path) == tuple(questions)
