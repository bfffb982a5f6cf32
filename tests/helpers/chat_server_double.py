"""Test double: a chat completions server that answers by script. It knows no language model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Step:
    """One scripted answer: `body` is sent as JSON where it is no text; `hang` waits first, in seconds."""

    code: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0


def says(text: str, read: int = 10, wrote: int = 5, finish: str = "stop") -> Step:
    """An answer as OpenAI's API gives it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Step(body={"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": wrote}})


@dataclass
class ScriptedServer:
    """What the double has seen, and where it listens."""

    url: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most_at_once: int = 0
    """The most calls that were being answered at one time."""


@contextmanager
def scripted_server(steps: Sequence[Step], models: Sequence[str] = ("tiny",)) -> Iterator[ScriptedServer]:
    """Serves the steps one after another; the last one again and again."""
    waiting = list(steps)
    lock = threading.Lock()
    closing = threading.Event()
    record = ScriptedServer("")
    under_way: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            record.keys.append(self.headers.get("Authorization", ""))
            self._send(Step(body={"data": [{"id": name} for name in models]}))

        def do_POST(self) -> None:
            data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                record.seen.append(data)
                record.keys.append(self.headers.get("Authorization", ""))
                step = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                under_way.append(1)
                record.most_at_once = max(record.most_at_once, len(under_way))
            if step.hang:
                closing.wait(step.hang)
            with lock:
                under_way.pop()
            self._send(step)

        def _send(self, step: Step) -> None:
            raw = step.body if isinstance(step.body, str) else json.dumps(step.body)
            self.send_response(step.code)
            for name, value in {"Content-Length": str(len(raw.encode())), **step.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client gives up first where a test is about timeouts
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    record.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield record
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
