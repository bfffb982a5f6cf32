"""The JSON schema in the repository is that of the records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import yaml
from ragladder.core.config import validate
from ragladder.ladder.config import ExperimentConfig
from ragladder.ladder.records import SCHEMA_VERSION, LadderRecord
from ragladder.ladder.report import build_report
from ragladder.ladder.schema import SCHEMA_FILE, ladder_schema

OUTPUT = SCHEMA_FILE.parents[1] / "examples" / "newcomer" / "output"


def test_the_schema_in_the_repository_is_up_to_date() -> None:
    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert written == ladder_schema(), "run: python -m ragladder.ladder.schema"


def test_every_field_is_described_and_required() -> None:
    schema = ladder_schema()
    parts = {"LadderRecord": schema, **schema["$defs"]}
    bare = [
        f"{part}.{name}"
        for part, s in parts.items()
        for name, field in s.get("properties", {}).items()
        if "description" not in field
    ]
    assert bare == []
    optional = {"schema_version", "judges", "metrics"}  # the last two are not in runs of older versions
    assert set(schema["required"]) >= set(LadderRecord.model_fields) - optional
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_the_example_of_a_real_output_is_what_this_version_writes(tmp_path: Path) -> None:
    written = json.loads((OUTPUT / "ladder.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, ladder_schema())
    record = LadderRecord.model_validate(written)
    terminal = " ".join((OUTPUT / "terminal.txt").read_text(encoding="utf-8").split())
    assert record.summary in terminal and record.run_id in terminal
    final = validate(yaml.safe_load((OUTPUT / "best.yaml").read_text(encoding="utf-8")), ExperimentConfig, "best.yaml")
    assert final.pipeline.model_dump(mode="json") == record.final.pipeline
    shutil.copytree(OUTPUT, tmp_path / "run")
    page = build_report(tmp_path / "run").read_text(encoding="utf-8")
    assert record.summary in page
    assert (
        json.loads((tmp_path / "run" / "report.json").read_text()).keys()
        == json.loads((OUTPUT / "report.json").read_text()).keys()
    )
