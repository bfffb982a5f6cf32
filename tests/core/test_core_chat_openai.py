"""The client of OpenAI-compatible endpoints, against a scripted server."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from chat_server_double import ScriptedServer, Step, says, scripted_server
from pydantic import TypeAdapter
from ragladder.core.chat import ChatRequest, ChatSection, Message, OpenAIChatSettings
from ragladder.core.components import Resources
from ragladder.core.errors import BudgetError, ConfigError, EndpointError

KEY = "sk-top-secret-4711"


def ask(text: str, **others: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **others)


def settings(url: str, **others: Any) -> OpenAIChatSettings:
    values = {"base_url": url, "model": "tiny", "backoff": 0.01, "timeout": 5.0, "retries": 2, **others}
    return OpenAIChatSettings(**values)


def client(server: ScriptedServer, folder: Path, **others: Any) -> Any:
    resources = Resources(cache_dir=folder, env={"MY_KEY": KEY})
    return settings(server.url, api_key_env="MY_KEY", **others).build(resources)


def test_answers_stand_in_order_with_tokens(tmp_path: Path) -> None:
    with scripted_server([says("a"), says("b"), says("c", finish="length")]) as server:
        model = client(server, tmp_path, concurrency=1)
        done = model.complete([ask("1"), ask("2"), ask("3", stop=("\n",), seed=7, repeat=2)])
    assert [one.text for one in done] == ["a", "b", "c"]
    assert [one.status for one in done] == ["ok"] * 3
    assert (done[0].prompt_tokens, done[0].completion_tokens, done[0].cached) == (10, 5, False)
    assert done[2].detail == "cut at max_tokens"
    assert server.keys == [f"Bearer {KEY}"] * 3
    assert server.seen[2]["stop"] == ["\n"] and server.seen[2]["seed"] == 9
    assert "seed" not in server.seen[0] and server.seen[0]["temperature"] == 0


def test_the_second_time_comes_from_the_cache_also_in_a_new_process(tmp_path: Path) -> None:
    with scripted_server([says("first"), says("second")]) as server:
        assert client(server, tmp_path).complete([ask("x")])[0].text == "first"
        again = client(server, tmp_path).complete([ask("x"), ask("x")])
        other = client(server, tmp_path).complete([ask("x", repeat=1)])[0]
        assert len(server.seen) == 2
    assert [(one.text, one.cached) for one in again] == [("first", True)] * 2
    assert (other.text, other.cached) == ("second", False)


def test_equal_requests_are_sent_once(tmp_path: Path) -> None:
    with scripted_server([says("a")]) as server:
        done = client(server, tmp_path).complete([ask("x")] * 5)
        assert len(server.seen) == 1
    assert [one.text for one in done] == ["a"] * 5


@pytest.mark.parametrize(
    "changed",
    [{"max_tokens": 9}, {"temperature": 0.5}, {"seed": 1}, {"stop": ("x",)}, {"json_schema": {"type": "object"}}],
)
def test_each_parameter_is_part_of_the_cache_key(tmp_path: Path, changed: dict[str, Any]) -> None:
    with scripted_server([says("a"), says("b")]) as server:
        model = client(server, tmp_path)
        assert [model.complete([ask("x")])[0].text, model.complete([ask("x", **changed)])[0].text] == ["a", "b"]


def test_429_waits_as_long_as_the_server_asks(tmp_path: Path) -> None:
    import time

    with scripted_server([Step(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.3"}), says("a")]) as server:
        started = time.perf_counter()
        done = client(server, tmp_path, backoff=0.0).complete([ask("x")])
    assert done[0].text == "a"
    assert time.perf_counter() - started >= 0.3
    assert done[0].seconds >= 0.3


def test_a_wait_above_the_limit_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    with scripted_server([Step(429, {}, {"Retry-After": "3600"})]) as server:
        done = client(server, tmp_path).complete([ask("x")])
        assert len(server.seen) == 1
    assert done[0].status == "generation_error"
    assert "3600 s" in done[0].detail


def test_500_then_200_is_a_success_and_500_for_good_a_status(tmp_path: Path) -> None:
    with scripted_server([Step(500, "oops"), Step(503, "oops"), says("a")]) as server:
        assert client(server, tmp_path).complete([ask("x")])[0].text == "a"
    with scripted_server([Step(500, "oops")]) as server:
        model = client(server, tmp_path)
        failed = model.complete([ask("y")])[0]
        assert len(server.seen) == 3
        assert (failed.status, failed.text) == ("generation_error", "")
        assert "500" in failed.detail
        model.complete([ask("y")])
        assert len(server.seen) == 6, "a failure must not be cached"


@pytest.mark.parametrize("body", ["not json", "[]", '{"choices": []}', '{"choices": [{"message": null}]}'])
def test_broken_answers_are_a_status(tmp_path: Path, body: str) -> None:
    with scripted_server([Step(200, body)]) as server:
        failed = client(server, tmp_path, retries=1).complete([ask("x")])[0]
    assert failed.status == "generation_error"
    assert failed.detail


def test_a_hanging_server_is_a_timeout(tmp_path: Path) -> None:
    with scripted_server([Step(200, {}, hang=5)]) as server:
        failed = client(server, tmp_path, timeout=0.1, retries=1).complete([ask("x")])[0]
        assert len(server.seen) == 2
    assert failed.status == "timeout"


def test_no_connection_names_the_address(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    model = settings(url, retries=1).build(Resources(cache_dir=tmp_path, env={}))
    with pytest.raises(EndpointError, match="no connection to " + url):
        model.complete([ask("x")])
    assert not model.probe().ok


def test_one_bad_request_does_not_spoil_the_others(tmp_path: Path) -> None:
    with scripted_server([says("a"), Step(400, {"error": {"message": "too long"}}), says("c")]) as server:
        done = client(server, tmp_path, concurrency=1).complete([ask("1"), ask("2"), ask("3")])
    assert [one.status for one in done] == ["ok", "generation_error", "ok"]
    assert "too long" in done[1].detail


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_refused_key_or_unknown_model_stops_and_keeps_what_is_done(tmp_path: Path, code: int) -> None:
    with scripted_server([says("a"), Step(code, {"error": {"message": f"bad key {KEY}"}})]) as server:
        model = client(server, tmp_path, concurrency=1)
        with pytest.raises(EndpointError) as caught:
            model.complete([ask("1"), ask("2"), ask("3")])
        assert len(server.seen) == 2
    assert KEY not in str(caught.value) and "bad key ***" in str(caught.value)
    with scripted_server([says("new")]) as _:
        assert model.complete([ask("1")])[0].cached


def test_the_key_is_in_no_message_log_cache_or_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), scripted_server([Step(500, f"key {KEY}"), says("a")]) as server:
        model = client(server, tmp_path, retries=0)
        failed = model.complete([ask("x")])[0]
        model.complete([ask("x")])
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    shown = repr([failed, model, model.settings, vars(model), vars(model._sender), caplog.text])
    assert "key ***" in failed.detail
    assert KEY not in shown and KEY.encode() not in kept and kept


def test_a_missing_key_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MY_KEY"):
        settings("http://x/v1", api_key_env="MY_KEY").build(Resources(cache_dir=tmp_path, env={}))
    odd = Resources(cache_dir=tmp_path, env={"MY_KEY": "bad\u2019key"})
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        settings("http://x/v1", api_key_env="MY_KEY").build(odd)
    assert "bad" not in str(caught.value)


def test_the_budget_stops_and_keeps_what_is_paid(tmp_path: Path) -> None:
    with scripted_server([says("a", read=60, wrote=40)]) as server:
        model = client(server, tmp_path, concurrency=1, budget={"tokens": 250})
        with pytest.raises(BudgetError, match="300 of 250"):
            model.complete([ask(str(number)) for number in range(10)])
        assert len(server.seen) == 3
        free = client(server, tmp_path, concurrency=1)
        assert [one.cached for one in free.complete([ask("0"), ask("2"), ask("3")])] == [True, True, False]
        priced = client(server, tmp_path, price_prompt=1e6, price_completion=2e6, budget={"money": 100}, concurrency=1)
        with pytest.raises(BudgetError, match="budget.money"):
            priced.complete([ask("7"), ask("8")])
        assert priced.spent == (60, 40, 140.0)


def test_calls_run_side_by_side(tmp_path: Path) -> None:
    with scripted_server([Step(200, says("a").body, hang=0.5)]) as server:
        client(server, tmp_path, concurrency=4).complete([ask(str(number)) for number in range(12)])
        assert 1 < server.most_at_once <= 4


def test_two_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    with scripted_server([Step(500, "x"), Step(500, "x"), says("a")]) as server:
        model = client(server, tmp_path, backoff=0.05, retries=5)
        results: list[str] = []

        def work(number: int) -> None:
            results.append(model.complete([ask(f"t{number}")])[0].text)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == ["a"] * 4


def test_a_schema_is_sent_and_a_refusal_is_a_status(tmp_path: Path) -> None:
    refusal = {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}]}
    with scripted_server([says("{}"), Step(200, refusal)]) as server:
        model = client(server, tmp_path, concurrency=1, max_tokens_key="max_completion_tokens")
        done = model.complete([ask("x", json_schema={"title": "My answer", "type": "object"}), ask("y")])
    sent = server.seen[0]["response_format"]["json_schema"]
    assert sent["name"] == "My_answer" and sent["schema"]["type"] == "object"
    assert server.seen[0]["max_completion_tokens"] == 256 and "max_tokens" not in server.seen[0]
    assert done[1].status == "generation_error" and "refused" in done[1].detail


def test_probe_tells_an_unknown_model(tmp_path: Path) -> None:
    with scripted_server([says("a")], models=["other"]) as server:
        probe = client(server, tmp_path).probe()
        assert not probe.ok and "'tiny'" in probe.detail and "other" in probe.detail
        assert client(server, tmp_path, model="other").probe().ok


def test_probe_takes_the_tag_latest_for_granted_as_ollama_does(tmp_path: Path) -> None:
    with scripted_server([says("a")], models=["tiny:latest"]) as server:
        assert client(server, tmp_path).probe().ok


def test_a_model_of_another_name_that_answers_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def named(model: str) -> Step:
        return Step(body={**says("a").body, "model": model})

    with caplog.at_level(logging.WARNING), scripted_server([named("big"), named("big")]) as server:
        model = client(server, tmp_path / "one")
        model.complete([ask("1"), ask("2")])
    assert caplog.text.count("was asked for 'tiny', and answers as 'big'") == 1
    caplog.clear()
    with caplog.at_level(logging.WARNING), scripted_server([named("tiny-2026-01-01"), named("org/Tiny")]) as server:
        client(server, tmp_path / "two").complete([ask("1"), ask("2")])
    assert "asked for" not in caplog.text


@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        (500, "input (602 tokens) is too large to process. increase the physical batch size", "--ubatch-size"),
        (400, "This model's maximum context length is 4096 tokens", "longer context"),
    ],
)
def test_what_is_too_long_is_sent_once_and_says_what_to_do(tmp_path: Path, code: int, said: str, advice: str) -> None:
    with scripted_server([Step(code, {"error": {"message": said}})]) as server:
        failed = client(server, tmp_path).complete([ask("x")])[0]
        assert len(server.seen) == 1
    assert failed.status == "generation_error" and said in failed.detail and advice in failed.detail


def test_a_server_of_another_kind_is_an_error_at_once(tmp_path: Path) -> None:
    with scripted_server([Step(501, {"error": {"message": "not supported"}})]) as server:
        with pytest.raises(EndpointError, match="501 .'not supported'.: this server does not do that"):
            client(server, tmp_path).complete([ask("x")])
        assert len(server.seen) == 1


def test_identity_leaves_out_what_changes_no_answer(tmp_path: Path) -> None:
    resources = Resources(cache_dir=tmp_path, env={})
    one = settings("http://x/v1").identity(resources)
    assert one == settings("http://x/v1", timeout=1, concurrency=9, retries=9, price_prompt=3).identity(resources)
    assert one != settings("http://y/v1").identity(resources)
    assert one != settings("http://x/v1", extra_body={"top_p": 0.5}).identity(resources)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"base_url": "http://me:pw-123@host/v1"}, "api_key_env"),
        ({"budget": {"money": 1}}, "price_prompt"),
        ({"extra_body": {"model": "x"}}, "extra_body"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, Any], said: str) -> None:
    from ragladder.core.components import Model
    from ragladder.core.config import validate

    class Config(Model):
        llm: ChatSection  # type: ignore[valid-type]

    data = {"llm": {"kind": "openai", "base_url": "http://x/v1", "model": "m", **changed}}
    with pytest.raises(ConfigError, match=said) as caught:
        validate(data, Config, "a.yaml")
    assert "pw-123" not in str(caught.value)


def test_the_section_takes_both_kinds() -> None:
    adapter = TypeAdapter(ChatSection)
    assert adapter.validate_python({"kind": "local", "model": "x"}).kind == "local"
    assert adapter.validate_python({"kind": "openai", "model": "x", "base_url": "http://x"}).kind == "openai"
