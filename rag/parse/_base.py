"""What the parsers share: reading text files, building a document with its sections, Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from ...core.components import Resources, Settings
from ...core.errors import DataError, MissingExtra
from ...core.types import Document, Section

__all__ = [
    "Heading",
    "ParserSettings",
    "TextBuilder",
    "decode",
    "document_from_json",
    "document_to_json",
    "make_document",
    "markdown_table",
    "read_text",
    "record_blocks",
    "refuse_old_office",
    "sections_of",
    "squeeze",
]

Heading = tuple[int, int, str]
"""Offset, level and title."""
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # how an OLE container begins


class ParserSettings(Settings):
    """Base of the parsers' settings.

    Attributes:
        libraries: Packages whose version decides the result, and so is part of the identity.
    """

    libraries: ClassVar[tuple[str, ...]] = ()

    def identity(self, resources: Resources) -> dict[str, Any]:
        """Settings, own version, and the versions of the libraries.

        Raises:
            MissingExtra: A library is not installed.
        """
        return {**super().identity(resources), "libraries": {name: _version(name) for name in self.libraries}}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        raise MissingExtra(
            f"the package '{library}' is needed for files of this kind: pip install {library}, "
            "or leave them out by parse.include"
        ) from None


class TextBuilder:
    """Collects headings and blocks of a document and keeps their offsets."""

    def __init__(self) -> None:
        """Starts empty."""
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._pages: list[int] = []

    def heading(self, level: int, title: str) -> None:
        """Adds a heading; one without a title is left out."""
        title = squeeze(title)
        if title:
            offset = self._add(f"{'#' * level} {title}")
            self._headings.append((offset, level, title))

    def block(self, text: str) -> None:
        """Adds a paragraph, list, table or code block."""
        text = text.strip("\n").rstrip()
        if text.strip():
            self._add(text)

    def page(self) -> None:
        """Starts a page: what is added next stands on it."""
        self._pages.append(-1)

    def text(self) -> str:
        """What was added so far."""
        return "\n\n".join(self._parts)

    def _add(self, text: str) -> int:
        start = self._length + (2 if self._parts else 0)
        self._parts.append(text)
        self._length = start + len(text)
        self._start_pages(start)
        return start

    def _start_pages(self, offset: int) -> None:
        self._pages = [offset if page < 0 else page for page in self._pages]

    def document(self, doc_id: str, title: str = "", metadata: Mapping[str, str] | None = None) -> Document:
        """The document; its title is the first heading, else the one given, else the file's name.

        Raises:
            DataError: There is no text.
        """
        text = self.text()
        self._start_pages(len(text))
        return make_document(doc_id, text, self._headings, title, tuple(self._pages), metadata)


def make_document(
    doc_id: str,
    text: str,
    headings: Sequence[Heading] = (),
    title: str = "",
    pages: tuple[int, ...] = (),
    metadata: Mapping[str, str] | None = None,
) -> Document:
    """A document whose reference is still its id.

    Args:
        doc_id: Path below the corpus folder, with `/`.
        text: As it is chunked; all offsets are in it.
        headings: In order of offset; the first gives the title where there is one.
        title: Otherwise; without it the file's name is taken.
        pages: Offset at which each page begins.
        metadata: What the file says of itself.

    Raises:
        DataError: There is no text.
    """
    if not text.strip():
        raise DataError("there is no text in it")
    title = headings[0][2] if headings else squeeze(title) or Path(doc_id).stem.replace("_", " ")
    return Document(doc_id, text, title, doc_id, sections_of(headings, len(text)), pages, dict(metadata or {}))


def sections_of(headings: Sequence[Heading], length: int) -> tuple[Section, ...]:
    """Sections from headings in order of offset, in a text of that length."""
    sections: list[Section] = []
    above: list[tuple[int, str]] = []
    for position, (start, level, title) in enumerate(headings):
        above = [entry for entry in above if entry[0] < level] + [(level, title)]
        end = next((other for other, at, _ in headings[position + 1 :] if at <= level), length)
        sections.append(Section(start, end, level, tuple(name for _, name in above)))
    return tuple(sections)


def read_text(path: str, encoding: str | None = None) -> tuple[str, str]:
    """Text of a file with `\\n` line ends, and the encoding it was read with.

    Args:
        path: The file.
        encoding: Its encoding; None finds it out.

    Raises:
        DataError: It is empty, not text, or its encoding cannot be told.
    """
    return decode(Path(path).read_bytes(), encoding)


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Text from bytes: the encoding given, else UTF-8, else what charset-normalizer finds. Raises as `read_text`."""
    if not data.strip():
        raise DataError("the file is empty")
    if encoding is None:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            from charset_normalizer import from_bytes

            best = from_bytes(data).best()
            if best is None:
                raise DataError("its encoding cannot be told; save it as UTF-8, or set 'encoding'") from None
            text, encoding = str(best), best.encoding
    else:
        try:
            text = data.decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise DataError(f"it cannot be read as {encoding}: {error}") from None
    if "\0" in text:
        raise DataError("it is not a text file (it holds zero bytes)")
    return re.sub(r"\r\n?", "\n", text), encoding.removesuffix("-sig")


def refuse_old_office(path: str, old: str, new: str) -> None:
    """Stops at an encrypted Office file or one of a format before 2007; both are OLE containers, which open nowhere.

    Args:
        path: The file.
        old: The suffix of the old format, for the message.
        new: That of the present one.

    Raises:
        DataError: It is one.
    """
    with open(path, "rb") as handle:
        if handle.read(len(_OLE)) == _OLE:
            raise DataError(f"it is encrypted or an old {old} file; save it as {new} without a password")


def squeeze(text: str) -> str:
    """The text on one line, with single spaces."""
    return " ".join(text.split())


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first row its header; short rows are filled up, empty rows left out."""
    cells = [[squeeze(cell).replace("|", r"\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if not cells:
        return ""
    width = max(len(row) for row in cells)
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * width, *lines[1:]])


def record_blocks(rows: Sequence[Sequence[str]]) -> list[str]:
    """A paragraph for each row under the header, each filled cell with its column's name; a lone header as it is."""
    header = [squeeze(cell) for cell in rows[0]] if rows else []
    if len(rows) < 2:
        return ["; ".join(cell for cell in header if cell)]

    def named(position: int, cell: str) -> str:
        name = header[position] if position < len(header) else ""
        return f"{name}: {squeeze(cell)}" if name else squeeze(cell)

    return ["; ".join(named(at, cell) for at, cell in enumerate(row) if cell.strip()) for row in rows[1:]]


def document_to_json(document: Document) -> dict[str, Any]:
    """A document as JSON values."""
    return {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "ref": document.ref,
        "sections": [[section.start, section.end, section.level, list(section.path)] for section in document.sections],
        "pages": list(document.pages),
        "metadata": dict(document.metadata),
    }


def document_from_json(value: Mapping[str, Any]) -> Document:
    """The document that `document_to_json` wrote."""
    sections = tuple(Section(start, end, level, tuple(path)) for start, end, level, path in value["sections"])
    return Document(
        value["id"], value["text"], value["title"], value["ref"], sections, tuple(value["pages"]), value["metadata"]
    )
