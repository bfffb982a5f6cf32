"""Progress lines: where they go, and what they say."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from ragladder.core.progress import Reporter, Task


def test_lines_go_to_standard_error_and_the_log_and_details_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter(log=tmp_path / "log")
    reporter.line("shown")
    reporter.detail("kept")
    assert capsys.readouterr() == ("", "shown\n")
    assert [line.split(" ", 1)[1] for line in (tmp_path / "log").read_text().splitlines()] == ["shown", "kept"]


def test_quiet_prints_nothing_and_still_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True, interval=0, log=tmp_path / "log")
    with reporter.task("encode", 2, "texts") as task:
        task.advance(2)
    reporter.line("logged")
    assert capsys.readouterr() == ("", "")
    assert "logged" in (tmp_path / "log").read_text()


def test_verbose_prints_details(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(verbose=True).detail("more")
    assert capsys.readouterr().err == "more\n"


def test_a_long_task_prints_count_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(interval=0).task("encode", 4, "texts") as task:
        task.advance()
        task.advance(3)
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"encode: 1/4 texts, \S+/s, about \d+ s left", first)
    assert re.fullmatch(r"encode: 4/4 texts, \S+/s", last)


@pytest.mark.parametrize(("seconds", "left"), [(10, r"9\d s"), (60, "9 min"), (3600, "9 h 0 min")])
def test_time_left_is_in_the_unit_that_one_would_say(seconds: int, left: str) -> None:
    task = Task("train", 10, "steps", Reporter(quiet=True), done=1, started=time.monotonic() - seconds)
    assert re.search(f"about {left} left$", task.state())
    fast = Task("encode", 90_000, "texts", Reporter(quiet=True), done=50_000, started=time.monotonic() - 20)
    assert re.search(r", 2,[45]\d\d/s,", fast.state())


def test_a_task_of_unknown_length_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(interval=0).task("train", None, "steps") as task:
        task.advance()
    assert re.fullmatch(r"train: 1 steps, \S+/s\n", capsys.readouterr().err)


def test_tasks_inside_one_another_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    reporter = Reporter()
    with reporter.task("outer", 2) as outer, reporter.task("inner", 2) as inner:
        inner.advance(2)
        outer.advance()
    assert (outer.done, inner.done) == (1, 2)
