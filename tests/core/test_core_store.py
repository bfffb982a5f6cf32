"""The stage store: built once, whole or not at all, also after a kill; and the append-only caches."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import wait_for
from ragladder.core.cache import JsonCache, VectorCache, canonical_json, digest
from ragladder.core.errors import DataError, StageError
from ragladder.core.files import write_atomic
from ragladder.core.store import Stage, Store


def make(name: str, params: dict, text: str, calls: list[str], inputs: tuple[Stage, ...] = ()) -> Stage[str]:
    def build(out: Path, *loaded: str) -> None:
        calls.append(name)
        (out / "text").write_text(text + "".join(loaded))

    return Stage(name, params, build, lambda out: (out / "text").read_text(), inputs)


def test_a_stage_is_built_once_and_found_by_another_store(tmp_path: Path) -> None:
    calls: list[str] = []
    stage = make("b", {"x": 1}, "B", calls, (make("a", {}, "A", calls),))
    assert Store(tmp_path).get(stage) == "BA"
    assert Store(tmp_path).get(stage) == "BA"
    assert calls == ["a", "b"]


def test_the_key_follows_parameters_inputs_and_version() -> None:
    calls: list[str] = []
    base = make("b", {"x": 1}, "", calls, (make("a", {}, "", calls),))
    same = make("b", {"x": 1}, "other text", calls, (make("a", {}, "", calls),))
    assert base.key == same.key
    others = [
        make("b", {"x": 2}, "", calls, base.inputs),
        make("c", {"x": 1}, "", calls, base.inputs),
        make("b", {"x": 1}, "", calls, (make("a", {"y": 0}, "", calls),)),
        Stage("b", {"x": 1}, base.build, base.load, base.inputs, version=2),
    ]
    assert len({base.key, *(stage.key for stage in others)}) == 5


def test_a_failed_build_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def build(out: Path) -> None:
        tries.append(1)
        (out / "half").write_text("half")
        if len(tries) == 1:
            raise ValueError("first try fails")

    stage = Stage("s", {}, build, lambda out: "done")
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="first try"):
        store.get(stage)
    assert list((tmp_path / "stages").iterdir()) == []
    assert store.get(stage) == "done"


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StageError, match="the disk is full: stage 's'"):
        Store(tmp_path).get(Stage("s", {}, build, lambda out: None))
    assert list((tmp_path / "stages").iterdir()) == []


def test_the_record_keeps_what_building_took(tmp_path: Path) -> None:
    stage = make("a", {}, "A", [])
    store = Store(tmp_path)
    with pytest.raises(StageError, match="not finished"):
        store.record(stage)
    store.get(stage)
    record = store.record(stage)
    assert (
        record.name == "a"
        and record.seconds >= 0
        and json.loads((record.folder / "stage.json").read_text())["params"] == {}
    )


def test_a_result_that_cannot_be_read_is_said_with_its_folder(tmp_path: Path) -> None:
    stage = make("a", {}, "A", [])
    store = Store(tmp_path)
    store.get(stage)
    (store.folder(stage) / "text").unlink()
    with pytest.raises(StageError, match="delete .*a-.* and run the same command again"):
        Store(tmp_path).get(stage)
    (store.folder(stage) / "stage.json").write_text("{")
    with pytest.raises(StageError, match="stage 'a' cannot be read"):
        store.record(stage)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StageError, match="nothing can be written below"):
        Store(tmp_path / "file").get(make("a", {}, "A", []))


SLOW_BUILD = """
import sys, time
from pathlib import Path
from ragladder.core.store import Stage, Store
def build(out):
    (out / "part").write_text("x")
    print("building", flush=True)
    time.sleep({seconds})
    with open({log!r}, "a") as log: log.write("built\\n")
stage = Stage("slow", {{}}, build, lambda out: (out / "part").read_text())
print(Store(Path({root!r})).get(stage), flush=True)
"""


def start(root: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    code = SLOW_BUILD.format(root=str(root), log=str(log), seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_kill_9_in_mid_build_leaves_no_finished_looking_stage(tmp_path: Path) -> None:
    log = tmp_path / "log"
    victim = start(tmp_path / "store", log, 600)
    wait_for(lambda: any((tmp_path / "store" / "stages").glob(".slow-*/part")))
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert not list((tmp_path / "store" / "stages").glob("slow-*"))
    survivor = start(tmp_path / "store", log, 0)
    assert survivor.communicate(timeout=60)[0].split() == ["building", "x"]
    assert log.read_text() == "built\n"
    assert not list((tmp_path / "store" / "stages").glob(".slow-*"))


def test_two_processes_build_a_stage_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [start(tmp_path / "store", log, 0.5) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in both]
    assert all(output[-1] == "x" for output in outputs)
    assert log.read_text() == "built\n"


def test_a_process_that_waits_for_another_says_so(tmp_path: Path) -> None:
    first = start(tmp_path / "store", tmp_path / "log", 3)
    wait_for(lambda: any((tmp_path / "store" / "stages").glob(".slow-*/part")))
    told: list[str] = []
    stage = Stage("slow", {}, lambda out: None, lambda out: (out / "part").read_text())
    assert Store(tmp_path / "store", log=told.append).get(stage) == "x"
    first.communicate(timeout=60)
    assert told == ["slow: waiting for another process that computes it"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    turned = dict(reversed(value.items()))
    assert digest(value) == digest(turned)
    assert json.loads(canonical_json(value)) == value


def test_a_digest_refuses_nan() -> None:
    with pytest.raises(ValueError):
        digest({"x": float("nan")})


def test_caches_are_shared_between_objects_and_ignore_unfinished_files(tmp_path: Path) -> None:
    first, second = JsonCache(tmp_path), JsonCache(tmp_path)
    first.put_many({"a": {"x": 1}, "b": None})
    (tmp_path / ".half.jsonl.tmp").write_text('["c", ')
    assert second.get_many(["a", "b", "c"]) == {"a": {"x": 1}, "b": None}


def test_a_segment_that_vanishes_between_listing_and_reading_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    JsonCache(tmp_path).put_many({"a": 1})
    VectorCache(tmp_path).put(["a"], np.ones((1, 2)))
    names = os.listdir(tmp_path)
    for name in names:
        (tmp_path / name).unlink()
    monkeypatch.setattr(os, "listdir", lambda _: names)
    assert JsonCache(tmp_path).get_many(["a"]) == {}
    assert VectorCache(tmp_path).missing(["a"]) == ["a"]


def test_keys_whose_vectors_are_gone_are_missing(tmp_path: Path) -> None:
    VectorCache(tmp_path).put(["a"], np.ones((1, 2)))
    next(tmp_path.glob("*.npy")).unlink()
    assert VectorCache(tmp_path).missing(["a"]) == ["a"]


def test_a_damaged_segment_is_an_error_that_says_what_to_delete(tmp_path: Path) -> None:
    JsonCache(tmp_path).put_many({"a": 1})
    next(tmp_path.glob("*.jsonl")).write_text('["a", ')
    with pytest.raises(DataError, match="is damaged .*delete it"):
        JsonCache(tmp_path).get_many(["a"])
    VectorCache(tmp_path).put(["a", "b"], np.ones((2, 2)))
    next(tmp_path.glob("*.keys")).write_text("a")
    with pytest.raises(DataError, match="is damaged"):
        VectorCache(tmp_path).missing(["a"])


@pytest.mark.parametrize(("keys", "shape"), [(["a"], (2, 3)), (["a", "b"], (2,)), (["a\nb"], (1, 3))])
def test_vectors_that_do_not_fit_their_keys_are_refused(tmp_path: Path, keys: list[str], shape: tuple) -> None:
    with pytest.raises(ValueError):
        VectorCache(tmp_path).put(keys, np.ones(shape))
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_another_object_are_found_without_asking_first(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    VectorCache(tmp_path).put(["a"], np.ones((1, 2)))
    assert cache.get(["a"]).shape == (1, 2)
    with pytest.raises(KeyError):
        cache.get(["b"])


def test_names_that_are_not_utf8_have_a_digest_and_can_be_cached(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    assert digest(name) != digest("caf.txt")
    JsonCache(tmp_path).put_many({name: name})
    assert JsonCache(tmp_path).get_many([name]) == {name: name}


def test_vectors_come_back_in_order_and_each_missing_key_once(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    VectorCache(tmp_path).put(["a", "b", "c"], vectors)
    cache = VectorCache(tmp_path)
    assert cache.missing(["d", "a", "d"]) == ["d"]
    assert (cache.get(["c", "a", "c"]) == vectors[[2, 0, 2]]).all()
    (tmp_path / "half.npy").write_bytes(b"no keys beside it: a killed write")
    assert VectorCache(tmp_path).missing(["a"]) == []


def test_an_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"long old text")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(path.parent) == ["file"]


def test_numpys_words_for_a_full_disk_are_understood(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        raise OSError("2400 requested and 1520 written")

    with pytest.raises(StageError, match="the disk is full"):
        Store(tmp_path).get(Stage("search", {}, build, lambda out: None))
    assert not list((tmp_path / "stages").glob("search*/stage.json"))
