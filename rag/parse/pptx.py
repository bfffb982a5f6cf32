"""PowerPoint files: each slide a page and a section, with its lists, tables, charts and speaker notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, markdown_table, refuse_old_office, squeeze

__all__ = ["PptxPlainSettings", "PptxSettings"]


class PptxSettings(ParserSettings):
    """Slide titles as sections, text in reading order, tables and charts as tables; footers are left out."""

    libraries: ClassVar[tuple[str, ...]] = ("python-pptx",)
    cost: ClassVar[str] = "about 2 ms a slide"
    kind: Literal["structural"] = "structural"
    notes: bool = True
    """Reads the speaker notes, below the slide they belong to. They often hold what the slide only hints at."""
    hidden: bool = False
    """Reads hidden slides too."""

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Structural(self)


class PptxPlainSettings(ParserSettings):
    """The text of all shapes in the order they were drawn: no sections, no tables, no notes."""

    libraries: ClassVar[tuple[str, ...]] = ("python-pptx",)
    cost: ClassVar[str] = "about 2 ms a slide"
    kind: Literal["plain"] = "plain"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Plain()


def _open(path: str) -> Any:
    import zipfile

    import pptx
    from pptx.exc import PackageNotFoundError, PythonPptxError

    refuse_old_office(path, ".ppt", ".pptx")
    try:
        return pptx.Presentation(path)
    except (PackageNotFoundError, PythonPptxError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"it is not a PowerPoint file, or it is damaged ({error})") from None


class _Plain:
    def parse(self, path: str, doc_id: str) -> Document:
        source = _open(path)
        builder = TextBuilder()
        for slide in source.slides:
            builder.page()
            for shape in _flat(slide.shapes):
                if shape.has_text_frame:
                    builder.block("\n".join(squeeze(part.text) for part in shape.text_frame.paragraphs))
        return builder.document(doc_id, source.core_properties.title or "", {"slides": str(len(source.slides))})


def _flat(shapes: Iterable[Any]) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _flat(shape.shapes)
        else:
            yield shape


class _Structural:
    def __init__(self, settings: PptxSettings) -> None:
        self._settings = settings

    def parse(self, path: str, doc_id: str) -> Document:
        source = _open(path)
        slides = [s for s in source.slides if self._settings.hidden or s._element.get("show") not in ("0", "false")]
        builder = TextBuilder()
        below = 1
        for slide in slides:
            builder.page()
            title = slide.shapes.title
            if title is not None:
                opening = _kind(title) == "CENTER_TITLE"
                builder.heading(1 if opening else below, title.text_frame.text)
                # what follows an opening slide belongs below it
                below = 2 if opening and title.text_frame.text.strip() else below
            for shape in _reading_order(slide.shapes):
                if title is None or shape.shape_id != title.shape_id:
                    _write(builder, shape)
            if self._settings.notes and slide.has_notes_slide:
                frame = slide.notes_slide.notes_text_frame
                notes = "\n".join(squeeze(part.text) for part in frame.paragraphs if part.text.strip()) if frame else ""
                builder.block(f"Notes: {notes}" if notes else "")
        return builder.document(doc_id, source.core_properties.title or "", {"slides": str(len(slides))})


def _kind(shape: Any) -> str:
    """Name of a placeholder's kind; empty for other shapes."""
    return shape.placeholder_format.type.name if shape.is_placeholder and shape.placeholder_format.type else ""


def _reading_order(shapes: Iterable[Any]) -> list[Any]:
    """From top to bottom, and from left to right where shapes begin at about the same height (half an inch)."""
    band = 457200  # EMU

    def place(shape: Any) -> tuple[int, int]:
        return (shape.top or 0) // band, shape.left or 0

    ordered = sorted(shapes, key=place)
    return [inner for s in ordered for inner in (_reading_order(s.shapes) if hasattr(s, "shapes") else [s])]


def _write(builder: TextBuilder, shape: Any) -> None:
    if _kind(shape) in ("DATE", "FOOTER", "SLIDE_NUMBER", "HEADER"):
        return
    if getattr(shape, "has_table", False):
        builder.block(markdown_table(_rows(shape.table)))
    elif getattr(shape, "has_chart", False):
        _write_chart(builder, shape.chart)
    elif shape.has_text_frame:
        parts = [(part.level, squeeze(part.text)) for part in shape.text_frame.paragraphs if part.text.strip()]
        # A body with several paragraphs is a list, whatever mark the theme puts before them.
        if _kind(shape) in ("BODY", "OBJECT") and len(parts) > 1:
            builder.block("\n".join(f"{'  ' * level}- {text}" for level, text in parts))
        else:
            for _, text in parts:
                builder.block(text)


def _rows(table: Any) -> list[list[str]]:
    """Cells of a table; a merged one stands in the first of its places."""
    return [["" if cell.is_spanned else squeeze(cell.text) for cell in row.cells] for row in table.rows]


def _write_chart(builder: TextBuilder, chart: Any) -> None:
    """A chart's title and its numbers as a table: a row a category, a column a series."""
    if chart.has_title and chart.chart_title.has_text_frame:
        builder.block(squeeze(chart.chart_title.text_frame.text))
    for plot in chart.plots:
        series = list(plot.series)
        values = [list(one.values) for one in series]
        labels = [str(category) for category in plot.categories]
        height = max([len(labels), *map(len, values)], default=0)
        labels = labels or [str(number + 1) for number in range(height)]
        rows = [["", *(str(one.name) for one in series)]]
        for at in range(height):
            numbers = [column[at] if at < len(column) else None for column in values]
            rows.append([labels[at] if at < len(labels) else "", *("" if n is None else f"{n:.15g}" for n in numbers)])
        if series:
            builder.block(markdown_table(rows))
