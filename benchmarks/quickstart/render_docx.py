"""Renders a source as a Word file that is the same on every run."""

from __future__ import annotations

import datetime
import io
import zipfile
from typing import Any

from docx import Document
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt
from source import Bullets, Code, Heading, Inline, Paragraph, Source, Table


def render(source: Source) -> bytes:
    """The Word file."""
    document = Document()
    moment = datetime.datetime.combine(datetime.date.fromisoformat(source.date), datetime.time(9))
    properties = document.core_properties
    properties.title, properties.author = source.title, "Wrenfield documentation desk"
    properties.last_modified_by, properties.comments = "Wrenfield documentation desk", ""
    properties.created = properties.modified = properties.last_printed = moment
    properties.revision = 1
    section = document.sections[0]
    section.header.paragraphs[0].text = f"Wrenfield internal\t{source.code}\tVersion {source.version}"
    section.footer.paragraphs[0].text = "Printed copies are not controlled.\t\tFor internal use"
    for block in source.blocks:
        if isinstance(block, Heading):
            _runs(document.add_heading("", block.level), block.inline)
            if block.level == 1:
                document.add_paragraph(f"{source.code}, version {source.version}, {moment.day} {moment:%B %Y}")
        elif isinstance(block, Paragraph):
            _runs(document.add_paragraph(), block.inline)
        elif isinstance(block, Code):
            run = document.add_paragraph().add_run(block.text)
            run.font.name = "Courier New"
        elif isinstance(block, Bullets):
            _list(document, block, 1)
        elif isinstance(block, Table):
            _table(document, block)
    buffer = io.BytesIO()
    document.save(buffer)
    return _fixed_times(buffer.getvalue())


def _runs(paragraph: Any, inline: Inline) -> None:
    for piece in inline:
        run = paragraph.add_run(piece.text)
        run.bold = piece.style == "strong" or None
        run.italic = piece.style == "em" or None
        if piece.style == "code":
            run.font.name = "Courier New"


def _list(document: Any, block: Bullets, depth: int) -> None:
    style = ("List Number" if block.ordered else "List Bullet") + (f" {min(depth, 3)}" if depth > 1 else "")
    number = _new_numbering(document, style) if block.ordered else None
    for item in block.items:
        paragraph = document.add_paragraph(style=style)
        _runs(paragraph, item.inline)
        if number is not None:
            properties = paragraph._p.get_or_add_pPr().get_or_add_numPr()
            properties.get_or_add_ilvl().val = 0
            properties.get_or_add_numId().val = number
        for below in item.below:
            _list(document, below, depth + 1)


def _new_numbering(document: Any, style: str) -> int:
    """A numbering of the style's kind that starts at 1; without it Word counts on from the list before."""
    numbering = document.part.numbering_part.element
    used = document.styles[style].element.pPr.numPr.numId.val
    abstract = numbering.num_having_numId(used).abstractNumId.val
    number = numbering.add_num(abstract)
    override = OxmlElement("w:lvlOverride")
    override.set(qn("w:ilvl"), "0")
    start = OxmlElement("w:startOverride")
    start.set(qn("w:val"), "1")
    override.append(start)
    number.append(override)
    return number.numId


def _table(document: Any, block: Table) -> None:
    table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
    for position, row in enumerate(block.rows):
        for cell, inline in zip(table.add_row().cells, row, strict=True):
            _runs(cell.paragraphs[0], inline)
            for run in cell.paragraphs[0].runs:
                run.font.size = Pt(9)
                run.bold = run.bold or position == 0 or None


def _fixed_times(data: bytes) -> bytes:
    """The same archive with one time for all its parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            new.writestr(info, old.read(name))
    return buffer.getvalue()
