"""`ragladder data`: import, audit and split from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def beir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A BEIR folder below the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "source"
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl", [{"_id": f"d{n}", "text": f"Text {n} of the corpus."} for n in range(30)])
    write_rows(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"Which text has number {n}?"} for n in range(30)])
    rows = "".join(f"q{n}\td{n}\t1\n" for n in range(30))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_import_prints_counts_and_the_next_command(beir: Path, cli: Callable[..., Any]) -> None:
    done = cli("data", "import", "beir", beir, "made")
    assert done.code == 0
    assert "made: 30 documents, 30 questions (30 test), 0 of them unanswerable" in done.out
    assert "note: there are no reference answers" in done.out
    assert "next: ragladder data audit made/questions.jsonl --documents made/documents" in done.out
    assert len(list(Path("made/documents").iterdir())) == 30
    again = cli("data", "import", "beir", beir, "made")
    assert again.code == 3 and "is there already" in again.err


def test_import_names_bad_lines_and_leaves_nothing(beir: Path, cli: Callable[..., Any]) -> None:
    with open(beir / "corpus.jsonl", "a") as handle:
        handle.write("{broken\n")
    done = cli("data", "import", "beir", beir, "made")
    assert done.code == 3
    assert f"{beir / 'corpus.jsonl'}:31: not valid JSON" in done.err
    assert not Path("made").exists()
    assert cli("data", "import", "beir", beir, "made", "--documents", beir).code == 2
    assert cli("data", "import", "parquet", beir, "made").code == 2


def test_the_command_line_knows_the_formats_that_there_are() -> None:
    from typing import get_args

    from ragladder.eval.load import DataFormat
    from ragladder.ladder.cli.data import Format

    assert get_args(Format) == get_args(DataFormat)


def test_import_finds_passages_in_a_folder_of_documents(tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Pumps\n\nThe pump hums at night.\n")
    (tmp_path / "q.csv").write_text("question,evidence\nWhat hums?,The pump hums\n")
    done = cli(
        "data", "import", "csv", tmp_path / "q.csv", tmp_path / "made", "--documents", tmp_path / "docs", "--json"
    )
    assert json.loads(done.out) == {
        "folder": str(tmp_path / "made"),
        "documents": 1,
        "questions": 1,
        "unanswerable": 0,
        "splits": {},
        "notes": [],
    }
    row = json.loads((tmp_path / "made" / "questions.jsonl").read_text())
    assert row["evidence"] == [{"doc_id": "a.md", "text": "The pump hums"}]
    assert (tmp_path / "made" / "documents" / "a.md").is_file()


def test_audit_of_a_config_parses_its_documents(workspace: Any, cli: Callable[..., Any]) -> None:
    done = cli("data", "audit", workspace.config, "--json")
    report = json.loads(done.out)
    assert (done.code, report["fit"], report["documents"]) == (0, True, len(list(workspace.docs.iterdir())))
    rows = workspace.rows()
    rows[0]["evidence"][0]["doc_id"] = "gone.md"
    workspace.write_rows(rows)
    done = cli("data", "audit", workspace.config)
    assert done.code == 3
    assert "error    gold: 1 of " in done.out and "are of documents that are not there" in done.out
    assert "unfit: mend the 1 error above" in done.out


def test_audit_of_questions_tells_what_they_can_show(workspace: Any, cli: Callable[..., Any]) -> None:
    done = cli("data", "audit", workspace.questions, "--documents", workspace.docs, "--sd", 0.4)
    assert done.code == 0
    assert "groups (by document) you can detect" in done.out and "0.40, assumed" in done.out
    assert "fit to decide by" in done.out
    assert cli("data", "audit", workspace.questions, "--sd", 0).code == 2
    assert cli("data", "audit", workspace.questions, "--set", "seed=1").code == 2
    assert cli("data", "audit", workspace.config, "--documents", workspace.docs).code == 2
    assert cli("data", "audit", "gone.jsonl").code == 3


def test_audit_takes_the_spread_of_a_run(climbed: Any, cli: Callable[..., Any]) -> None:
    done = cli("data", "audit", climbed.questions, "--run", "latest", "--cache-dir", climbed.cache, "--json")
    power = json.loads(done.out)["power"]
    assert done.code == 0 and all(row["measured"] for row in power)
    assert len({row["sd"] for row in power}) == 1


def test_split_keeps_documents_whole_and_refuses_to_write_over(workspace: Any, cli: Callable[..., Any]) -> None:
    done = cli("data", "split", workspace.questions, "--shares", ".4,.3,.3", "--seed", 1)
    assert done.code == 0, done.err
    target = workspace.root / "questions.split.jsonl"
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in rows] == [row["id"] for row in workspace.rows()]
    places = {(row["evidence"][0]["doc_id"], row["split"]) for row in rows if row.get("evidence")}
    assert len(places) == len({doc_id for doc_id, _ in places}) and len({split for _, split in places}) == 3
    assert f"next: ragladder data audit {target}" in done.out
    refused = cli("data", "split", workspace.questions)
    assert refused.code == 3 and "is there already" in refused.err
    before = target.read_text()
    forced = cli("data", "split", workspace.questions, "--shares", ".4,.3,.3", "--seed", 1, "--force", "--json")
    assert forced.code == 0 and target.read_text() == before
    assert sum(json.loads(forced.out)["splits"].values()) == len(rows)


def test_split_names_mistakes(workspace: Any, cli: Callable[..., Any]) -> None:
    assert "expected three numbers" in cli("data", "split", workspace.questions, "--shares", "half").err
    assert "sum 1" in cli("data", "split", workspace.questions, "--shares", ".5,.5,.5").err
    assert "say which tag" in cli("data", "split", workspace.questions, "--by", "tag").err
    done = cli("data", "split", workspace.questions, "--by", "tag", "--tag", "kind")
    assert done.code == 3 and "have no tag 'kind'" in done.err


def test_a_config_can_point_at_a_data_set_of_another_format(
    workspace: Any, beir: Path, cli: Callable[..., Any]
) -> None:
    settings = workspace.settings()
    settings["data"] = {"format": "beir"}
    settings["pipeline"]["chunk"] = "document"
    settings["pipeline"]["retrieve"] = {"mode": "bm25", "top_k": 1, "fetch_k": 10}
    workspace.write(settings)
    done = cli("eval", workspace.config, "--split", "test", "--set", f"data.path={beir}", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["questions"], result["documents"]) == (30, 30)
    assert 0 < result["scores"]["ndcg@5"]["mean"] <= 1
    missing = cli("eval", workspace.config, "--split", "test")
    assert missing.code == 2 and "set data.path to the beir data set" in missing.err
