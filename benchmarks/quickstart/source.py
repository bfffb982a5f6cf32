"""Reads a quickstart source (Markdown with front matter) into blocks that the renderers share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

FORMATS = ("md", "html", "pdf", "docx", "txt")


@dataclass(frozen=True)
class Piece:
    """A run of text in one style: '' (plain), 'strong', 'em' or 'code'."""

    text: str
    style: str = ""


Inline = tuple[Piece, ...]


@dataclass(frozen=True)
class Heading:
    level: int
    inline: Inline


@dataclass(frozen=True)
class Paragraph:
    inline: Inline


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Item:
    """An entry of a list: its text and the lists below it."""

    inline: Inline
    below: tuple[Bullets, ...] = ()


@dataclass(frozen=True)
class Bullets:
    ordered: bool
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first being the header."""

    rows: tuple[tuple[Inline, ...], ...]


Block = Heading | Paragraph | Code | Bullets | Table


@dataclass(frozen=True)
class Source:
    """A source document."""

    path: Path
    code: str
    title: str
    version: str
    date: str
    format: str
    layout: str
    raw: str
    blocks: tuple[Block, ...]

    @property
    def group(self) -> str:
        """The folder it is in."""
        return self.path.parent.name


def read_source(path: Path) -> Source:
    """Reads one Markdown source; ValueError says what is wrong with it."""
    raw = path.read_text(encoding="utf-8")
    if not raw.startswith("---\n") or "\n---\n" not in raw:
        raise ValueError(f"{path}: no front matter")
    head, body = raw[4:].split("\n---\n", 1)
    facts = yaml.load(head, Loader=yaml.BaseLoader)  # dates and numbers as they are written
    missing = [key for key in ("code", "title", "version", "date", "format") if key not in facts]
    if missing:
        raise ValueError(f"{path}: the front matter lacks {', '.join(missing)}")
    if facts["format"] not in FORMATS:
        raise ValueError(f"{path}: unknown format '{facts['format']}'")
    if not path.name.startswith(facts["code"] + "_"):
        raise ValueError(f"{path}: the file name does not begin with the code {facts['code']}")
    layout = facts.get("layout", "one-column")
    fields = {key: str(facts[key]) for key in ("code", "title", "version", "date", "format")}
    return Source(path=path, layout=layout, raw=raw, blocks=tuple(_blocks(body)), **fields)


def _blocks(body: str) -> Iterator[Block]:
    tokens: list[Token] = MarkdownIt("commonmark").enable("table").parse(body)
    for node in SyntaxTreeNode(tokens).children:
        if node.type == "heading":
            yield Heading(int(node.tag[1]), _inline(node))
        elif node.type == "paragraph":
            yield Paragraph(_inline(node))
        elif node.type in ("fence", "code_block"):
            yield Code(node.content.rstrip("\n"))
        elif node.type in ("bullet_list", "ordered_list"):
            yield _bullets(node)
        elif node.type == "table":
            rows = [row for part in node.children for row in part.children]
            yield Table(tuple(tuple(_inline(cell) for cell in row.children) for row in rows))
        elif node.type == "blockquote":
            yield from (Paragraph(_inline(child)) for child in node.children)
        else:
            raise ValueError(f"a '{node.type}' cannot be rendered")


def _bullets(node: SyntaxTreeNode) -> Bullets:
    items = []
    for item in node.children:
        inline: list[Piece] = []
        below = []
        for child in item.children:
            if child.type in ("bullet_list", "ordered_list"):
                below.append(_bullets(child))
            else:
                inline += [*([Piece(" ")] if inline else []), *_inline(child)]
        items.append(Item(tuple(inline), tuple(below)))
    return Bullets(node.type == "ordered_list", tuple(items))


def _inline(node: SyntaxTreeNode) -> Inline:
    pieces: list[Piece] = []

    def visit(inner: SyntaxTreeNode, style: str) -> None:
        if inner.type in ("softbreak", "hardbreak"):
            pieces.append(Piece(" ", style))
        elif inner.type == "code_inline":
            pieces.append(Piece(inner.content, "code"))
        elif inner.type == "text":
            pieces.append(Piece(inner.content, style))
        else:
            for child in inner.children:
                visit(child, inner.type if inner.type in ("strong", "em") else style)

    visit(node, "")
    return tuple(piece for piece in pieces if piece.text)


def plain(inline: Inline) -> str:
    """The words alone."""
    return "".join(piece.text for piece in inline)
