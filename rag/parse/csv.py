"""CSV and TSV files: each row a record."""

from __future__ import annotations

import csv
import io
from typing import ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, markdown_table, read_text, record_blocks

__all__ = ["CsvRecordsSettings", "CsvTableSettings"]


class CsvTableSettings(ParserSettings):
    """A Markdown table with the first row as its header."""

    cost: ClassVar[str] = "nothing"
    kind: Literal["table"] = "table"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Csv(records=False)


class CsvRecordsSettings(ParserSettings):
    """A paragraph for each row, each cell with its column's name: rows can be read alone, at twice the length."""

    cost: ClassVar[str] = "about twice the text of a table"
    kind: Literal["records"] = "records"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Csv(records=True)


class _Csv:
    def __init__(self, records: bool) -> None:
        self._records = records

    def parse(self, path: str, doc_id: str) -> Document:
        text, encoding = read_text(path)
        rows = [row for row in _rows(text) if any(cell.strip() for cell in row)]
        if not rows:
            raise DataError("there is no text in it")
        builder = TextBuilder()
        if self._records:
            for block in record_blocks(rows):
                builder.block(block)
        else:
            builder.block(markdown_table(rows))
        return builder.document(doc_id, metadata={"encoding": encoding, "rows": str(len(rows) - 1)})


def _rows(text: str) -> list[list[str]]:
    try:
        # The header alone decides, since the sniffer takes a comma inside prose for a separator.
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text.strip().split("\n", 1)[0], delimiters=",;\t|")
        delimiter = dialect.delimiter
    except csv.Error:
        delimiter = ","
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"it is not valid CSV: {error}") from None
