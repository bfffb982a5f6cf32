"""Excel workbooks: each sheet a section, its rows as a table or as records."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, markdown_table, record_blocks, refuse_old_office, squeeze

__all__ = ["XlsxRecordsSettings", "XlsxTableSettings"]


class _XlsxSettings(ParserSettings):
    libraries: ClassVar[tuple[str, ...]] = ("openpyxl",)
    hidden: bool = False
    """Reads hidden sheets too."""


class XlsxTableSettings(_XlsxSettings):
    """A Markdown table for each block of rows, the first row its header; formulas by the value that was last saved."""

    cost: ClassVar[str] = "about 10 ms a thousand cells"
    kind: Literal["table"] = "table"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Xlsx(self.hidden, records=False)


class XlsxRecordsSettings(_XlsxSettings):
    """A paragraph for each row, each cell with its column's name: rows can be read alone, at twice the length."""

    cost: ClassVar[str] = "about 10 ms a thousand cells, and twice the text of a table"
    kind: Literal["records"] = "records"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Xlsx(self.hidden, records=True)


class _Xlsx:
    def __init__(self, hidden: bool, records: bool) -> None:
        self._hidden = hidden
        self._records = records

    def parse(self, path: str, doc_id: str) -> Document:
        book = _open(path)
        try:
            sheets = [s for s in book.worksheets if self._hidden or s.sheet_state == "visible"]
            blocks = {sheet.title: list(_blocks(sheet)) for sheet in sheets}
            title = squeeze(book.properties.title or "")
        finally:
            book.close()
        filled = {name: found for name, found in blocks.items() if found}
        builder = TextBuilder()
        for name, found in filled.items():
            if len(filled) > 1:  # the name of a lone sheet says nothing
                builder.heading(1, name)
            for rows in found:
                self._write(builder, rows)
        document = builder.document(doc_id, metadata={"sheets": str(len(filled))})
        # Sheets stand side by side, so that none of their names is the workbook's title.
        name = title or (document.title if len(filled) == 1 else doc_id.rpartition("/")[2].rpartition(".")[0])
        return Document(
            doc_id, document.text, name.replace("_", " "), doc_id, document.sections, (), dict(document.metadata)
        )

    def _write(self, builder: TextBuilder, rows: list[list[str]]) -> None:
        # Lines of one cell above a wider table are its caption.
        while len(rows) > 1 and _filled(rows[0]) == 1 and max(_filled(row) for row in rows) > 1:
            builder.block(squeeze(" ".join(rows[0])))
            rows = rows[1:]
        if len(rows) == 1 and _filled(rows[0]) == 1:
            builder.block(squeeze(" ".join(rows[0])))
        elif self._records:
            for block in record_blocks(rows):
                builder.block(block)
        else:
            builder.block(markdown_table(rows))


def _open(path: str) -> Any:
    import zipfile

    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    refuse_old_office(path, ".xls", ".xlsx")
    try:
        return openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"it is not an Excel workbook, or it is damaged ({error})") from None


def _blocks(sheet: Any) -> Iterator[list[list[str]]]:
    """Stretches of rows between empty ones, without columns that are empty throughout."""
    sheet.reset_dimensions()  # some writers record too small a range
    rows: list[list[str]] = []
    for cells in sheet.iter_rows():
        row = [_shown(cell) for cell in cells]
        if any(cell.strip() for cell in row):
            rows.append(row)
        elif rows:
            yield _trimmed(rows)
            rows = []
    if rows:
        yield _trimmed(rows)


def _trimmed(rows: list[list[str]]) -> list[list[str]]:
    used = [at for at in range(max(map(len, rows))) if any(at < len(row) and row[at].strip() for row in rows)]
    return [[row[at] if at < len(row) else "" for at in used] for row in rows]


def _filled(row: list[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


def _shown(cell: Any) -> str:
    """A cell's value about as Excel shows it: dates by ISO 8601, percentages as such, numbers to 15 digits."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "minutes")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat("minutes")
    if isinstance(value, int | float):
        percent = "%" in (cell.number_format or "")
        return f"{value * 100:.12g}%" if percent else f"{value:.15g}" if isinstance(value, float) else str(value)
    return str(value)
