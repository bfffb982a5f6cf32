"""The embedder behind an OpenAI-compatible endpoint, against a scripted server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from ragladder.core.cache import VectorCache
from ragladder.core.components import Resources
from ragladder.core.errors import BudgetError, ConfigError, EndpointError, StageError
from ragladder.core.types import Embedder
from ragladder.embeddings.encode import CachedEmbedder, EmbedSection, EndpointEmbedder, EndpointSettings

KEY = "sk-top-secret-4711"
Reply = tuple[int, Any, dict[str, str]]
Script = Callable[[dict[str, Any], int], Reply]


def vector(text: str, dimension: int = 3) -> list[float]:
    return [float(len(text)), float(sum(map(ord, text)) % 101), *([1.0] * (dimension - 2))]


def good(body: dict[str, Any], call: int) -> Reply:
    """As OpenAI's API answers, but in reverse order: `index` tells which is which."""
    rows = [{"index": n, "embedding": vector(t, body.get("dimensions", 3))} for n, t in enumerate(body["input"])]
    return 200, {"data": rows[::-1], "usage": {"prompt_tokens": 10 * len(rows)}}, {}


class Served:
    """What the test double has seen, and where it listens."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []


@contextmanager
def server(script: Script) -> Iterator[Served]:
    """Test double: an embeddings server that answers by script; it knows no model."""
    record, lock = Served(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*script({}, 0))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                record.seen.append(body)
                record.keys.append(self.headers.get("Authorization"))
                call = len(record.seen)
            self._send(*(script(body, call) if self.path == "/v1/embeddings" else (404, {}, {})))

        def _send(self, code: int, answer: Any, headers: dict[str, str]) -> None:
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    record.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    try:
        yield record
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def endpoint(url: str, **values: Any) -> EndpointSettings:
    fast = {"backoff": 0.01, "timeout": 5.0, "retries": 2, "concurrency": 1}
    return EndpointSettings.model_validate({"base_url": url, "model": "tiny", **fast, **values})


def built(url: str, **values: Any) -> EndpointEmbedder:
    return endpoint(url, api_key_env="MY_KEY", **values).build(Resources(env={"MY_KEY": KEY}))


def test_vectors_are_unit_in_order_batched_and_prefixed() -> None:
    with server(good) as one:
        embedder = built(one.url, batch_size=2, document_prefix="passage: ", max_characters=14)
        assert embedder.source.startswith("tiny at http")
        vectors = embedder.encode(["a", "bb", "a long text that is cut"], "document")
        assert isinstance(embedder, Embedder) and embedder.dimension == 3
        empty = embedder.encode([], "query")
        embedder.encode([""], "query")
    wanted = np.array([vector(t) for t in ("passage: a", "passage: bb", "passage: a lon")])
    np.testing.assert_allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-6)
    assert vectors.dtype == np.float32 and empty.shape == (0, 3)
    assert [len(body["input"]) for body in one.seen] == [2, 1, 1]
    assert one.seen[2]["input"] == [" "], "servers refuse an empty text"
    assert all(set(body) == {"model", "input"} for body in one.seen)
    assert one.keys == [f"Bearer {KEY}"] * 3
    assert embedder.tokens == 40


def test_dimensions_are_asked_for_and_cut() -> None:
    with server(good) as one:
        embedder = built(one.url, dimensions=6, truncate_dim=4, extra_body={"input_type": "x"})
        assert embedder.dimension == 4 and not one.seen
        assert embedder.encode(["abc"], "query").shape == (1, 4)
        assert one.seen[0]["dimensions"] == 6 and one.seen[0]["input_type"] == "x"
        with pytest.raises(ConfigError, match="truncate_dim is 4, but tiny at .* gives 3"):
            built(one.url, truncate_dim=4).encode(["abc"], "query")


def test_a_model_of_another_dimension_is_an_error(tmp_path: Path) -> None:
    def grows(body: dict[str, Any], call: int) -> Reply:
        return good({**body, "dimensions": 3 + (call > 1)}, call)

    with server(grows) as one:
        embedder = built(one.url, batch_size=1)
        with pytest.raises(EndpointError, match="gave 4 dimensions; 3 were given before"):
            embedder.encode(["a", "b"], "query")
        with pytest.raises(EndpointError, match="gave 4 dimensions; 8 were asked for"):
            built(one.url, dimensions=8).encode(["a"], "query")

    def cached(dimension: int) -> CachedEmbedder:
        embedder = built(two.url, extra_body={"size": dimension})
        return CachedEmbedder(embedder, {"model": "tiny"}, VectorCache(tmp_path))

    with server(lambda body, call: good({**body, "dimensions": body["size"]}, call)) as two:
        cached(3).encode(["a"], "query")
        with pytest.raises(StageError, match="different dimensions: another model answers under its name"):
            cached(4).encode(["a", "b"], "query")


def test_429_and_500_are_tried_again_as_the_server_asks() -> None:
    def busy(body: dict[str, Any], call: int) -> Reply:
        if call == 1:
            return 429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}
        return (500, "broken", {}) if call == 2 else good(body, call)

    with server(busy) as one:
        assert built(one.url).encode(["a"], "query").shape == (1, 3)
        assert len(one.seen) == 3
    with server(lambda body, call: (429, {"error": "slow down"}, {"Retry-After": "3600"})) as one:
        with pytest.raises(EndpointError, match="answered 429 .*slow down.* asks to wait 3600 s, above max_wait"):
            built(one.url).encode(["a"], "query")
        assert len(one.seen) == 1
    again = pytest.raises(EndpointError, match=r"answered 429.*\(3 tries\).*run the same command again")
    with server(lambda body, call: (429, {"error": "slow down"}, {})) as one, again:
        built(one.url).encode(["a"], "query")


@pytest.mark.parametrize(("code", "hint"), [(401, "check api_key_env"), (404, "check base_url"), (400, "check model")])
def test_what_will_not_change_is_not_tried_again_and_shows_no_key(code: int, hint: str) -> None:
    with server(lambda body, call: (code, {"error": {"message": f"wrong key {KEY}"}}, {})) as one:
        with pytest.raises(EndpointError, match=rf"answered {code} .*{hint}") as caught:
            built(one.url).encode(["a"], "query")
        assert len(one.seen) == 1
    assert KEY not in str(caught.value) and "***" in str(caught.value)


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match=rf"127\.0\.0\.1:{port}/v1/embeddings: no connection.*start the server"):
        built(f"http://127.0.0.1:{port}/v1", retries=0).encode(["a"], "query")


def test_a_probe_encodes_nothing() -> None:
    with server(lambda body, call: (200, {"data": []}, {})) as one:
        assert built(one.url).probe().ok and not one.seen
    with server(lambda body, call: (401, {}, {})) as one:
        probe = built(one.url).probe()
    assert not probe.ok and "check api_key_env" in probe.detail
    down = built(one.url).probe()
    assert not down.ok and "no connection" in down.detail


def test_a_probe_compares_the_name_with_the_list() -> None:
    def lists(*names: str) -> Script:
        return lambda body, call: (200, {"data": [{"id": name, "aliases": ["short"]} for name in names]}, {})

    with server(lists("other")) as one:
        assert "lists no model 'gone' (it lists other, short)" in built(one.url, model="gone").probe().detail
        assert built(one.url, model="short").probe().ok and built(one.url, model="other").probe().ok
    with server(lambda body, call: (404, {}, {})) as one:
        probe = built(one.url).probe()
    assert probe.ok and "404: it lists no models" in probe.detail


def test_vectors_without_numbers_are_an_error() -> None:
    def empty(body: dict[str, Any], call: int) -> Reply:
        return 200, {"data": [{"index": 0, "embedding": [None, None]}]}, {}

    with server(empty) as one, pytest.raises(EndpointError, match="null or NaN"):
        built(one.url).encode(["a"], "query")


def test_a_slow_server_is_told_from_one_that_is_gone() -> None:
    def slow(body: dict[str, Any], call: int) -> Reply:
        threading.Event().wait(0.3)
        return good(body, call)

    with server(slow) as one, pytest.raises(EndpointError, match="raise timeout, or lower batch_size"):
        built(one.url, timeout=0.05, retries=0).encode(["a"], "query")


def test_replies_that_are_short_or_odd_are_errors() -> None:
    def short(body: dict[str, Any], call: int) -> Reply:
        code, answer, headers = good(body, call)
        return code, {"data": answer["data"][1:]}, headers

    with server(short) as one, pytest.raises(EndpointError, match="gave 1 vectors for 2 texts"):
        built(one.url).encode(["a", "b"], "query")
    odd = pytest.raises(EndpointError, match=r"not the JSON of embeddings \(3 tries\)")
    with server(lambda body, call: (200, "<html>", {})) as one, odd:
        built(one.url).encode(["a"], "query")
    unlike = {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]}
    with server(lambda body, call: (200, unlike, {})) as one, pytest.raises(EndpointError, match="unlike or no"):
        built(one.url).encode(["a", "b"], "query")
    null = {"data": [{"index": 0, "embedding": [float("nan"), 1.0]}]}
    with server(lambda body, call: (200, null, {})) as one, pytest.raises(StageError, match="NaN"):
        built(one.url).encode(["a"], "query")


def test_what_was_encoded_before_an_error_is_kept(tmp_path: Path) -> None:
    texts = [f"{n:04d}" for n in range(600)]

    def breaks(body: dict[str, Any], call: int) -> Reply:
        return (401, {}, {}) if call > 5 else good(body, call)

    with server(breaks) as one:
        settings = endpoint(one.url)
        embedder = CachedEmbedder(settings.build(Resources()), settings.identity(Resources()), VectorCache(tmp_path))
        with pytest.raises(EndpointError):
            embedder.encode(texts, "document")
    assert embedder.missing(texts, "document") == 600 - 256


def test_a_budget_is_a_hard_stop() -> None:
    with server(good) as one:
        embedder = built(one.url, batch_size=1, budget={"tokens": 15})
        with pytest.raises(BudgetError, match="budget.tokens is used up: 20 of 15"):
            embedder.encode(["a", "b", "c"], "query")
        assert len(one.seen) == 2
        money = built(one.url, batch_size=1, budget={"money": 1e-6}, price_prompt=1.0)
        with pytest.raises(BudgetError, match="budget.money"):
            money.encode(["a", "b"], "query")


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    section = TypeAdapter(EmbedSection)
    values = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    assert isinstance(section.validate_python(values), EndpointSettings)
    for wrong, said in (
        ({"base_url": "localhost"}, "base_url must start with http"),
        ({"base_url": "http://me:pw@host/v1"}, "holds a user name"),
        ({"budget": {"money": 1}}, "needs price_prompt"),
        ({"dimensions": 4, "truncate_dim": 8}, "above dimensions"),
        ({"extra_body": {"input": "x"}}, "must not set input"),
        ({"batch": 4}, "batch"),
    ):
        with pytest.raises(ValidationError, match=said):
            section.validate_python({**values, **wrong})
    with pytest.raises(ConfigError, match=r"embed\.api_key_env: .*MY_KEY is not set"):
        endpoint("http://localhost:1/v1", api_key_env="MY_KEY").build(Resources(env={}))


def test_identity_is_what_changes_vectors_and_holds_no_key() -> None:
    resources = Resources(env={"MY_KEY": KEY})
    one = endpoint("http://h/v1", api_key_env="MY_KEY").identity(resources)
    assert one == endpoint("http://h/v1", batch_size=7, retries=0, price_prompt=3).identity(resources)
    assert one != endpoint("http://h/v1", document_prefix="p ").identity(resources)
    assert KEY not in str(one) and "MY_KEY" not in str(one)
