"""The JSON schema in the repository is that of the records."""

from __future__ import annotations

import json

from ragladder.ladder.records import SCHEMA_VERSION, LadderRecord
from ragladder.ladder.schema import SCHEMA_FILE, ladder_schema


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
