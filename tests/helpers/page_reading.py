"""Reads a page of the report as a browser would, with the standard library's parser."""

from __future__ import annotations

import base64
import gzip
import html.parser
import json
from typing import Any


class Page(html.parser.HTMLParser):
    """What a browser makes of the page: text by script block, elements, and the text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in ("th", "td", "li", "dd", "div", "p") else ""
        if tag in ("script", "style"):
            self._open.append(tag)
            self._script = dict(attrs).get("id") or "code"

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag == self._open[-1]:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += data
        elif self._open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def words(self) -> str:
        return " ".join(self.text.split())


def unpacked(text: str) -> Any:
    """A block of data as the page's script reads it."""
    return json.loads(gzip.decompress(base64.b64decode(text)))
