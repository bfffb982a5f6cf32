"""The process that parses: one JSON request a line in, one JSON answer a line out. Started by `_pool`."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from ...core.components import Resources
from ...core.errors import DataError
from ._base import document_to_json
from ._saved import save_documents

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Answers requests until the input ends.

    Args:
        arguments: Device, base folder and cache folder of the resources.
    """
    # Libraries print now and then; the real standard output is for answers alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    device, base_dir, cache_dir = arguments
    resources = Resources(device=device, base_dir=Path(base_dir), cache_dir=Path(cache_dir))
    parsers: dict[str, Any] = {}
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        key = json.dumps([request["module"], request["settings"], request["values"]])
        answers.write(json.dumps(_answer(request, key, parsers, resources)) + "\n")
        answers.flush()


def _answer(request: dict[str, Any], key: str, parsers: dict[str, Any], resources: Resources) -> dict[str, Any]:
    try:
        if key not in parsers:
            model = getattr(importlib.import_module(request["module"]), request["settings"])
            parsers[key] = model.model_validate(request["values"]).build(resources)
        if request["out"]:
            save_documents(Path(request["out"]), parsers[key].parse_many(request["path"], request["doc_id"]))
            return {"saved": request["out"]}
        return {"document": document_to_json(parsers[key].parse(request["path"], request["doc_id"]))}
    except DataError as error:
        return {"failure": str(error)}
    except Exception as error:  # a library's own error is this file's failure, whatever it is
        return {"failure": f"the parser failed on it: {type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    main(sys.argv[1:])
