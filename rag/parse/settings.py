"""The config section that says which files are read, and by which parser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from ...core.components import Model, component_section
from .csv import CsvRecordsSettings, CsvTableSettings
from .docling import DoclingSettings
from .docx import DocxPlainSettings, DocxSettings
from .html import HtmlPlainSettings, HtmlSettings, TrafilaturaSettings
from .json import JsonDocumentsSettings, JsonRecordsSettings
from .markdown import MarkdownPlainSettings, MarkdownSettings
from .pdf import PdfPlumberSettings, Pypdfium2Settings, PypdfSettings
from .pptx import PptxPlainSettings, PptxSettings
from .text import TextSettings
from .xlsx import XlsxRecordsSettings, XlsxTableSettings

__all__ = ["FORMATS", "PARSERS", "ParseSettings", "parser_settings"]

FORMATS: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".pptx": "pptx",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json_file",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".txt": "text",
    ".text": "text",
}
"""The section of `ParseSettings` that reads files of each extension."""

PARSERS = {
    "markdown": (MarkdownSettings, MarkdownPlainSettings),
    "html": (HtmlSettings, TrafilaturaSettings, HtmlPlainSettings, DoclingSettings),
    "pdf": (PdfPlumberSettings, PypdfSettings, Pypdfium2Settings, DoclingSettings),
    "docx": (DocxSettings, DocxPlainSettings, DoclingSettings),
    "pptx": (PptxSettings, PptxPlainSettings, DoclingSettings),
    "xlsx": (XlsxTableSettings, XlsxRecordsSettings, DoclingSettings),
    "csv": (CsvTableSettings, CsvRecordsSettings),
    "json_file": (JsonRecordsSettings, JsonDocumentsSettings),
    "json_lines": (JsonDocumentsSettings, JsonRecordsSettings),
    "text": (TextSettings,),
}
"""Settings of the built-in parsers of each format, the default first."""


class ParseSettings(Model):
    """Which files are read, and by which parser."""

    include: tuple[str, ...] = Field(default=("**/*",), min_length=1)
    """Globs of the files below the corpus folder. Hidden files are never read."""
    ref_pattern: str | None = None
    """Regular expression searched in each file's name; its group 1 is the short reference that answers cite. Default,
    and for names that it does not fit: the document's id."""
    strict: bool = False
    """Stops at files that cannot be read, instead of listing them and going on with the others."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds that one file may take."""
    markdown: component_section("parser", *PARSERS["markdown"]) = MarkdownSettings()  # type: ignore[valid-type]
    """Parser of `.md` files."""
    html: component_section("parser", *PARSERS["html"]) = HtmlSettings()  # type: ignore[valid-type]
    """Parser of `.html` files. The poorer ones keep the navigation, which is then retrieved."""
    pdf: component_section("parser", *PARSERS["pdf"]) = PdfPlumberSettings()  # type: ignore[valid-type]
    """Parser of `.pdf` files. The faster ones mix columns and lose tables."""
    docx: component_section("parser", *PARSERS["docx"]) = DocxSettings()  # type: ignore[valid-type]
    """Parser of `.docx` files."""
    pptx: component_section("parser", *PARSERS["pptx"]) = PptxSettings()  # type: ignore[valid-type]
    """Parser of `.pptx` files."""
    xlsx: component_section("parser", *PARSERS["xlsx"]) = XlsxTableSettings()  # type: ignore[valid-type]
    """Parser of `.xlsx` and `.xlsm` files. Records can be retrieved row by row, and are twice as long."""
    csv: component_section("parser", *PARSERS["csv"]) = CsvTableSettings()  # type: ignore[valid-type]
    """Parser of `.csv` and `.tsv` files."""
    # not `json`, which is a method of pydantic's models
    json_file: component_section("parser", *PARSERS["json_file"]) = JsonRecordsSettings()  # type: ignore[valid-type]
    """Parser of `.json` files."""
    json_lines: component_section("parser", *PARSERS["json_lines"]) = JsonDocumentsSettings()  # type: ignore[valid-type]
    """Parser of `.jsonl` and `.ndjson` files. `documents` makes many documents of a file, `records` one."""
    text: component_section("parser", *PARSERS["text"]) = TextSettings()  # type: ignore[valid-type]
    """Parser of `.txt` files."""

    @field_validator("ref_pattern")
    @classmethod
    def _pattern_has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a valid regular expression: {error}") from None
        if groups < 1:
            raise ValueError("needs a group in round brackets: what it matches is the reference")
        return pattern


def parser_settings(settings: ParseSettings, doc_id: str) -> Any | None:
    """Settings of the parser for a file; None for an extension that nothing reads."""
    _, dot, extension = doc_id.rpartition(".")
    section = FORMATS.get(f"{dot}{extension}".lower())
    return getattr(settings, section) if section else None
