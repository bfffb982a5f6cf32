"""Renders a source as a PDF with running headers, page numbers and one or two columns; the same on every run."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    FrameBreak,
    KeepTogether,
    ListFlowable,
    ListItem,
    NextPageTemplate,
    PageTemplate,
    Preformatted,
    TableStyle,
)
from reportlab.platypus import Paragraph as Text
from reportlab.platypus import Table as Grid
from source import Bullets, Code, Heading, Inline, Paragraph, Source, Table, plain

_WIDTH, _HEIGHT = A4
_SIDE, _TOP, _BOTTOM, _GUTTER = 23 * mm, 26 * mm, 24 * mm, 9 * mm


def render(source: Source) -> bytes:
    """The PDF file."""
    if "Vera" not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont("Vera", str(Path(reportlab.__file__).parent / "fonts" / "Vera.ttf")))
    two = source.layout == "two-column"
    buffer = io.BytesIO()
    template = BaseDocTemplate(
        buffer, pagesize=A4, title=source.title, author="Wrenfield documentation desk", subject=source.code, invariant=1
    )
    template.addPageTemplates(_page_templates(two))
    width = (_WIDTH - 2 * _SIDE - _GUTTER) / 2 if two else _WIDTH - 2 * _SIDE
    story = list(_flowables(source, _styles(two), width, two))
    template.build(story, canvasmaker=partial(_NumberedCanvas, source=source))
    return buffer.getvalue()


def _page_templates(two: bool) -> list[PageTemplate]:
    height = _HEIGHT - _TOP - _BOTTOM
    frame = partial(Frame, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    if not two:
        return [PageTemplate("page", [frame(_SIDE, _BOTTOM, _WIDTH - 2 * _SIDE, height)])]
    width = (_WIDTH - 2 * _SIDE - _GUTTER) / 2
    banner = 22 * mm

    def columns(reach: float) -> list[Frame]:
        return [frame(_SIDE + side * (width + _GUTTER), _BOTTOM, width, reach) for side in (0, 1)]

    title = frame(_SIDE, _HEIGHT - _TOP - banner, _WIDTH - 2 * _SIDE, banner)
    return [PageTemplate("first", [title, *columns(height - banner)]), PageTemplate("later", columns(height))]


class _NumberedCanvas(Canvas):
    """Draws header and footer once the number of pages is known."""

    def __init__(self, *args: Any, source: Source, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._source = source
        self._states: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._states.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, state in enumerate(self._states, 1):
            self.__dict__.update(state)
            self._running(number, len(self._states))
            super().showPage()
        super().save()

    def _running(self, number: int, total: int) -> None:
        source = self._source
        self.setFont("Helvetica", 7.5)
        self.setFillColor(colors.HexColor("#555555"))
        self.drawString(_SIDE, _HEIGHT - 14 * mm, f"Wrenfield internal | {source.code} {source.title}")
        self.drawRightString(_WIDTH - _SIDE, _HEIGHT - 14 * mm, f"Version {source.version}")
        self.drawString(_SIDE, 12 * mm, f"Issued {source.date}. Printed copies are not controlled.")
        self.drawRightString(_WIDTH - _SIDE, 12 * mm, f"Page {number} of {total}")


def _styles(two: bool) -> dict[str, ParagraphStyle]:
    size, leading = (9.5, 12.5) if two else (10.5, 14)
    body = ParagraphStyle("body", fontName="Helvetica", fontSize=size, leading=leading, spaceAfter=leading * 0.55)
    if two:
        body = ParagraphStyle("narrow", parent=body, hyphenationLang=_hyphenate, hyphenationMinWordLength=7)
    small = 8 if two else 8.5
    heading = ParagraphStyle("heading", fontName="Helvetica-Bold", textColor=colors.HexColor("#24423c"))

    def headed(name: str, points: float, before: float) -> ParagraphStyle:
        return ParagraphStyle(
            name,
            parent=heading,
            fontSize=points,
            leading=points * 1.25,
            spaceBefore=before,
            spaceAfter=points * 0.4,
            keepWithNext=1,
        )

    return {
        "body": body,
        "item": ParagraphStyle("item", parent=body, spaceAfter=leading * 0.25),
        "cell": ParagraphStyle("cell", fontName="Helvetica", fontSize=small, leading=small + 2),
        "head": ParagraphStyle("head", fontName="Helvetica-Bold", fontSize=small, leading=small + 2),
        "code": ParagraphStyle("code", fontName="Courier", fontSize=8, leading=10, spaceAfter=6),
        "meta": ParagraphStyle("meta", parent=body, textColor=colors.HexColor("#555555")),
        "1": headed("h1", 18, 0),
        "2": headed("h2", 12.5 if two else 13.5, 8),
        "3": headed("h3", 10.5 if two else 11.5, 6),
    }


def _hyphenate(word: str) -> Iterator[tuple[str, str]]:
    """Places to break a word, three letters from its ends: so-lid, win-dow; never inside `ch`, `sh`, `th`."""
    if not re.fullmatch(r"[a-z]{7,}", word):
        return
    for at in range(len(word) - 3, 2, -1):
        if re.fullmatch(r"[aeiou][^aeiouy][aeiou]", word[at - 1 : at + 2]) or (
            re.fullmatch(r"[aeiou][^aeiouy]{2}[aeiou]", word[at - 2 : at + 2])
            and word[at - 1 : at + 1] not in ("ch", "sh", "th", "ph", "ck", "gh", "wh", "qu")
        ):
            yield word[:at], word[at:]


def _flowables(source: Source, styles: dict[str, ParagraphStyle], width: float, two: bool) -> Iterator[Flowable]:
    for block in source.blocks:
        if isinstance(block, Heading):
            yield Text(_markup(block.inline), styles[str(min(block.level, 3))])
            if block.level == 1:
                yield Text(f"{source.code}, version {source.version}, {source.date}", styles["meta"])
                if two:
                    yield NextPageTemplate("later")
                    yield FrameBreak()
        elif isinstance(block, Paragraph):
            yield Text(_markup(block.inline), styles["body"])
        elif isinstance(block, Code):
            yield Preformatted(block.text, styles["code"])
        elif isinstance(block, Bullets):
            yield _list(block, styles)
        elif isinstance(block, Table):
            grid = _table(block, styles, width)
            yield KeepTogether([grid]) if len(block.rows) < 8 else grid


def _markup(inline: Inline) -> str:
    tags = {"": "{}", "strong": "<b>{}</b>", "em": "<i>{}</i>", "code": '<font name="Courier">{}</font>'}
    return "".join(tags[piece.style].format(_fonts(piece.text)) for piece in inline)


def _fonts(text: str) -> str:
    """The text with another font for signs that the standard ones lack."""
    return "".join(
        escape(sign) if sign.encode("cp1252", "ignore") else f'<font name="Vera">{escape(sign)}</font>' for sign in text
    )


def _list(block: Bullets, styles: dict[str, ParagraphStyle]) -> ListFlowable:
    items = [
        ListItem([Text(_markup(item.inline), styles["item"]), *[_list(below, styles) for below in item.below]])
        for item in block.items
    ]
    kind = {"bulletType": "1", "bulletFormat": "%s."} if block.ordered else {"bulletType": "bullet", "start": "•"}
    size = styles["item"].fontSize
    return ListFlowable(items, bulletFontSize=size, leftIndent=16, bulletDedent=14, spaceAfter=4, **kind)


def _table(block: Table, styles: dict[str, ParagraphStyle], width: float) -> Grid:
    cells = [
        [Text(_markup(cell), styles["cell" if position else "head"]) for cell in row]
        for position, row in enumerate(block.rows)
    ]
    rules = [
        ("GRID", (0, 0), (-1, -1), 0.5, colors.HexColor("#8a9a96")),
        ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e4ece9")),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
    widths = _column_widths(block, styles, width)
    return Grid(cells, colWidths=widths, repeatRows=1, style=TableStyle(rules), spaceBefore=3, spaceAfter=9)


def _column_widths(block: Table, styles: dict[str, ParagraphStyle], width: float) -> list[float]:
    """Room for each column's longest word, the rest by how much text there is."""
    size = styles["cell"].fontSize
    needs, amounts = [], []
    for column in range(len(block.rows[0])):
        texts = [plain(row[column]) for row in block.rows]
        # Bold and Courier are the widest that a cell may hold.
        needs.append(max(_word_width(word, size) for text in texts for word in text.split() or [""]) + 9)
        amounts.append(max(sum(map(len, texts)) / len(texts), 1.0))
    spare = width - sum(needs)
    if spare < 0:
        raise ValueError(f"a table is {-spare:.0f} points too wide for its page: {plain(block.rows[0][0])} ...")
    return [need + spare * amount / sum(amounts) for need, amount in zip(needs, amounts, strict=True)]


def _word_width(word: str, size: float) -> float:
    fonts = ("Helvetica-Bold", "Courier") if re.search(r"[\d_.]", word) else ("Helvetica-Bold",)
    return max(pdfmetrics.stringWidth(word, font, size) for font in fonts)
