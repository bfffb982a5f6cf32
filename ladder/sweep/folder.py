"""The folder of a sweep: found again by the settings and the data, so that the same command goes on."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...core.cache import digest
from ...core.config import to_yaml
from ...core.files import write_atomic
from ..environment import environment
from ..run_files import best_yaml
from ..runs import read_state
from ..workbench import Workbench
from .settings import SweepSettings
from .space import Configuration
from .words import point_text

__all__ = ["SweepFolder"]

_HEADS = {
    "dev": (
        "# The best of a sweep on dev: {point}\n"
        "# Score it on dev: ragladder eval best.yaml; climb from it (test untouched): ragladder climb best.yaml\n"
    ),
    "dev+test": (
        "# The best of a sweep on dev and test: {point}\n"
        "# Test helped to choose it: what a climb from here says of test flatters, until there are new questions.\n"
    ),
}


class SweepFolder:
    """Where one sweep writes.

    Attributes:
        path: The folder; it need not be there yet.
        sha: Over the settings and data that change results.
    """

    def __init__(self, bench: Workbench, settings: SweepSettings) -> None:
        """Finds the folder of an earlier command on the same settings and data, or names a new one."""
        self._bench = bench
        self._settings = settings
        self.sha = _digest(bench, settings)
        self.path = self._find()

    @property
    def created(self) -> str:
        """When its first command began; ISO 8601, UTC."""
        return self._state().get("created") or datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def seconds(self) -> float:
        """Wall-clock time of the commands so far."""
        return float(self._state().get("seconds", 0.0))

    def begin(self) -> None:
        """Makes the folder's first files, where it is new, and sends the log there."""
        new = not (self.path / "run.json").is_file()
        if new:
            self.save("running", 0.0)
            write_atomic(self.path / "config.yaml", to_yaml(self._bench.config).encode())
            write_atomic(self.path / "env.json", json.dumps(environment(self._bench), indent=1).encode())
        self._bench.reporter.log = self.path / "run.log"
        self._bench.reporter.line(f"{'sweep folder:' if new else 'resuming'} {self.path}")

    def save(self, status: str, seconds: float) -> None:
        """Writes run.json."""
        state = {
            "status": status,
            "name": self._bench.config.name,
            "created": self.created,
            "config_sha256": self.sha,
            "seconds": round(seconds, 1),
        }
        write_atomic(self.path / "run.json", json.dumps(state, indent=1).encode())

    def write_best(self, winner: Configuration) -> Path:
        """Writes the winner as a config that runs, and says where."""
        head = _HEADS[self._settings.questions].format(point=point_text(winner.point))
        config = self._bench.config.model_copy(update={"pipeline": winner.pipeline, "sweep": None})
        write_atomic(self.path / "best.yaml", best_yaml(self._bench, config, head).encode())
        return self.path / "best.yaml"

    def _state(self) -> dict[str, Any]:
        return read_state(self.path)

    def _find(self) -> Path:
        root = self._bench.resources.cache_dir / "sweeps"
        for folder in sorted(root.glob("*"), reverse=True) if root.is_dir() else []:
            if read_state(folder).get("config_sha256") == self.sha:
                return folder
        now = datetime.now(UTC)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self._bench.config.name).strip("-") or "sweep"
        return root / f"{now:%Y%m%d-%H%M%S}-{name}-{self.sha[:6]}"


def _digest(bench: Workbench, settings: SweepSettings) -> str:
    """Over what changes results: limits and where it runs are left out."""
    left_out = {"runtime": True, "name": True, "rungs": True, "gate": True, "published": True, "sweep": True}
    content = bench.config.model_dump(mode="json", exclude=left_out)  # type: ignore[arg-type]
    ours = settings.model_dump(mode="json", exclude={"budget", "trial_timeout_s"})
    files = bench.corpus_identity(bench.config.pipeline)["files"]
    asked = [[q.id, q.text, q.answer, [[e.doc_id, e.text] for e in q.evidence], q.split] for q in bench.questions]
    return digest([content, ours, digest(files), digest(asked)])
