"""Docling (IBM's document converter): layout models for PDF, and one reader of many formats."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError, require
from ...core.types import Document, Parser
from ._base import Heading, ParserSettings, make_document
from .markdown import markdown_headings

__all__ = ["DoclingSettings"]

_BREAK = "\f"


class DoclingSettings(ParserSettings):
    """Layout and table models read the page: for PDFs whose columns, tables and headings `pdfplumber` misses.

    Needs the extra `parse`. The first PDF fetches models from a hub, unless `models` names a folder that holds them.
    """

    cost: ClassVar[str] = "seconds a PDF page on a CPU; several GB installed"
    kind: Literal["docling"] = "docling"
    ocr: bool = False
    """Reads scanned pages and pictures of text. Several times slower."""
    tables: Literal["accurate", "fast", "none"] = "accurate"
    """Model that finds the rows and columns of tables in PDFs."""
    models: str | None = None
    """Folder of models fetched before by `docling-tools models download`; null takes Docling's own, or the hub."""

    def build(self, resources: Resources) -> Parser:
        """Makes the parser; models are loaded at its first use.

        Raises:
            MissingExtra: Docling is not installed.
        """
        require("docling", "parse", "the parser 'docling'")
        return _Docling(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings, and the versions of Docling's packages; not where the models lie.

        Raises:
            MissingExtra: Docling is not installed.
        """
        require("docling", "parse", "the parser 'docling'")
        from importlib.metadata import PackageNotFoundError, version

        versions: dict[str, str] = {}
        for name in ("docling", "docling-core", "docling-ibm-models"):
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                versions[name] = ""
        kept = self.model_dump(mode="json", exclude={"models"})
        return {**kept, "version": self.version, "libraries": versions}


class _Docling:
    def __init__(self, settings: DoclingSettings, resources: Resources) -> None:
        self._settings = settings
        self._models = resources.path(settings.models) if settings.models else None
        self._converter: Any = None

    def parse(self, path: str, doc_id: str) -> Document:
        from docling.exceptions import ConversionError

        try:
            source = self._load().convert(path).document
        except ConversionError as error:
            raise DataError(f"Docling cannot read it ({error})") from None
        text = source.export_to_markdown(
            escape_underscores=False, image_placeholder="", page_break_placeholder=_BREAK
        ).strip()
        return _document(doc_id, text, str(getattr(source, "name", "") or ""))

    def _load(self) -> Any:
        if self._converter is None:
            from docling.datamodel.base_models import InputFormat
            from docling.datamodel.pipeline_options import PdfPipelineOptions, TableFormerMode
            from docling.document_converter import DocumentConverter, PdfFormatOption

            options = PdfPipelineOptions(artifacts_path=self._models)
            options.do_ocr = self._settings.ocr
            options.do_table_structure = self._settings.tables != "none"
            if options.do_table_structure:
                options.table_structure_options.mode = TableFormerMode(self._settings.tables)
            pdf = PdfFormatOption(pipeline_options=options)
            self._converter = DocumentConverter(format_options={InputFormat.PDF: pdf})
        return self._converter


def _document(doc_id: str, text: str, title: str) -> Document:
    """Takes the marks between pages out of the text and notes where each page begins."""
    pages: list[int] = []
    kept = ""
    for part in text.split(_BREAK):
        part = part.strip("\n")
        joint = "\n\n" if kept and part else ""
        pages.append(len(kept) + len(joint))
        kept += joint + part
    headings: list[Heading] = markdown_headings(kept)
    return make_document(doc_id, kept, headings, title, tuple(pages) if len(pages) > 1 else ())
