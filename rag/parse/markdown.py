"""Markdown files."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from ...core.components import Resources
from ...core.types import Document, Parser
from ._base import Heading, ParserSettings, make_document, read_text, squeeze

__all__ = ["MarkdownPlainSettings", "MarkdownSettings", "markdown_headings"]

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


class MarkdownSettings(ParserSettings):
    """The text as it stands, with its headings as sections; YAML front matter becomes metadata."""

    libraries: ClassVar[tuple[str, ...]] = ("markdown-it-py",)
    cost: ClassVar[str] = "about 2 ms a page"
    kind: Literal["structural"] = "structural"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Structural()


class MarkdownPlainSettings(ParserSettings):
    """The file's text as it is, front matter included, without sections."""

    cost: ClassVar[str] = "nothing"
    kind: Literal["plain"] = "plain"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Plain()


class _Plain:
    def parse(self, path: str, doc_id: str) -> Document:
        text, encoding = read_text(path)
        return make_document(doc_id, text.strip(), metadata={"encoding": encoding})


class _Structural:
    def parse(self, path: str, doc_id: str) -> Document:
        text, encoding = read_text(path)
        facts: dict[str, str] = {}
        match = _FRONT_MATTER.match(text)
        if match:
            facts = _front_matter(match.group(1))
            text = text[match.end() :] if facts else text
        text = text.strip("\n").rstrip()
        return make_document(
            doc_id, text, markdown_headings(text), facts.get("title", ""), metadata={**facts, "encoding": encoding}
        )


def _front_matter(source: str) -> dict[str, str]:
    """Its single values as text; empty where it is no mapping (then it is part of the document)."""
    import yaml

    try:
        # The base loader leaves dates and numbers as they are written.
        data: Any = yaml.load(source, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        # A title with a colon is no YAML, but plain enough.
        data = dict(re.findall(r"^(\w[\w-]*):[ \t]+(\S.*?)[ \t]*$", source, re.MULTILINE))
    if not isinstance(data, dict):
        return {}
    return {str(key): value for key, value in data.items() if isinstance(value, str)}


def markdown_headings(text: str) -> list[Heading]:
    """Offset, level and title of each heading of a Markdown text; those inside lists and quotes do not count."""
    from markdown_it import MarkdownIt

    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    tokens = MarkdownIt("commonmark").parse(text)
    headings: list[Heading] = []
    for token, inline in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open" and token.level == 0 and token.map:
            words = "".join(child.content or " " for child in inline.children or ())
            if words.strip():
                headings.append((starts[token.map[0]], int(token.tag[1]), squeeze(words)))
    return headings
