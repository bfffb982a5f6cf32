"""Rerankers that ask somebody: an LLM that sorts a list, and endpoints."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, EndpointError, StageError
from ragladder.core.types import Chunk, Hit, Reranker
from ragladder.rag.rerank import EndpointRerankerSettings, ListwiseSettings, Reranked, RerankerSection, rerank_with
from ragladder.rag.rerank.listwise import ListwiseReranker

LLM = {"kind": "openai", "base_url": "http://localhost:9/v1", "model": "tiny"}


def hits(*values: int) -> list[Hit]:
    """Passages that say how good they are, in the order given."""
    return [Hit(Chunk("d", n, n + 1, f"worth {value}.", "R", "Title"), 1.0 - n / 100) for n, value in enumerate(values)]


def worth(row: Sequence[Hit]) -> list[int]:
    return [int(hit.chunk.text.split()[1].rstrip(".")) for hit in row]


class Sorter:
    """Test double: a chat model that ranks by the passages' own words, unless its script says otherwise."""

    def __init__(self, script: Callable[[str, str], str | Completion] = lambda question, right: right) -> None:
        self.script = script
        self.seen: list[ChatRequest] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.seen += requests
        return [self._one(request) for request in requests]

    def _one(self, request: ChatRequest) -> Completion:
        text = request.messages[0].content
        values = {int(n): int(value) for n, value in re.findall(r"\[(\d+)\][^\[]*?worth (\d+)", text)}
        right = json.dumps({"ranking": sorted(values, key=lambda n: -values[n])})
        question = re.findall(r"Question: (.*)", text)[0]
        made = self.script(question, right)
        if isinstance(made, Completion):
            return made
        return Completion(made, prompt_tokens=100, completion_tokens=10, seconds=0.25)

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


def listwise(chat: Sorter, **values: Any) -> ListwiseReranker:
    return ListwiseReranker(chat, ListwiseSettings.model_validate({"llm": LLM, **values}))


def test_one_window_is_sorted() -> None:
    chat = Sorter()
    reranker = listwise(chat, depth=5)
    assert isinstance(reranker, Reranker)
    [row] = reranker.rerank(["which?"], [hits(3, 9, 1, 7, 5, 99)])
    assert worth(row) == [9, 7, 5, 3, 1], "deeper hits are left out"
    assert [hit.score for hit in row] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    [request] = chat.seen
    assert request.json_schema is not None
    assert request.json_schema["properties"]["ranking"]["items"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert "Title\nworth 3." in request.messages[0].content


def test_windows_move_up_and_carry_the_best() -> None:
    chat = Sorter()
    found = listwise(chat, depth=10, window=4, step=2).attempt(["which?"], [hits(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)])
    assert worth(found.hits[0])[:2] == [10, 9], "as many as a step reach the top from the very bottom"
    assert sorted(worth(found.hits[0])) == list(range(1, 11))
    assert len(chat.seen) == 4, "bottoms at 10, 8, 6 and 4"
    assert (found.prompt_tokens, found.completion_tokens, found.seconds) == (400, 40, 1.0)


def test_questions_of_different_lengths() -> None:
    chat = Sorter()
    rows = listwise(chat, depth=6, window=4, step=2).rerank(
        ["a", "b", "c", "d"], [hits(1, 2), [], hits(5), hits(*range(6))]
    )
    assert [worth(row) for row in rows[:3]] == [[2, 1], [], [5]]
    assert worth(rows[3])[:2] == [5, 4]
    assert len(chat.seen) == 1 + 2, "nothing is asked where there is nothing to sort"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("the second is best", "not JSON"),
        ('{"order": [1, 2]}', "no list 'ranking'"),
        ('{"ranking": []}', "no list 'ranking'"),
        ('{"ranking": ["1", "2"]}', "no list 'ranking'"),
        ('{"ranking": [1, 2, 3, 9]}', "names passage 9, and there are 3"),
        ('{"ranking": [0, 1, 2]}', "names passage 0"),
        ('{"ranking": [true, 1]}', "no list 'ranking'"),
        ("", "not JSON"),
    ],
)
def test_a_reply_without_a_ranking_is_a_failure_and_not_the_old_order(reply: str, why: str) -> None:
    chat = Sorter(lambda question, right: reply if question == "bad" else right)
    found = listwise(chat).attempt(["bad", "good"], [hits(1, 2, 3), hits(1, 2, 3)])
    assert found.hits[0] == [] and worth(found.hits[1]) == [3, 2, 1]
    assert list(found.failures) == [0] and found.failures[0].status == "parse_error"
    assert why in found.failures[0].detail
    with pytest.raises(StageError, match="failed for 1 of 2 questions, the first with parse_error: listwise"):
        listwise(chat).rerank(["bad", "good"], [hits(1, 2, 3), hits(1, 2, 3)])


def test_a_question_that_failed_is_not_asked_on() -> None:
    chat = Sorter(lambda question, right: Completion("", "timeout", "too slow", prompt_tokens=5))
    found = listwise(chat, depth=10, window=4, step=2).attempt(["x"], [hits(*range(10))])
    assert len(chat.seen) == 1
    assert (found.failures[0].status, found.failures[0].detail) == ("timeout", "listwise reranking: too slow")
    assert found.prompt_tokens == 5


def test_what_a_reply_leaves_out_stands_below_and_twice_counts_once() -> None:
    chat = Sorter(lambda question, right: '```json\n{"ranking": [3, 3, 1]}\n```')
    assert worth(listwise(chat).rerank(["x"], [hits(10, 20, 30, 40)])[0]) == [30, 10, 20, 40]


def test_listwise_settings() -> None:
    with pytest.raises(ValidationError, match="must be below window"):
        ListwiseSettings.model_validate({"llm": LLM, "window": 4, "step": 4})
    with pytest.raises(ValidationError, match="lacks {passages}"):
        ListwiseSettings.model_validate({"llm": LLM, "prompt": "{question}"})
    base = ListwiseSettings.model_validate({"llm": LLM})
    assert base.identity(Resources()) != base.model_copy(update={"window": 7}).identity(Resources())
    chosen: Any = TypeAdapter(RerankerSection).validate_python({"kind": "listwise", "llm": LLM})
    assert chosen.build(Resources()).depth == 20 and not chosen.reads_scores


@dataclass
class Served:
    """What the double has seen, and where it listens."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def reranking_server(script: Callable[[dict[str, Any], int], tuple[int, Any]]) -> Iterator[Served]:
    """Test double: answers each request by the script, which is given the body and how many came before."""
    record, lock = Served(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                count = len(record.bodies)
                record.paths.append(self.path)
                record.bodies.append(body)
                record.keys.append(self.headers.get("Authorization"))
            code, reply = script(body, count)
            raw = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    record.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def scored(body: dict[str, Any]) -> list[tuple[int, float]]:
    passages = body.get("documents") or body["texts"]
    found = [(at, int(text.split()[-1].rstrip(".")) / 100) for at, text in enumerate(passages)]
    return sorted(found, key=lambda pair: -pair[1])


def cohere(body: dict[str, Any], count: int) -> tuple[int, Any]:
    return 200, {"results": [{"index": at, "relevance_score": s} for at, s in scored(body)], "meta": {}}


def jina(body: dict[str, Any], count: int) -> tuple[int, Any]:
    return 200, {**cohere(body, count)[1], "usage": {"total_tokens": 42}}


def tei(body: dict[str, Any], count: int) -> tuple[int, Any]:
    return 200, [{"index": at, "score": s} for at, s in scored(body)]


def endpoint(url: str, tmp_path: Path, env: dict[str, str] | None = None, **values: Any) -> Any:
    ready = {"model": "m", "backoff": 0.0, "retries": 2, "with_heading": False, "base_url": f"{url}/v1/", **values}
    return EndpointRerankerSettings.model_validate(ready).build(Resources(cache_dir=tmp_path, env=env or {}))


@pytest.mark.parametrize(("style", "script"), [("cohere", cohere), ("jina", jina), ("tei", tei)])
def test_endpoints_of_each_style(style: str, script: Any, tmp_path: Path) -> None:
    with reranking_server(script) as server:
        reranker = endpoint(server.url, tmp_path, {"KEY": " secret\n"}, style=style, api_key_env="KEY", depth=3)
        found = reranker.attempt(["which?", "none"], [hits(3, 9, 1, 7), []])
    assert worth(found.hits[0]) == [9, 3, 1] and found.hits[1] == [] and not found.failures
    assert [hit.score for hit in found.hits[0]] == [0.09, 0.03, 0.01]
    assert server.paths == ["/v1/rerank"] and server.keys == ["Bearer secret"]
    [body] = server.bodies
    assert body["query"] == "which?"
    assert body.get("documents", body.get("texts")) == ["worth 3.", "worth 9.", "worth 1."]
    assert ("model" in body) == (style != "tei") and body.get("top_n", 3) == 3
    assert found.prompt_tokens == (42 if style == "jina" else 0)


def test_what_was_paid_is_not_asked_again(tmp_path: Path) -> None:
    with reranking_server(jina) as server:
        first = endpoint(server.url, tmp_path).attempt(["a", "b"], [hits(1, 2), hits(3, 4)])
        again = endpoint(server.url, tmp_path).attempt(["b", "c"], [hits(3, 4), hits(3, 4)])
    assert len(server.bodies) == 3
    assert [hit.score for hit in again.hits[0]] == [hit.score for hit in first.hits[1]]
    assert again.prompt_tokens == 42, "only what was asked now costs"


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    def script(body: dict[str, Any], count: int) -> tuple[int, Any]:
        return [(503, "busy"), (200, "not json"), jina(body, count)][count]

    with reranking_server(script) as server:
        assert worth(endpoint(server.url, tmp_path).rerank(["a"], [hits(1, 2)])[0]) == [2, 1]
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ({"data": []}, "not of style 'jina'"),
        ([1, 2], "not of style 'jina'"),
        ({"results": [{"index": 0, "relevance_score": 1.0}]}, "scores 1 of 2 passages"),
        ({"results": [{"index": n, "relevance_score": 1.0} for n in (0, 5)]}, "scores 2 of 2 passages"),
        ({"results": [{"index": n, "relevance_score": None} for n in (0, 1)]}, "not of style"),
    ],
)
def test_a_reply_that_does_not_score_all_is_a_failure(reply: Any, why: str, tmp_path: Path) -> None:
    def script(body: dict[str, Any], count: int) -> tuple[int, Any]:
        return (200, reply) if body["query"] == "bad" else jina(body, count)

    with reranking_server(script) as server:
        found = endpoint(server.url, tmp_path).attempt(["good", "bad"], [hits(1, 2), hits(1, 2)])
        assert worth(found.hits[0]) == [2, 1] and found.hits[1] == []
        assert found.failures[1].status == "parse_error" and why in found.failures[1].detail
        endpoint(server.url, tmp_path).attempt(["bad"], [hits(1, 2)])
    assert len(server.bodies) == 3, "a failure is not kept"


def test_a_server_that_stays_busy_is_a_status_and_one_that_refuses_an_error(tmp_path: Path) -> None:
    with reranking_server(lambda body, count: (429, {"error": "slow down"})) as server:
        found = endpoint(server.url, tmp_path).attempt(["a"], [hits(1, 2)])
        assert found.failures[0].status == "generation_error" and "429 ('slow down')" in found.failures[0].detail
        assert len(server.bodies) == 3
    with (
        reranking_server(lambda body, count: (401, {"error": "bad key secret"})) as server,
        pytest.raises(EndpointError, match=r"answered 401 .*bad key \*\*\*.*check api_key_env"),
    ):
        endpoint(server.url, tmp_path, {"KEY": "secret"}, api_key_env="KEY").attempt(["a"], [hits(1, 2)])
    with pytest.raises(EndpointError, match="no connection to http://127.0.0.1:9/v1/rerank"):
        endpoint("http://127.0.0.1:9", tmp_path, retries=0).attempt(["a"], [hits(1, 2)])


def test_endpoint_settings_that_cannot_work_are_said(tmp_path: Path) -> None:
    for values, why in (
        ({"base_url": "localhost:80", "model": "m"}, "http://"),
        ({"base_url": "http://me:pw@host", "model": "m"}, "api_key_env"),
        ({"base_url": "http://host"}, "style 'jina' needs a model"),
    ):
        with pytest.raises(ValidationError, match=why):
            EndpointRerankerSettings.model_validate(values)
    assert EndpointRerankerSettings(base_url="http://host", style="tei").identity(Resources())["model"] == ""
    with pytest.raises(ConfigError, match="environment variable NO_KEY is not set"):
        endpoint("http://host", tmp_path, api_key_env="NO_KEY")


def test_any_reranker_is_shown_its_depth_and_held_to_its_word() -> None:
    class Counting:
        depth = 2

        def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
            return [list(row) for row in hits]

    class Short:
        def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
            return []

    assert rerank_with(Counting(), ["x"], [hits(1, 2, 3)]) == Reranked([hits(1, 2)])
    with pytest.raises(StageError, match="Short: rerank gave 0 lists of hits for 1 questions"):
        rerank_with(Short(), ["x"], [hits(1)])
