"""Word files: headings, lists and tables."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, markdown_table, refuse_old_office, squeeze

__all__ = ["DocxPlainSettings", "DocxSettings"]


class DocxSettings(ParserSettings):
    """Heading styles as sections, lists with their numbers, tables; page headers and footers are left out."""

    libraries: ClassVar[tuple[str, ...]] = ("python-docx",)
    cost: ClassVar[str] = "about 20 ms a page"
    kind: Literal["structural"] = "structural"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Structural()


class DocxPlainSettings(ParserSettings):
    """Paragraphs alone, as many simple readers give: no sections, no list marks, tables left out."""

    libraries: ClassVar[tuple[str, ...]] = ("python-docx",)
    cost: ClassVar[str] = "about 10 ms a page"
    kind: Literal["plain"] = "plain"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Plain()


def _open(path: str) -> Any:
    import zipfile

    import docx
    from docx.opc.exceptions import PackageNotFoundError

    refuse_old_office(path, ".doc", ".docx")
    try:
        return docx.Document(path)
    except (PackageNotFoundError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"it is not a Word file, or it is damaged ({error})") from None


class _Plain:
    def parse(self, path: str, doc_id: str) -> Document:
        source = _open(path)
        builder = TextBuilder()
        for paragraph in source.paragraphs:
            builder.block(paragraph.text)
        return builder.document(doc_id, source.core_properties.title or "")


class _Structural:
    def parse(self, path: str, doc_id: str) -> Document:
        from docx.table import Table

        source = _open(path)
        builder = TextBuilder()
        items: list[str] = []
        counts: dict[int, int] = {}
        for element in source.iter_inner_content():
            mark = None if isinstance(element, Table) else _list_mark(element)
            if mark is not None and not isinstance(element, Table) and element.text.strip():
                items.append(_list_item(element.text, *mark, counts))
                continue
            builder.block("\n".join(items))
            items, counts = [], {}
            if isinstance(element, Table):
                builder.block(markdown_table(_rows(element)))
            elif level := _heading_level(element):
                builder.heading(level, element.text)
            else:
                builder.block(squeeze(element.text))
        builder.block("\n".join(items))
        return builder.document(doc_id, source.core_properties.title or "")


def _styles(paragraph: Any) -> list[Any]:
    """The paragraph's style and those it is based on."""
    styles, style = [], paragraph.style
    while style is not None and len(styles) < 10:
        styles.append(style)
        style = style.base_style
    return styles


def _heading_level(paragraph: Any) -> int:
    for style in _styles(paragraph):
        name = (style.name or "").lower()
        if name == "title":
            return 1
        if match := re.fullmatch(r"heading (\d)", name):
            return min(int(match.group(1)), 6)
    return 0


def _list_mark(paragraph: Any) -> tuple[int, bool] | None:
    """Depth (0 outermost) and whether numbered; None for no list item."""
    styles = _styles(paragraph)
    numbered = any("number" in (style.name or "").lower() for style in styles)
    for style in styles:
        if match := re.fullmatch(r"list (?:bullet|number)(?: (\d))?", (style.name or "").lower()):
            return int(match.group(1) or 1) - 1, numbered
    properties = paragraph._p.pPr
    if properties is None or properties.numPr is None or _heading_level(paragraph):
        return None
    level = properties.numPr.ilvl
    depth = 0 if level is None else int(level.val)
    return depth, _is_numbered(paragraph, properties.numPr, depth)


def _is_numbered(paragraph: Any, properties: Any, depth: int) -> bool:
    """Looks the list's format up in the file's numbering part."""
    if properties.numId is None:
        return False
    try:
        numbering = paragraph.part.numbering_part.element
    except (KeyError, NotImplementedError):
        return False
    found = numbering.xpath(f'w:num[@w:numId="{properties.numId.val}"]/w:abstractNumId/@w:val')
    formats = numbering.xpath(
        f'w:abstractNum[@w:abstractNumId="{found[0] if found else -1}"]/w:lvl[@w:ilvl="{depth}"]/w:numFmt/@w:val'
    )
    return bool(formats) and formats[0] not in ("bullet", "none")


def _list_item(text: str, depth: int, numbered: bool, counts: dict[int, int]) -> str:
    for deeper in [level for level in counts if level > depth]:
        del counts[deeper]
    counts[depth] = counts.get(depth, 0) + 1 if numbered else 0
    return f"{'  ' * depth}{f'{counts[depth]}.' if numbered else '-'} {squeeze(text)}"


def _rows(table: Any) -> list[list[str]]:
    """Cells of a table; a cell merged over several columns or rows stands in the first of them."""
    seen: set[Any] = set()
    rows: list[list[str]] = []
    for row in table.rows:
        cells = []
        for cell in row.cells:
            cells.append("" if cell._tc in seen else _cell_text(cell))
            seen.add(cell._tc)
        rows.append(cells)
    return rows


def _cell_text(cell: Any) -> str:
    inner = [" ".join(text for row in _rows(table) for text in row) for table in cell.tables]
    return squeeze(" ".join([cell.text, *inner]))
