"""Loaders: what each format becomes, and what each mistake in it is called, by file and line."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.types import Evidence, Question
from ragladder.eval._source import DocumentSet, plain_text
from ragladder.eval.data_settings import DataSettings
from ragladder.eval.gold import locate
from ragladder.eval.load import Imported, load_dataset, prepare_dataset, write_dataset
from ragladder.eval.questions import load_questions
from ragladder.rag.parse import ParseSettings, parse_corpus


def jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def table(path: Path, *rows: Sequence[str], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue())
    return path


def refused(format: Any, source: Path, documents: Mapping[str, str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(format, source, documents)
    return str(caught.value)


# --- BEIR ------------------------------------------------------------------------------------------------------------


def beir(root: Path) -> Path:
    corpus = [
        {"_id": "d/1", "title": "Pumps", "text": "A pump moves water.\r\n\n\nIt hums. "},
        {"_id": "d2", "text": "A valve closes."},
        {"_id": "d3", "title": "", "text": " "},
    ]
    queries = [{"_id": n, "text": f"question {n}", "metadata": {}} for n in ("1", "2", "3", "4")]
    jsonl(root / "corpus.jsonl", *corpus)
    jsonl(root / "queries.jsonl", *queries)
    head = ("query-id", "corpus-id", "score")
    table(root / "qrels" / "train.tsv", head, ("1", "d2", "1"), delimiter="\t")
    table(
        root / "qrels" / "test.tsv", head, ("2", "d/1", "2"), ("2", "d2", "1"), ("3", "d3", "1"), ("2", "d3", "0"),
        delimiter="\t",
    )  # fmt: skip
    return root


def test_beir_becomes_questions_with_whole_documents_as_evidence(tmp_path: Path) -> None:
    imported = load_dataset("beir", beir(tmp_path))
    pumps, valve = "Pumps\n\nA pump moves water.\n\nIt hums.", "A valve closes."
    assert imported.documents == {"d_1.txt": pumps, "d2.txt": valve}
    whole = {"d_1.txt": Evidence("d_1.txt", pumps, 0, len(pumps)), "d2.txt": Evidence("d2.txt", valve, 0, len(valve))}
    assert imported.questions == (
        Question("1", "question 1", "", (whole["d2.txt"],), {}, "train"),
        Question("2", "question 2", "", (whole["d_1.txt"], whole["d2.txt"]), {"relevance": "2 1"}, "test"),
    )
    assert "1 queries without judgements were left out" in imported.notes
    assert "1 queries whose judgements name no relevant document with text were left out" in imported.notes
    assert "1 documents without text were left out" in imported.notes


def test_all_mistakes_in_a_beir_folder_are_named_by_file_and_line(tmp_path: Path) -> None:
    beir(tmp_path)
    corpus, queries, qrels = tmp_path / "corpus.jsonl", tmp_path / "queries.jsonl", tmp_path / "qrels" / "test.tsv"
    jsonl(corpus, {"_id": "d2", "text": "x"}, "{", {"_id": "d2", "text": "y"}, {"_id": 5, "text": "z"}, "[]")
    jsonl(queries, {"_id": "2", "text": " "}, {"_id": "1", "text": "ok"})
    rows = [("query-id", "corpus-id", "score"), ("9", "d2", "1"), ("1", "d9", "1"), ("1", "d2", "x"), ("1", "d2", "1")]
    table(qrels, *rows, ("1", "d2"), delimiter="\t")
    message = refused("beir", tmp_path)
    for expected in (
        f"{corpus}:2: not valid JSON",
        f"{corpus}:3: _id 'd2' stands twice",
        f"{corpus}:4: needs '_id'",
        f"{corpus}:5: expected an object",
        f"{queries}:1: needs '_id' and 'text'",
        f"{qrels}:2: query-id '9' is not in queries.jsonl",
        f"{qrels}:3: corpus-id 'd9' is not in corpus.jsonl",
        f"{qrels}:4: score 'x' is not a whole number",
        f"{qrels}:6: has 2 cells, but the header has 3",
        f"{tmp_path / 'qrels' / 'train.tsv'}:2: query-id '1' is judged for the splits test and train",
    ):
        assert expected in message


def test_a_beir_folder_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    assert "corpus.jsonl: no such file; a BEIR folder has" in refused("beir", tmp_path)
    beir(tmp_path)
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "heldout.tsv")
    assert "heldout.tsv: name it train.tsv, dev.tsv or test.tsv" in refused("beir", tmp_path)
    table(tmp_path / "qrels" / "heldout.tsv", ("1", "d2", "1"), ("1", "d2", "1"), delimiter="\t").rename(
        tmp_path / "qrels" / "dev.tsv"
    )
    assert "dev.tsv:1: the header must be" in refused("beir", tmp_path)


# --- SQuAD -----------------------------------------------------------------------------------------------------------

CONTEXT = "The pump was built in 1907. It moved water to the mill. Nobody knows its weight."


def squad(path: Path, *qas: Mapping[str, Any], context: str = CONTEXT, title: str = "Old_pumps") -> Path:
    intro = {"context": "Pumps are old machines of many kinds.", "qas": []}
    article = {"title": title, "paragraphs": [intro, {"context": context, "qas": qas}]}
    path.write_text(json.dumps({"version": "v2.0", "data": [article]}))
    return path


def qa(key: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"id": key, "question": "?!a", "answers": [{"text": t, "answer_start": s} for t, s in answers], **more}


def test_squad_answers_become_the_sentence_that_holds_them(tmp_path: Path) -> None:
    where = CONTEXT.index("1907")
    source = squad(
        tmp_path / "s.json",
        qa("a", ("in 1907", where - 3), ("1907", where), ("1907", where)),
        qa("b", is_impossible=True),
    )
    imported = load_dataset("squad", source)
    (doc_id, text), *others = imported.documents.items()
    assert not others
    assert text == "Old pumps\n\nPumps are old machines of many kinds.\n\n" + CONTEXT
    first, second = imported.questions
    (evidence,) = first.evidence
    assert (first.answer, evidence.text, evidence.doc_id) == ("1907", "The pump was built in 1907.", doc_id)
    assert text[evidence.start : evidence.end] == evidence.text
    assert (second.answerable, second.answer) == (False, "")
    assert len(imported.notes) == 2


def test_an_answer_over_two_sentences_keeps_both(tmp_path: Path) -> None:
    answer = "1907. It moved"
    (made,) = load_dataset("squad", squad(tmp_path / "s.json", qa("a", (answer, CONTEXT.index(answer))))).questions
    assert made.evidence[0].text == "The pump was built in 1907. It moved water to the mill."


@given(context=st.text(st.sampled_from("ab .\n\r\tC1"), min_size=1, max_size=80), data=st.data())
def test_property_squad_offsets_fit_the_document(
    tmp_path_factory: pytest.TempPathFactory, context: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(context) - 1))
    answer = context[start : data.draw(st.integers(start + 1, len(context)))]
    if not answer.strip():
        return
    source = squad(tmp_path_factory.mktemp("squad") / "s.json", qa("a", (answer, start)), context=context)
    imported = load_dataset("squad", source)
    (evidence,) = imported.questions[0].evidence
    assert imported.documents[evidence.doc_id][evidence.start : evidence.end] == evidence.text
    assert plain_text(answer).split("\n")[0].strip() in evidence.text


def test_mistakes_in_squad_files_are_named_by_their_place(tmp_path: Path) -> None:
    source = squad(
        tmp_path / "s.json",
        qa("a", ("1907", 3)),
        qa("b", ("", 3)),
        qa("c", ("pump", 4)),
        qa("c", ("pump", 4)),
        {"id": "d", "question": " ", "answers": []},
        qa("e", is_impossible=False),
        {"id": "f", "question": "?", "answers": "1907"},
    )
    message = refused("squad", source)
    place = f"{source}: data[0].paragraphs[1].qas"
    assert f"{place}[0]: answer '1907' does not stand at answer_start 3, but ' pum'" in message
    for number in (1, 3, 4, 5, 6):
        assert f"{place}[{number}]: " in message
    assert f"{place}[2]: " not in message
    source.write_text('{"data": [\n{]}')
    assert f"{source}:2: not valid JSON" in refused("squad", source)
    source.write_text("[]")
    assert 'expected {"data": [articles]}' in refused("squad", source)


# --- Chroma ----------------------------------------------------------------------------------------------------------


def chroma(root: Path, *references: Any, corpus_id: str = "talk") -> Path:
    (root / "corpora").mkdir(parents=True, exist_ok=True)
    (root / "corpora" / "talk.md").write_bytes("Good evening.\r\nWe cut fees — twice.".encode())
    cells = [json.dumps(r) if not isinstance(r, str) else r for r in references]
    rows = [("What about fees?", cell, corpus_id) for cell in cells]
    table(root / "questions_df.csv", ("question", "references", "corpus_id"), *rows)
    return root


def test_chroma_spans_are_kept(tmp_path: Path) -> None:
    span = {"content": "We cut fees — twice.", "start_index": 14, "end_index": 34}
    imported = load_dataset("chroma", chroma(tmp_path, [span]))
    assert imported.documents == {"talk.md": "Good evening.\nWe cut fees — twice."}
    evidence = (Evidence("talk.md", "We cut fees — twice.", 14, 34),)
    question = Question("chroma-1", "What about fees?", "", evidence, {"corpus": "talk"}, "test")
    assert imported.questions == (question,)


def test_mistakes_in_the_chroma_layout_are_named_by_line(tmp_path: Path) -> None:
    off = {"content": "We cut", "start_index": 15, "end_index": 21}
    file = tmp_path / "questions_df.csv"
    message = refused("chroma", chroma(tmp_path, [off], "[oops", [], [{"content": "x"}]))
    assert f"{file}:2: references[0]: the text at 15:21 of talk.md is another" in message
    assert f"{file}:3: references: not valid JSON" in message
    assert f"{file}:4: references: expected a list" in message
    assert f"{file}:5: references[0]: needs content, start_index, end_index" in message
    assert f"{file}:2: corpus_id 'song' has no file" in refused("chroma", chroma(tmp_path, [off], corpus_id="song"))
    table(file, ("question", "refs", "corpus_id"), ("a", "[]", "talk"))
    assert f"{file}:1: needs the columns" in refused("chroma", tmp_path)


# --- CSV, ragas, Hugging Face ----------------------------------------------------------------------------------------

CORPUS = {"a.md": "The pump moves water uphill.\nIt hums at night.", "b.md": "A valve closes the pipe at once."}


def test_csv_rows_with_one_id_are_one_question(tmp_path: Path) -> None:
    source = table(
        tmp_path / "q.csv",
        ("id", "question", "answer", "doc_id", "evidence", "split", "tag.kind"),
        ("x", "What moves?", "water", "a.md", "The pump moves water", "dev", "easy"),
        ("x", "", "", "b.md", "A valve closes", "", ""),
        ("", "Who knows?", "", "", "", "", ""),
        ("", "", "", "", "", "", ""),
    )
    imported = load_dataset("csv", source)
    evidence = (Evidence("a.md", "The pump moves water"), Evidence("b.md", "A valve closes"))
    assert imported.questions == (
        Question("x", "What moves?", "water", evidence, {"kind": "easy"}, "dev"),
        Question("q-2", "Who knows?", "", (), {}, None),
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_header_says_what_parts_the_cells(delimiter: str, mark: str, tmp_path: Path) -> None:
    rows = (("question", "answer"), ("One, two; or\tthree?", "ä, b; c\td"))
    source = table(tmp_path / "q.csv", *rows, delimiter=delimiter)
    source.write_text(mark + source.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_dataset("csv", source).questions == (
        Question("q-1", "One, two; or\tthree?", "ä, b; c\td", (), {}, None),
    )


def test_csv_passages_without_a_document_are_looked_for(tmp_path: Path) -> None:
    rows = [("one", "moves water uphill"), ("two", "a VALVE closes; the pipe"), ("three", "nowhere to be found here")]
    source = table(tmp_path / "q.csv", ("question", "evidence"), *rows)
    message = refused("csv", source, CORPUS)
    assert f"{source}:4: no document holds the passage 'nowhere" in message and message.count("\n") == 1
    assert f"{source}:2: doc_id: is empty; fill it, or name the documents' folder" in refused("csv", source)
    table(source, ("question", "evidence"), *rows[:2])
    imported = load_dataset("csv", source, {**CORPUS, "c.md": CORPUS["a.md"]})
    assert [q.evidence[0].doc_id for q in imported.questions] == ["a.md", "b.md"]
    assert imported.notes == ("1 passage stands in more than one document: the first by name was taken",)


def test_mistakes_in_csv_files_are_named_by_line(tmp_path: Path) -> None:
    source = tmp_path / "q.csv"
    table(source, ("question", "anwser"), ("a", "b"))
    assert f"{source}:1: unknown column 'anwser' (did you mean 'answer'?)" in refused("csv", source)
    table(source, ("Question", "document", "file", "context"), ("a", "b", "c", "d"))
    message = refused("csv", source)
    for column, meant in (
        ("Question", "question"),
        ("document", "doc_id"),
        ("file", "doc_id"),
        ("context", "evidence"),
    ):
        assert f"{source}:1: unknown column '{column}' (did you mean '{meant}'?)" in message
    assert f"{tmp_path}: is a folder; CSV is one file" in refused("csv", tmp_path)
    table(source, ("id", "answer"), ("a", "b"))
    assert f"{source}:1: there is no column 'question'" in refused("csv", source)
    head = ("id", "question", "doc_id", "evidence", "split")
    table(
        source, head,
        ("1", 'two\nlines, "quoted"', "a.md", "x", "test"),
        ("2", "", "a.md", "x", ""),
        ("3", "q", "a.md", "", ""),
        ("4", "q", "a.md", "x", "valid"),
        ("1", "other", "a.md", "y", ""),
        ("5", "q"),
    )  # fmt: skip
    message = refused("csv", source)
    for line, what in ((4, "question: is empty"), (5, "evidence: is empty"), (6, "split: must be"), (8, "has 2 cells")):
        assert f"{source}:{line}: {what}" in message
    assert f"{source}:7: id '1' has another question or answer at {source}:2" in message
    source.write_text("")
    assert "the file is empty" in refused("csv", source)
    source.write_bytes(b"question\ncaf\xe9\n")
    assert f"{source}:2: not UTF-8 text" in refused("csv", source)


def test_a_ragas_testset_with_documents_finds_its_contexts(tmp_path: Path) -> None:
    rows = [
        {
            "user_input": "What hums?",
            "reference": "the pump",
            "reference_contexts": ["<1-hop>\n\nIt hums at  night.", "<2-hop>\n\nA valve closes the pipe"],
            "synthesizer_name": "multi_hop",
        },
        {"user_input": "Who?", "reference": "nobody", "reference_contexts": []},
    ]
    imported = load_dataset("ragas", jsonl(tmp_path / "r.jsonl", *rows), CORPUS)
    first, second = imported.questions
    assert [e.doc_id for e in first.evidence] == ["a.md", "b.md"]
    assert (first.answer, first.tags, second.answerable) == ("the pump", {"synthesizer": "multi_hop"}, False)
    assert imported.documents == {}
    message = refused("ragas", tmp_path / "r.jsonl", {"b.md": CORPUS["b.md"]})
    assert "r.jsonl:1: no document holds the passage 'It hums" in message


@pytest.mark.parametrize("cell", ['["It hums.", "It rests."]', "['It hums.', 'It rests.']"])
def test_a_ragas_csv_without_documents_brings_its_contexts(tmp_path: Path, cell: str) -> None:
    head = ("user_input", "reference_contexts", "reference")
    imported = load_dataset("ragas", table(tmp_path / "r.csv", head, ("a?", cell, "x"), ("b?", "['It hums.']", "y")))
    assert sorted(imported.documents.values()) == ["It hums.", "It rests."]
    assert imported.questions[0].evidence[0].doc_id == imported.questions[1].evidence[0].doc_id
    assert "retrieval looks easier" in imported.notes[0]


def test_mistakes_in_a_ragas_testset_are_named_by_line(tmp_path: Path) -> None:
    rows = [{"user_input": [{"content": "hi"}]}, {"user_input": ""}, {"user_input": "a", "reference_contexts": "x["}]
    message = refused("ragas", jsonl(tmp_path / "r.jsonl", *rows))
    assert "r.jsonl:1: user_input: is a conversation" in message
    assert "r.jsonl:2: user_input: is missing" in message
    assert "r.jsonl:3: reference_contexts: expected a list" in message


def test_a_hugging_face_dataset_on_disk(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    start = CONTEXT.index("1907")
    squad_rows = {"title": ["P"], "context": [CONTEXT], "question": ["When?"]}
    answers = {"answers": [{"text": ["1907"], "answer_start": [start]}]}
    DatasetDict(validation=Dataset.from_dict({**squad_rows, **answers})).save_to_disk(str(tmp_path / "squad"))
    (made,) = load_dataset("huggingface", tmp_path / "squad").questions
    assert (made.answer, made.split, made.evidence[0].text) == ("1907", "dev", "The pump was built in 1907.")

    untitled = {"context": [CONTEXT, "Another text."], "question": ["When?"] * 2}
    answers = {"answers": [{"text": [t], "answer_start": [s]} for t, s in (("1907", start), ("text", 8))]}
    Dataset.from_dict({**untitled, **answers}).save_to_disk(str(tmp_path / "untitled"))
    imported = load_dataset("huggingface", tmp_path / "untitled")
    assert imported.documents == {"paragraph-00001.txt": CONTEXT, "paragraph-00002.txt": "Another text."}
    assert [q.evidence[0].start for q in imported.questions] == [0, 0]

    plain = {"question": ["What moves?"], "answer": ["water"], "doc_id": ["a.md"], "evidence": ["moves water"]}
    Dataset.from_dict(plain).save_to_disk(str(tmp_path / "plain"))
    (made,) = load_dataset("huggingface", tmp_path / "plain").questions
    assert made == Question("q-1", "What moves?", "water", (Evidence("a.md", "moves water"),))

    Dataset.from_dict({"prompt": ["x"]}).save_to_disk(str(tmp_path / "other"))
    assert "the columns are prompt" in refused("huggingface", tmp_path / "other")
    assert "not a dataset saved by save_to_disk" in refused("huggingface", tmp_path)
    assert "no such folder" in refused("huggingface", tmp_path / "gone")


# --- writing ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_parsed_and_located_where_it_says(tmp_path: Path) -> None:
    imported = load_dataset("beir", beir(tmp_path / "source"))
    write_dataset(tmp_path / "out", imported)
    assert load_questions(tmp_path / "out" / "questions.jsonl") == imported.questions
    resources = Resources(cache_dir=tmp_path / "cache")
    corpus = parse_corpus(tmp_path / "out" / "documents", ParseSettings(), resources)
    assert {d.id: d.text for d in corpus.documents} == imported.documents
    spans = [span for found in locate(imported.questions, corpus.documents).values() for span in found]
    assert {span.method for span in spans} == {"exact"}


def test_nothing_is_written_over_and_nothing_half_written(tmp_path: Path) -> None:
    imported = Imported((Question("q", "?", ""),), {"a.txt": "text"})
    (tmp_path / "empty").mkdir()
    write_dataset(tmp_path / "empty", imported)
    with pytest.raises(DataError, match="is there already"):
        write_dataset(tmp_path / "empty", imported)
    bad = Imported((Question("q", "?", ""),), {"no/such/folder.txt": "text"})
    with pytest.raises(DataError, match="cannot be written"):
        write_dataset(tmp_path / "new", bad)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_of_documents_is_copied(tmp_path: Path) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "sub" / "a.md").write_text("text")
    (tmp_path / "docs" / ".hidden").write_text("x")
    write_dataset(tmp_path / "out", Imported((Question("q", "?", ""),)), tmp_path / "docs")
    found = [p.relative_to(tmp_path / "out").as_posix() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()]
    assert found == ["documents/sub/a.md", "questions.jsonl"]


def test_a_prepared_dataset_is_made_once_and_anew_when_the_source_changes(tmp_path: Path) -> None:
    source = beir(tmp_path / "source")
    first = prepare_dataset("beir", source, tmp_path / "cache")
    written = (first / "questions.jsonl").stat().st_mtime_ns
    assert prepare_dataset("beir", source, tmp_path / "cache") == first
    assert (first / "questions.jsonl").stat().st_mtime_ns == written
    with open(source / "corpus.jsonl", "a") as handle:
        handle.write('{"_id": "d4", "text": "more"}\n')
    second = prepare_dataset("beir", source, tmp_path / "cache")
    assert second != first and (second / "documents" / "d4.txt").read_text() == "more"
    with pytest.raises(DataError, match="no such file or folder"):
        prepare_dataset("beir", tmp_path / "gone", tmp_path / "cache")


def test_data_settings_take_folders_or_a_data_set(tmp_path: Path) -> None:
    plain = DataSettings(documents="docs", questions="q.jsonl")
    assert plain.located(tmp_path, tmp_path) is plain
    beir(tmp_path / "source")
    located = DataSettings(path="source", format="beir").located(tmp_path, tmp_path / "cache")
    assert (Path(located.documents) / "d2.txt").is_file() and Path(located.questions).is_file()
    for wrong in ({"documents": "d"}, {"path": "x"}, {}, {"documents": "d", "questions": "q", "path": "x"}):
        with pytest.raises(ValueError, match="name 'documents' and 'questions'"):
            DataSettings(**wrong)
    with pytest.raises(ValueError, match="set data.path to the beir data set"):
        DataSettings(format="beir")


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=120)


@given(keys=st.lists(NAMES, min_size=1, max_size=12, unique=True))
def test_property_names_of_documents_are_safe_and_unlike_in_any_case(keys: list[str]) -> None:
    corpus = DocumentSet()
    names = [corpus.add(key, "text") for key in keys]
    assert len({name.casefold() for name in names}) == len(keys)
    for name in names:
        assert name.endswith(".txt") and not name.startswith(".") and not set('/\\:*?"<>|\0\n') & set(name)
        assert len(name) <= 100


@given(blocks=st.lists(st.text(st.sampled_from("aB1 \n\r\t."), max_size=30), max_size=4))
def test_property_plain_text_is_what_the_text_parser_gives_back(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[str]
) -> None:
    text = plain_text(*blocks)
    assert plain_text(text) == text
    if text:
        folder = tmp_path_factory.mktemp("docs")
        path = folder / "a.txt"
        path.write_bytes(text.encode())
        settings = ParseSettings.model_validate({"text": {"kind": "text", "headings": False}})
        assert settings.text.build(Resources()).parse(str(path), "a.txt").text == text
