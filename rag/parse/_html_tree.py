"""The main content of an HTML page as Markdown-like text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...core.errors import DataError
from ._base import TextBuilder, markdown_table, squeeze

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import Tag

__all__ = ["HtmlWalker", "main_content"]

_NEVER = "script, style, noscript, template, svg, iframe, object, canvas, button, input, select, textarea, head"
_AROUND = (
    "nav, aside, footer, dialog, [hidden], [aria-hidden=true], [role=navigation], [role=banner], [role=contentinfo], "
    "[role=complementary], [role=search], [role=dialog]"
)
_BOILERPLATE = frozenset(
    [
        "ad",
        "ads",
        "advert",
        "breadcrumb",
        "breadcrumbs",
        "consent",
        "cookie",
        "cookies",
        "feedback",
        "footer",
        "menu",
        "nav",
        "navbar",
        "navigation",
        "newsletter",
        "pager",
        "pagination",
        "promo",
        "related",
        "share",
        "sharing",
        "sidebar",
        "skip",
        "skiplink",
        "social",
        "toc",
        "toolbar",
    ]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)


def main_content(soup: BeautifulSoup, content: str = "", remove: tuple[str, ...] = ()) -> Tag:
    """The element that holds the main content, with what does not belong to it taken out.

    Raises:
        DataError: A selector is not valid, or `content` finds nothing.
    """
    from bs4.element import Comment
    from soupsieve import SelectorSyntaxError

    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    try:
        for selector in (_NEVER, *remove):
            for tag in soup.select(selector):
                tag.decompose()
        chosen = soup.select(content) if content else []
    except SelectorSyntaxError as error:
        raise DataError(f"not a valid CSS selector: {error}") from None
    if content and not chosen:
        raise DataError(f"nothing in it fits the selector '{content}'")
    candidates = chosen or soup.select("main, [role=main]") or soup.select("article")
    root = max(candidates, key=_visible) if candidates else soup.body or soup
    whole = _visible(root)
    for tag in root.select(_AROUND):
        _drop(tag, whole)
    for tag in root.find_all("header"):
        # A page's banner goes; the header of an article holds its title.
        if tag.find_parent(["article", "main", "section"]) is None and not tag.find(["h1", "h2"]):
            _drop(tag, whole)
    for tag in root.find_all(True):
        if not tag.decomposed and _BOILERPLATE & _names(tag):
            _drop(tag, whole)
    return root


def _visible(tag: Tag) -> int:
    return len(tag.get_text())


def _names(tag: Tag) -> set[str]:
    """Words of the element's classes and id; those of links, headings and table parts say nothing about a block."""
    if tag.name not in ("div", "section", "ul", "ol", "p", "header", "span", "form"):
        return set()
    classes = tag.get("class") or []
    names = [*([classes] if isinstance(classes, str) else classes), str(tag.get("id") or "")]
    return {word for name in names for word in re.split(r"[-_\s]+", name.lower())}


def _drop(tag: Tag, whole: int) -> None:
    """Takes an element out, unless most of the text is in it."""
    if not tag.decomposed and _visible(tag) * 2 < whole:
        tag.decompose()


class HtmlWalker:
    """Writes an element's blocks to a builder, in their order."""

    def __init__(self, builder: TextBuilder) -> None:
        """Starts with nothing written."""
        self._builder = builder

    def walk(self, tag: Tag) -> None:
        """Writes what is inside an element."""
        from bs4.element import Tag

        inline: list[str] = []
        for child in tag.children:
            if not isinstance(child, Tag) or (child.name not in _BLOCKS and not _holds_block(child)):
                inline.append(" " if getattr(child, "name", None) == "br" else _inline(child))
                continue
            self._builder.block(squeeze("".join(inline)))
            inline = []
            self._element(child, child.name)
        self._builder.block(squeeze("".join(inline)))

    def _element(self, tag: Tag, name: str) -> None:
        if re.fullmatch(r"h[1-6]", name):
            self._builder.heading(int(name[1]), _inline(tag))
        elif name in ("ul", "ol"):
            self._builder.block("\n".join(_list_lines(tag, 0)))
        elif name == "table":
            self._table(tag)
        elif name == "pre":
            code = tag.get_text().strip("\n")
            self._builder.block(f"```\n{code}\n```" if code.strip() else "")
        elif name == "blockquote":
            inner = TextBuilder()
            HtmlWalker(inner).walk(tag)
            quoted = "\n".join(f"> {line}".rstrip() for line in inner.text().split("\n"))
            self._builder.block(quoted if inner.text() else "")
        elif name == "dl":
            self._builder.block("\n".join(_definitions(tag)))
        else:
            self.walk(tag)

    def _table(self, tag: Tag) -> None:
        caption = tag.find("caption")
        if caption:
            self._builder.block(squeeze(caption.get_text(" ")))
        rows = _table_rows(tag)
        if rows and max(len(row) for row in rows) == 1 and not tag.find("th"):
            for cell in tag.find_all("td"):  # a table that is only there for the layout
                if cell.find_parent("table") is tag:
                    self.walk(cell)
            return
        self._builder.block(markdown_table(rows))


def _holds_block(tag: Tag) -> bool:
    return tag.find(lambda inner: inner.name in _BLOCKS) is not None


def _inline(node: object) -> str:
    """Text of an inline element; a line break is a space."""
    from bs4.element import Tag

    if not isinstance(node, Tag):
        return str(node)
    return "".join(" " if getattr(child, "name", None) == "br" else _inline(child) for child in node.children)


def _flat(tag: Tag) -> str:
    """Text of an element that may hold blocks, on one line; blocks are kept apart by a space."""
    from bs4.element import Tag

    parts = []
    for child in tag.children:
        if not isinstance(child, Tag):
            parts.append(str(child))
        elif child.name == "br" or child.name in _BLOCKS:
            parts.append(f" {_flat(child)} ")
        else:
            parts.append(_flat(child))
    return "".join(parts)


def _list_lines(tag: Tag, depth: int) -> list[str]:
    lines: list[str] = []
    start = tag.get("start")
    number = int(start) if isinstance(start, str) and start.lstrip("-").isdigit() else 1
    for item in tag.find_all("li", recursive=False):
        inner = [child for child in item.find_all(["ul", "ol"]) if child.find_parent("li") is item]
        deeper = [line for child in inner for line in _list_lines(child, depth + 1)]
        for child in inner:
            child.extract()
        text = squeeze(_flat(item))
        if text:
            lines.append(f"{'  ' * depth}{f'{number}.' if tag.name == 'ol' else '-'} {text}")
            number += 1
        lines += deeper
    return lines


def _definitions(tag: Tag) -> list[str]:
    lines: list[str] = []
    term = ""
    for child in tag.find_all(["dt", "dd"]):
        text = squeeze(_flat(child))
        if child.name == "dt":
            term = text
        elif text:
            lines.append(f"- {term}: {text}" if term else f"- {text}")
    return lines


def _table_rows(tag: Tag) -> list[list[str]]:
    """Cells of a table; one that spans columns or rows stands in the first of them."""
    grid: list[list[str]] = []
    below: dict[int, int] = {}
    for row in tag.find_all("tr"):
        if row.find_parent("table") is not tag:
            continue
        cells: list[str] = []
        for cell in row.find_all(["td", "th"], recursive=False):
            while below.get(len(cells), 0):
                below[len(cells)] -= 1
                cells.append("")
            columns, rows = _span(cell.get("colspan")), _span(cell.get("rowspan"))
            for extra in range(columns):
                below[len(cells)] = rows - 1
                cells.append("" if extra else squeeze(_flat(cell)))
        while below.get(len(cells), 0):
            below[len(cells)] -= 1
            cells.append("")
        grid.append(cells)
    return grid


def _span(value: object) -> int:
    return min(max(int(value), 1), 100) if isinstance(value, str) and value.isdigit() else 1
