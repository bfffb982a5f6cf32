"""The first hour of a stranger: few documents, names with spaces and umlauts, spreadsheets, odd files."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Cli = Callable[..., Any]
FACTS = {
    "Urlaub äöü.md": ("# Holiday", ["Every employee has 28 days of holiday.", "Holiday lapses on 31 March."]),
    "travel costs.md": ("# Travel", ["Trains are booked in second class.", "Receipts are due within 30 days."]),
    "security.md": ("# Security", ["A lost laptop is reported within one hour.", "Passwords have 14 characters."]),
    "canteen.md": ("# Canteen", ["The canteen opens at 11:30.", "Soup costs 2.50 euros."]),
}


def table(path: Path, delimiter: str = ",", encoding: str = "utf-8", answerable: int = 8) -> Path:
    """Two questions a document, and one that none answers."""
    rows = [["question", "answer", "doc_id", "evidence"]]
    for name, (_, sentences) in FACTS.items():
        for sentence in sentences:
            rows.append([f"Is it so, that {sentence[:-1].lower()}?", sentence, name, sentence])
    rows = [*rows[: answerable + 1], ["Who is the managing director?", "", "", ""]]
    with path.open("w", newline="", encoding=encoding) as handle:
        csv.writer(handle, delimiter=delimiter).writerows(rows)
    return path


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space in its name that holds documents; it is the working directory."""
    root = tmp_path / "Mein Wissen"
    (root / "docs").mkdir(parents=True)
    for name, (title, sentences) in FACTS.items():
        (root / "docs" / name).write_text("\n\n".join([title, *sentences]) + "\n", encoding="utf-8")
    monkeypatch.chdir(root)
    return root


WORDS = ("--set", "pipeline.retrieve.mode=bm25", "--set", "score.ragas=false")


def test_few_documents_become_a_ladder_that_can_be_scored(stranger: Path, cli: Cli) -> None:
    made = cli("init", "mein projekt", "--documents", "docs", "--questions", table(stranger / "q.csv", ";"))
    assert made.code == 0, made.err
    assert "4 documents read" in made.out and "9 questions, split by document" in made.out
    assert "1 question has no evidence: it counts as one that" in made.out
    rows = [json.loads(line) for line in (stranger / "mein projekt" / "questions.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows if row["evidence"]} == {"train", "dev", "test"}
    config = "mein projekt/ladder.yaml"
    assert f"#     ragladder climb {shlex.quote(config)}\n" in Path(config).read_text()
    suggested = made.out.splitlines()[-1].removeprefix("next: ")
    assert shlex.split(suggested) == ["ragladder", "climb", config]
    checked = cli("check", config)
    assert checked.code == 0, checked.err
    scored = cli("eval", config, *WORDS)
    assert scored.code == 0, scored.err
    assert "no value" not in scored.out and "hit@1" in scored.out
    assert "apply to none of the questions: " in scored.out


def test_documents_that_cannot_be_read_are_named_by_every_command(stranger: Path, cli: Cli) -> None:
    from pypdf import PdfWriter

    assert cli("init", "p", "--documents", "docs", "--questions", table(stranger / "q.csv")).code == 0
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(stranger / "docs" / "empty.pdf")
    (stranger / "docs" / "nothing.md").touch()
    for line in (("eval", "p/ladder.yaml", *WORDS), ("data", "audit", "p/ladder.yaml")):
        ran = cli(*line)
        assert ran.code == 0, ran.err
        assert "could not be read: empty.pdf: there is no text in it" in ran.out
        assert "could not be read: nothing.md: the file is empty" in ran.out
    started = cli("init", "p2", "--documents", "docs", "--questions", "q.csv")
    assert started.code == 0 and "4 documents read; 2 files could not be" in started.out


def test_a_spreadsheet_in_another_encoding_says_how_to_save_it(stranger: Path, cli: Cli) -> None:
    ran = cli("init", "p", "--documents", "docs", "--questions", table(stranger / "q.csv", ";", "latin-1"))
    assert ran.code == 3 and "q.csv:2: not UTF-8 text; save the file as UTF-8 (in Excel: 'CSV UTF-8')" in ran.err
    assert not Path("p").exists()


def test_a_split_by_a_poor_seed_says_which_is_nearer(stranger: Path, cli: Cli) -> None:
    assert cli("data", "import", "csv", table(stranger / "q.csv"), "made", "--documents", "docs").code == 0
    tried = {
        seed: cli("data", "split", "made/questions.jsonl", "--out", f"s{seed}.jsonl", "--seed", seed)
        for seed in range(9)
    }
    named = {seed for ran in tried.values() for seed in re.findall(r"note: --seed (\d+) comes nearer", ran.out)}
    assert len(named) == 1  # the same advice, whichever poor seed was taken
    best = cli("data", "split", "made/questions.jsonl", "--out", "best.jsonl", "--seed", named.pop())
    assert best.code == 0 and "less than half of their share" not in best.out
    assert cli("data", "audit", "best.jsonl").code == 0
    refused = [ran for ran in tried.values() if ran.code]
    assert refused and all("try another seed" in ran.err for ran in refused)
    audits = {seed: cli("data", "audit", f"s{seed}.jsonl") for seed, ran in tried.items() if not ran.code}
    assert {ran.code for ran in audits.values()} <= {0, 3}
    unfit = [ran for ran in audits.values() if ran.code]
    assert all("a split without a question that the documents answer measures nothing" in ran.out for ran in unfit)
    whole = cli("data", "audit", "made/questions.jsonl")
    assert whole.code == 0 and whole.out.splitlines()[-1] == "next: ragladder data split made/questions.jsonl"
    assert "with 9 questions in 5 groups" in whole.out


def test_a_climb_is_refused_where_dev_can_score_nothing(words: Any, cli: Cli) -> None:
    rows = words.rows()
    words.write_rows([row for row in rows if row["split"] != "dev" or not row.get("evidence")])
    for command in ("check", "climb"):
        ran = cli(command, words.config)
        assert ran.code == 3 and "split 'dev' can score neither retrieval nor answers" in ran.err
    assert not words.runs()


def test_all_questions_on_one_document_say_what_to_do(stranger: Path, cli: Cli) -> None:
    ran = cli("init", "p", "--documents", "docs", "--questions", table(stranger / "q.csv", answerable=2))
    assert ran.code == 3 and "add questions on other documents, or give the splits yourself" in ran.err


def test_the_synthetic_questions_are_suggested_as_a_value_that_reads_well(stranger: Path, cli: Cli) -> None:
    more = "## Booking\n\nBook holiday in the portal at least two weeks ahead. Your manager answers within five days.\n"
    for document in (stranger / "docs").iterdir():
        document.write_text(
            document.read_text(encoding="utf-8") + more.replace("holiday", document.stem), encoding="utf-8"
        )
    assert cli("init", "mein projekt", "--documents", "docs", "--questions", table(stranger / "q.csv")).code == 0
    for name in ("synthetic.jsonl", "odd: name #1.jsonl"):
        ran = cli("data", "synth", "mein projekt/ladder.yaml", "--out", name, "-q")
        assert ran.code == 0, ran.err
        suggested = shlex.split(ran.out.splitlines()[-1].removeprefix("next: "))
        assert suggested[:4] == ["ragladder", "data", "audit", "mein projekt/ladder.yaml"]
        value = suggested[-1].removeprefix("data.questions=")
        assert yaml.safe_load(value) == f"../{name}"
        assert cli(*suggested[1:]).code in (0, 3)


def test_a_place_that_cannot_be_written_is_one_sentence(stranger: Path, cli: Cli) -> None:
    assert cli("data", "import", "csv", table(stranger / "q.csv"), "made", "--documents", "docs").code == 0
    shutil.rmtree(".ragladder")
    Path(".ragladder").write_text("a file where the cache should be")
    audited = cli("data", "audit", "made/questions.jsonl", "--documents", "docs")
    assert audited.code == 4 and audited.err.startswith("error: ") and ".ragladder" in audited.err
    assert len(audited.err.splitlines()) == 1
    elsewhere = cli("data", "audit", "made/questions.jsonl", "--documents", "docs", "--cache-dir", "other")
    assert elsewhere.code == 0 and Path("other", "parses").is_dir()
    split = cli("data", "split", "made/questions.jsonl", "--out", "no such folder/q.jsonl", "--seed", 2)
    assert split.code == 3 and "cannot be written" in split.err


def test_the_doctor_knows_every_extra(cli: Cli) -> None:
    spec = importlib.util.find_spec("ragladder")
    assert spec is not None and spec.origin is not None
    extras = tomllib.loads((Path(spec.origin).parent / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    found = json.loads(cli("doctor", "--json").out)
    text = json.dumps(found)
    for extra in extras.keys() - {"dev", "quickstart"}:
        packages = [name.split(">")[0] for name in extras[extra]]
        assert any(f'"{package}"' in text for package in packages), extra


def test_the_tutorials_documents_start_as_the_tutorial_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    root = Path(__file__).resolve().parents[2]
    shutil.copytree(root / "examples" / "newcomer", tmp_path / "newcomer")
    monkeypatch.chdir(tmp_path / "newcomer")
    command = "init mine --documents handbook --questions questions.csv"
    block = (root / "docs" / "tutorial.md").read_text(encoding="utf-8").split(f"$ ragladder {command}\n")[1]
    made = cli(*command.split())
    assert made.code == 0, made.err
    assert made.out == block.partition("```")[0]


def test_a_workbook_and_a_passage_that_stands_nowhere_say_what_to_do(stranger: Path, cli: Cli) -> None:
    Path("q.xlsx").write_bytes(b"PK\x03\x04")
    book = cli("init", "p", "--documents", "docs", "--questions", "q.xlsx")
    assert (
        book.code == 3 and "q.xlsx: questions are read from .csv, .tsv, .jsonl; save a spreadsheet as CSV" in book.err
    )
    Path("q.csv").write_text("question,answer,evidence\nWho?,me,It stands nowhere.\n")
    lost = cli("init", "p", "--documents", "docs", "--questions", "q.csv")
    assert lost.code == 3 and "q.csv:2: no document holds the passage 'It stands nowhere.'; copy it as it" in lost.err
    assert not Path("p").exists()
