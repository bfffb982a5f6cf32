"""The JSON schema of `ladder.json`, kept in the repository: `python -m ragladder.ladder.schema` writes it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .records import LadderRecord

__all__ = ["SCHEMA_FILE", "ladder_schema", "write_schema"]

SCHEMA_FILE = Path(__file__).resolve().parent.parent / "configs" / "ladder.schema.json"


def ladder_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `ladder.json`."""
    schema = LadderRecord.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ragladder ladder.json", **schema}


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Writes the schema."""
    path.write_text(json.dumps(ladder_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
    print(SCHEMA_FILE)
