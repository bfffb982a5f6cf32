"""Drives headless Chromium over its debugging pipe, with the standard library alone: for tests and screenshots."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Browser", "Page", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome, `$CHROMIUM` first; None where there is none."""
    named = os.environ.get("CHROMIUM")
    return named or next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """A headless browser; a context manager that ends it."""

    def __init__(self, binary: str) -> None:
        """Starts it.

        Args:
            binary: As `find_chromium` gives it.
        """
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "--disable-dev-shm-usage"]
        self._child = _started([binary, *flags, "about:blank"], theirs_read, theirs_write)
        os.close(theirs_read)
        os.close(theirs_write)
        self._read, self._write = os.fdopen(ours_read, "rb", buffering=0), os.fdopen(ours_write, "wb", buffering=0)
        self._buffer, self._number = b"", 0
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._read.close()
        self._write.close()
        _ended(self._child)
        self._profile.cleanup()

    def send(self, method: str, params: Mapping[str, Any] | None = None, session: str = "") -> dict[str, Any]:
        """One command of the DevTools protocol; what happens meanwhile is kept as events.

        Raises:
            RuntimeError: The browser says no, or is gone.
        """
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._events.append(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = self._read.read(1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        head, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(head)

    def events(self, session: str) -> list[dict[str, Any]]:
        """What happened on a page so far."""
        return [event for event in self._events if event.get("sessionId") == session]

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False) -> Page:
        """Opens a file and waits until it is loaded and its table of questions is filled.

        Args:
            page: An HTML file.
            width: Of the window, in CSS pixels.
            height: Of the window.
            dark: The reader prefers dark pages.
            phone: A touch screen with two device pixels a CSS pixel.
        """
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable", session=session)
        scale = 2 if phone else 1
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", size, session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", {"features": scheme}, session)
        opened = Page(self, session)
        start = time.perf_counter()
        self.send("Page.navigate", {"url": page.absolute().as_uri()}, session)
        opened.wait("document.readyState === 'complete' && !document.querySelector('[data-waiting]')")
        opened.seconds = time.perf_counter() - start
        return opened


def _started(command: list[str], read: int, write: int) -> int:
    """The process; Chromium reads its commands on descriptor 3 and answers on 4."""
    # Above 4, so that neither is overwritten before it is copied.
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (read, write)]
    silent = [(os.POSIX_SPAWN_OPEN, end, os.devnull, os.O_RDWR, 0) for end in (1, 2)]
    copied = [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[*silent, *copied])
    for end in high:
        os.close(end)
    return child


def _ended(child: int) -> None:
    """Waits for the browser, whose pipe is closed, and ends it where that is not enough."""
    for _ in range(100):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


class Page:
    """An open page.

    Attributes:
        seconds: From the command to open it until it was ready.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        """As `Browser.open` makes it."""
        self._browser, self._session = browser, session
        self.seconds = 0.0

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited.

        Raises:
            RuntimeError: It throws.
        """
        params = {"expression": script, "awaitPromise": True, "returnByValue": True}
        found = self._browser.send("Runtime.evaluate", params, self._session)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Waits until an expression is true.

        Raises:
            RuntimeError: It did not become so in time.
        """
        end = time.monotonic() + seconds
        while not self.run(f"!!({condition})"):
            if time.monotonic() > end:
                raise RuntimeError(f"after {seconds:g} s still not: {condition}")
            time.sleep(0.02)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Presses and releases a key, for instance `press("Enter", 13, "\\r")`."""
        base = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._browser.send("Input.dispatchKeyEvent", {"type": "keyDown", **base, "text": text}, self._session)
        self._browser.send("Input.dispatchKeyEvent", {"type": "keyUp", **base}, self._session)

    def troubles(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and what the page's security policy forbade."""
        self.run("1")  # lets pending events arrive
        found = []
        for event in self._browser.events(self._session):
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for itself and for data in the page."""
        self.run("1")
        sent = [e for e in self._browser.events(self._session) if e["method"] == "Network.requestWillBeSent"]
        return [url for e in sent if not (url := e["params"]["request"]["url"]).startswith(("data:", "file:", "blob:"))]

    def print_pdf(self) -> bytes:
        """The page as printed."""
        found = self._browser.send("Page.printToPDF", {"printBackground": True}, self._session)
        return base64.b64decode(found["data"])

    def screenshot(self, path: Path, full: bool = False) -> Path:
        """Writes a PNG of the window, or of the whole page."""
        params: dict[str, Any] = {"format": "png", "captureBeyondViewport": full}
        if full:
            size = self._browser.send("Page.getLayoutMetrics", session=self._session)["cssContentSize"]
            params["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        shot = self._browser.send("Page.captureScreenshot", params, self._session)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path
