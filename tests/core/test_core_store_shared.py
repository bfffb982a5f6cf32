"""Stages shared at a URL: found by another machine, never half, never damaged, and a clear word where it is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from processes import wait_for
from ragladder.core.errors import ConfigError, StageError, UnreachableError
from ragladder.core.shared_store import SharedStages, check_store_url
from ragladder.core.store import Stage, Store


def make(name: str, text: str, built: list[str], inputs: tuple[Stage, ...] = ()) -> Stage[str]:
    def build(out: Path, *loaded: str) -> None:
        built.append(name)
        (out / "deep").mkdir()
        (out / "empty").mkdir()
        (out / "deep" / "text").write_text(text + "".join(loaded))

    def load(out: Path) -> str:
        assert (out / "empty").is_dir()
        return (out / "deep" / "text").read_text()

    return Stage(name, {"text": text}, build, load, inputs)


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/prefix"
    (tmp_path / "share").mkdir()
    return f"file://{tmp_path / 'share'}"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


def machine(root: Path, url: str, told: list[str] | None = None) -> Store:
    """A store with a folder of its own, as on another machine."""
    return Store(root, log=None if told is None else told.append, shared=SharedStages(url))


def uploaded(share: Path, stage: Stage) -> Path:
    """The folder of a stage's files."""
    listing = json.loads((share / "stages" / f"{stage.folder_name}.json").read_text())
    return share / "stages" / stage.folder_name / listing["upload"]


def test_what_one_machine_finished_another_fetches(tmp_path: Path, url: str) -> None:
    built: list[str] = []
    told: list[str] = []
    stage = make("b", "B", built, (make("a", "A", built),))
    first, second = machine(tmp_path / "one", url), machine(tmp_path / "two", url, told)
    assert not first.has(stage)
    assert first.get(stage) == "BA"
    assert second.has(stage)
    assert second.get(stage) == "BA"
    assert built == ["a", "b"]
    assert told == [f"b: fetching from {url}"]
    assert not second.folder(stage.inputs[0]).exists(), "an input that nobody reads was fetched"
    assert second.record(stage).seconds == first.record(stage).seconds
    assert second.record(stage.inputs[0]).seconds == first.record(stage.inputs[0]).seconds


def test_a_finished_stage_is_uploaded_once(tmp_path: Path, share: Path) -> None:
    stage = make("a", "A", [])
    url = f"file://{share}"
    Store(tmp_path / "one").get(stage)
    told: list[str] = []
    machine(tmp_path / "one", url, told).get(stage)
    assert told == [f"a: uploaded to {url}"], "a stage from before the URL was set is shared too"
    before = sorted(share.rglob("*"))
    machine(tmp_path / "one", url, told).get(stage)
    machine(tmp_path / "two", url).get(stage)
    assert len(told) == 1 and sorted(share.rglob("*")) == before


def test_a_failed_build_uploads_nothing(tmp_path: Path, share: Path) -> None:
    def build(out: Path) -> None:
        (out / "half").write_text("half")
        raise ValueError("fails")

    with pytest.raises(ValueError, match="fails"):
        machine(tmp_path / "one", f"file://{share}").get(Stage("s", {}, build, lambda out: None))
    assert not list(share.rglob("*"))


@pytest.mark.parametrize("harm", ["size", "contents", "missing", "listing", "escape"])
def test_a_damaged_stage_is_never_used_and_is_replaced(tmp_path: Path, share: Path, harm: str) -> None:
    url, built = f"file://{share}", []
    stage = make("a", "text", built)
    machine(tmp_path / "one", url).get(stage)
    file = uploaded(share, stage) / "deep" / "text"
    listing = share / "stages" / f"{stage.folder_name}.json"
    if harm == "size":
        file.write_text("tex")
    elif harm == "contents":
        file.write_text("TEXT")
    elif harm == "missing":
        file.unlink()
    elif harm == "listing":
        listing.write_text(listing.read_text()[:-20])
    else:
        listing.write_text(listing.read_text().replace("deep/text", "../../text"))
    told: list[str] = []
    assert machine(tmp_path / "two", url, told).get(stage) == "text"
    assert built == ["a", "a"]
    assert told[-2:] == ["a: computing", f"a: uploaded to {url}"]
    assert harm in ("listing", "escape") or "damaged at" in told[1]
    assert not list((tmp_path / "two" / "stages").glob(".*")) and not (tmp_path / "two" / "text").exists()
    assert machine(tmp_path / "three", url).get(stage) == "text"
    assert built == ["a", "a"]


def test_a_stage_whose_inputs_are_gone_from_the_url_is_computed(tmp_path: Path, share: Path) -> None:
    url, built = f"file://{share}", []
    stage = make("b", "B", built, (make("a", "A", built),))
    machine(tmp_path / "one", url).get(stage)
    (share / "stages" / f"{stage.inputs[0].folder_name}.json").unlink()
    second = machine(tmp_path / "two", url)
    assert not second.has(stage)
    assert second.get(stage) == "BA"
    assert built == ["a", "b", "a", "b"]
    assert second.record(stage.inputs[0]).name == "a"


def test_a_folder_that_is_not_mounted_stops(tmp_path: Path) -> None:
    store = machine(tmp_path / "one", f"file://{tmp_path}/nowhere")
    with pytest.raises(UnreachableError, match="no folder .*nowhere; mount the share"):
        store.get(make("a", "A", []))
    assert not (tmp_path / "nowhere").exists()


def test_a_place_that_fails_stops_with_its_reason(tmp_path: Path, share: Path) -> None:
    stage = make("a", "A", [])
    (share / "stages").mkdir()
    (share / "stages" / stage.folder_name).write_text("a file in place of a folder")
    with pytest.raises(UnreachableError, match=r"cannot be written \(.*Error.*what is finished is kept here"):
        machine(tmp_path / "one", f"file://{share}").get(stage)
    (share / "stages" / stage.folder_name).unlink()
    (share / "stages" / f"{stage.folder_name}.json").mkdir()
    with pytest.raises(UnreachableError, match="cannot be read .*IsADirectoryError"):
        machine(tmp_path / "one", f"file://{share}").get(stage)


def test_a_place_that_vanishes_stops_and_the_stage_is_uploaded_by_the_next_run(tmp_path: Path, share: Path) -> None:
    built: list[str] = []

    def build(out: Path) -> None:
        built.append("a")
        (out / "text").write_text("A")
        share.rmdir()

    stage = Stage("a", {}, build, lambda out: (out / "text").read_text())
    with pytest.raises(UnreachableError, match="no folder .*share; mount"):
        machine(tmp_path / "one", f"file://{share}").get(stage)
    assert not share.exists()
    share.mkdir()
    assert machine(tmp_path / "one", f"file://{share}").get(stage) == "A"
    assert machine(tmp_path / "two", f"file://{share}").get(stage) == "A"
    assert built == ["a"]


def test_a_protocol_that_is_unknown_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Protocol not known: nosuch"):
        machine(tmp_path, "nosuch://bucket/x").get(make("a", "A", []))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("bucket/prefix", "expected a URL"),
        ("s3://", "expected a URL"),
        ("simplecache::s3://bucket/x", "expected a URL"),
        ("file://relative/path", "absolute path"),
        ("sftp://me:hunter2@host/x", "password"),
        ("https://host/x?sig=hunter2", "query"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        check_store_url(url)
    assert "hunter2" not in str(caught.value)


UPLOAD = """
import time
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from ragladder.core.shared_store import SharedStages
from ragladder.core.store import Stage, Store

def build(out):
    for name in "abc":
        (out / name).write_text(name * 1000)

def half(self, source, target, callback=None, **_):
    if source.endswith("/b"):
        Path(target).write_text("b" * 500)
        print("half", flush=True)
        time.sleep(600)
    Path(target).write_bytes(Path(source).read_bytes())

if {slow}:
    LocalFileSystem.put_file = half
stage = Stage("slow", {{}}, build, lambda out: "".join((out / name).read_text() for name in "abc"))
print(len(Store(Path({root!r}), shared=SharedStages({url!r})).get(stage)), flush=True)
"""


def start(root: Path, share: Path, slow: bool) -> subprocess.Popen[str]:
    code = UPLOAD.format(root=str(root), url=f"file://{share}", slow=slow)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_kill_9_in_mid_upload_shows_nothing_and_is_made_good(tmp_path: Path, share: Path) -> None:
    victim = start(tmp_path / "one", share, slow=True)
    wait_for(lambda: any(path.stat().st_size == 500 for path in (share / "stages").rglob("b")))
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    built: list[str] = []

    def build(out: Path) -> None:
        built.append("here")
        for name in "abc":
            (out / name).write_text(name * 1000)

    stage = Stage("slow", {}, build, lambda out: "".join((out / name).read_text() for name in "abc"))
    assert not machine(tmp_path / "two", f"file://{share}").has(stage)
    assert start(tmp_path / "one", share, slow=False).communicate(timeout=60)[0].split() == ["3000"]
    assert len(machine(tmp_path / "two", f"file://{share}").get(stage)) == 3000
    assert built == []


def test_two_machines_that_finish_one_stage_do_not_mix_their_files(tmp_path: Path, share: Path) -> None:
    stage = make("a", "A", [])
    one, two = SharedStages(f"file://{share}"), SharedStages(f"file://{share}")
    for root, shared in (("one", one), ("two", two)):
        store = Store(tmp_path / root)
        store.get(stage)
        # before either has a listing both would upload
        (share / "stages" / f"{stage.folder_name}.json").unlink(missing_ok=True)
        assert shared.push(stage.folder_name, stage.key, 1.0, store.folder(stage))
    assert len(list((share / "stages" / stage.folder_name).iterdir())) == 2
    assert machine(tmp_path / "three", f"file://{share}").get(stage) == "A"


def test_a_result_that_cannot_be_read_is_not_uploaded(tmp_path: Path, share: Path) -> None:
    stage = make("a", "A", [])
    store = Store(tmp_path / "one")
    store.get(stage)
    (store.folder(stage) / "deep" / "text").unlink()
    with pytest.raises(StageError, match="cannot be read"):
        machine(tmp_path / "one", f"file://{share}").get(stage)
    assert not list(share.rglob("*.json"))
