"""PDF files: by layout (pdfplumber), or the text that pypdf or pypdfium2 extract."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder

__all__ = ["PdfPlumberSettings", "PypdfSettings", "Pypdfium2Settings"]

_ENCRYPTED = "it is encrypted and needs a password; save it without one"
_SCANNED = "there is no text in it (perhaps scanned pages: run OCR on it first)"


class PdfPlumberSettings(ParserSettings):
    """Read by layout: tables, one or two columns, headings by font size, hyphens mended, running headers left out."""

    libraries: ClassVar[tuple[str, ...]] = ("pdfplumber", "pdfminer.six")
    cost: ClassVar[str] = "0.1 to 0.3 s a page"
    kind: Literal["pdfplumber"] = "pdfplumber"
    tables: bool = True
    """Writes ruled tables as Markdown tables; off, their text runs line by line (about a third faster)."""
    columns: bool = True
    """Reads two columns one after the other."""
    running_headers: bool = False
    """Keeps page headers, footers and page numbers."""

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _PdfPlumber(self)


class PypdfSettings(ParserSettings):
    """The text in the order it was drawn, as pypdf's `extract_text` gives it: what most RAG tools do by default."""

    libraries: ClassVar[tuple[str, ...]] = ("pypdf",)
    cost: ClassVar[str] = "about 30 ms a page"
    kind: Literal["pypdf"] = "pypdf"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Pypdf()


class Pypdfium2Settings(ParserSettings):
    """The text as Chrome's PDF engine gives it: fastest, no structure."""

    libraries: ClassVar[tuple[str, ...]] = ("pypdfium2",)
    cost: ClassVar[str] = "about 3 ms a page"
    kind: Literal["pypdfium2"] = "pypdfium2"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Pypdfium2()


def _plain_document(doc_id: str, pages: list[str], title: str) -> Document:
    if not any(page.strip() for page in pages):
        raise DataError(_SCANNED)
    builder = TextBuilder()
    for page in pages:
        builder.page()
        builder.block(page.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""))
    return builder.document(doc_id, title, {"pages": str(len(pages))})


def _metadata_title(value: Any) -> str:
    """The title that a PDF gives itself; writers' defaults do not count."""
    title = value if isinstance(value, str) else ""
    return "" if title.strip().lower() in ("untitled", "(untitled)", "(anonymous)") else title


class _Pypdf:
    def parse(self, path: str, doc_id: str) -> Document:
        from pypdf import PdfReader
        from pypdf.errors import FileNotDecryptedError, PyPdfError

        try:
            reader = PdfReader(path)
            pages = [page.extract_text() for page in reader.pages]
            title = _metadata_title(reader.metadata.title if reader.metadata else "")
        except FileNotDecryptedError:
            raise DataError(_ENCRYPTED) from None
        except PyPdfError as error:
            raise DataError(f"it is not a PDF file, or it is damaged ({error})") from None
        return _plain_document(doc_id, pages, title)


class _Pypdfium2:
    def parse(self, path: str, doc_id: str) -> Document:
        import pypdfium2

        try:
            source = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            encrypted = "password" in str(error).lower()
            raise DataError(_ENCRYPTED if encrypted else f"it is not a PDF file, or it is damaged ({error})") from None
        try:
            pages = [source[number].get_textpage().get_text_range() for number in range(len(source))]
            title = _metadata_title(source.get_metadata_dict().get("Title"))
        finally:
            source.close()
        # PDFium marks a hyphen at a line's end with U+FFFE.
        return _plain_document(doc_id, [page.replace("\ufffe", "-") for page in pages], title)


class _PdfPlumber:
    def __init__(self, settings: PdfPlumberSettings) -> None:
        self._settings = settings

    def parse(self, path: str, doc_id: str) -> Document:
        import pdfplumber
        from pdfminer.pdfdocument import PDFPasswordIncorrect
        from pdfminer.pdfexceptions import PDFException
        from pdfminer.psexceptions import PSException
        from pdfplumber.utils.exceptions import PdfminerException

        from ._pdf_layout import read_page
        from ._pdf_text import write_pages

        settings = self._settings
        try:
            with pdfplumber.open(path) as source:
                pages = []
                for page in source.pages:
                    pages.append(read_page(page, settings.tables, settings.columns))
                    page.close()
                title = _metadata_title(source.metadata.get("Title"))
        except (PdfminerException, PDFException, PSException) as error:
            inner = error.args[0] if error.args else error
            encrypted = isinstance(inner, PDFPasswordIncorrect) or isinstance(error, PDFPasswordIncorrect)
            raise DataError(_ENCRYPTED if encrypted else f"it is not a PDF file, or it is damaged ({inner})") from None
        if not any(page.blocks for page in pages):
            raise DataError(_SCANNED)
        builder = TextBuilder()
        write_pages(builder, pages, settings.running_headers)
        return builder.document(doc_id, title, {"pages": str(len(pages))})
