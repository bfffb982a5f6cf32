"""Test double: a judge behind a chat completions endpoint, whose replies a function makes; no language model."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CLAIMS = {"statements": ["one", "two"]}
VERDICTS = {"statements": [{"statement": s, "reason": "r", "verdict": v} for s, v in (("one", 1), ("two", 0))]}


@dataclass(frozen=True)
class Says:
    """What goes back: a text as the completion's content, or another code; `hang` waits first, in seconds."""

    text: str = ""
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0


def agrees(prompt: str, schema: str) -> Says:
    """One of two claims is supported; the whole reference is attributed."""
    replies: dict[str, Any] = {
        "StatementGeneratorOutput": CLAIMS,
        "NLIStatementOutput": VERDICTS,
        "ContextRecallOutput": {"classifications": [{"statement": "s", "reason": "r", "attributed": 1}]},
    }
    return Says(json.dumps(replies[schema]))


class JudgeServer:
    """Listens on one port until it is closed; it can be opened again there.

    Attributes:
        reply: From prompt and name of the schema to what goes back; may be replaced at any time.
        seen: The prompts, in order of arrival.
        models: The models that they were for.
        dies_after: Closes the connection on every call after so many.
    """

    def __init__(self, reply: Callable[[str, str], Says] = agrees) -> None:
        self.reply = reply
        self.seen: list[str] = []
        self.models: list[str] = []
        self.dies_after: int | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()  # every call after its death closes it
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.open()

    @property
    def url(self) -> str:
        """Address for `base_url`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def open(self) -> None:
        """Listens, at the port that it had before."""
        with self._lock:
            self._closing.clear()
            self.dies_after = None
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
            self._server.daemon_threads = True
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Refuses connections from now on."""
        self._closing.set()
        with self._lock:
            self._stop()

    def _die(self) -> None:
        """Closes, unless it was opened again in the meantime."""
        with self._lock:
            if self.dies_after is not None:
                self._closing.set()
                self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, json.dumps({"data": [{"id": "judge"}]}), {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                double.models.append(body["model"])
                double.seen.append(body["messages"][0]["content"])
                if double.dies_after is not None and len(double.seen) > double.dies_after:
                    threading.Thread(target=double._die, daemon=True).start()
                    double._closing.wait(5)
                    self.connection.close()
                    return
                wanted = body.get("response_format", {"json_schema": {"name": ""}})  # none: free text
                says = double.reply(double.seen[-1], wanted["json_schema"]["name"])
                if says.hang:
                    double._closing.wait(says.hang)
                choice = {"index": 0, "message": {"role": "assistant", "content": says.text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 10, "completion_tokens": 5}
                self._send(says.code, json.dumps({"choices": [choice], "usage": usage}), says.headers)

            def _send(self, code: int, raw: str, headers: dict[str, str]) -> None:
                self.send_response(code)
                for name, value in {"Content-Length": str(len(raw.encode())), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

            def handle(self) -> None:
                with suppress(OSError, ValueError):  # the other side gives up first, or the connection was cut
                    super().handle()

            def finish(self) -> None:
                with suppress(OSError, ValueError):
                    super().finish()

        return Handler
