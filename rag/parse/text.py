"""Plain text files."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from ...core.components import Resources
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, read_text

__all__ = ["TextSettings"]

_RULE = re.compile(r"[=\-~*#^]{3,}")


class TextSettings(ParserSettings):
    """The text as it stands; lines in capitals or underlined, alone between blank lines, become headings."""

    libraries: ClassVar[tuple[str, ...]] = ("charset-normalizer",)
    cost: ClassVar[str] = "nothing"
    kind: Literal["text"] = "text"
    encoding: str | None = None
    """Encoding of the files, for instance `cp1252`. Default: UTF-8, else what charset-normalizer finds."""
    headings: bool = True
    """Whether to look for headings; off, the document has no sections."""

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Text(self)


class _Text:
    def __init__(self, settings: TextSettings) -> None:
        self._settings = settings

    def parse(self, path: str, doc_id: str) -> Document:
        text, encoding = read_text(path, self._settings.encoding)
        builder = TextBuilder()
        first = True
        for block in re.split(r"\n[ \t]*\n+", text.strip("\n")):
            level = _heading_level(block) if self._settings.headings else 0
            if level:
                builder.heading(1 if first else level, block.split("\n")[0])
            else:
                builder.block(block)
            first = False
        return builder.document(doc_id, metadata={"encoding": encoding})


def _heading_level(block: str) -> int:
    """2 for a line in capitals or underlined with `=`, 3 for one underlined otherwise, 0 for anything else."""
    lines = [line.strip() for line in block.strip("\n").split("\n")]
    if len(lines) == 2 and lines[0] and len(lines[0]) <= 100 and _RULE.fullmatch(lines[1]):
        return 2 if lines[1].startswith("=") else 3
    line = lines[0]
    words = re.findall(r"[^\W\d_]{2,}", line)
    alone = len(lines) == 1 and len(line) <= 100 and not line.endswith((".", ",", ";", "!"))
    # One word that is a code, such as E-417, is no heading; HW-207 NOTES is.
    return 2 if alone and line.upper() == line and any(len(word) > 2 for word in words) else 0
