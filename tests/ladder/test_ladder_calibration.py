"""The calibration texts of OpenVINO's int8 are found from wherever the pipeline's config lies."""

from __future__ import annotations

from typing import Any

from ragladder.core.progress import Reporter
from ragladder.ladder.config import load_experiment
from ragladder.ladder.workbench import Workbench


def test_calibration_texts_are_named_by_their_absolute_path(words: Any) -> None:
    settings = words.settings()
    settings["pipeline"]["embed"] |= {"backend": "openvino", "dtype": "int8", "calibration": "texts.txt"}
    words.write(settings)
    (words.root / "texts.txt").write_text("one\ntwo\n")
    bench = Workbench(load_experiment(words.config), words.root, (), Reporter(quiet=True))
    found: Any = bench.absolute_paths(bench.config.pipeline).embed
    assert found.calibration == str(words.root / "texts.txt")
    assert found.identity(bench.resources) == bench.config.pipeline.embed.identity(bench.resources)
