"""HTML files: the main content by structure, by trafilatura, or all text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ...core.components import Resources
from ...core.errors import DataError, MissingExtra
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, decode, make_document, squeeze
from .markdown import markdown_headings

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

__all__ = ["HtmlPlainSettings", "HtmlSettings", "TrafilaturaSettings"]


class HtmlSettings(ParserSettings):
    """The main content with headings, lists and tables; navigation, side bars, banners and footers are left out."""

    libraries: ClassVar[tuple[str, ...]] = ("beautifulsoup4", "lxml")
    cost: ClassVar[str] = "about 10 ms a page"
    kind: Literal["structural"] = "structural"
    content: str = ""
    """CSS selector of the main content, for instance `#article`. Default: `main`, `article` or the body."""
    remove: tuple[str, ...] = ()
    """CSS selectors of what else to leave out."""

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Structural(self)


class TrafilaturaSettings(ParserSettings):
    """What the library trafilatura takes for the main text: made for news and blogs, may drop short parts."""

    libraries: ClassVar[tuple[str, ...]] = ("trafilatura", "markdown-it-py")
    cost: ClassVar[str] = "about 10 ms a page"
    kind: Literal["trafilatura"] = "trafilatura"
    favor: Literal["balance", "precision", "recall"] = "balance"
    """`precision` leaves out more, `recall` keeps more."""

    def build(self, resources: Resources) -> Parser:
        """Makes the parser.

        Raises:
            MissingExtra: trafilatura or a package below it is not installed, which would else fail page by page.
        """
        try:
            import trafilatura  # noqa: F401
        except ImportError as error:
            raise MissingExtra(f"parse.html trafilatura: {error}: pip install trafilatura lxml_html_clean") from None
        return _Trafilatura(self)


class HtmlPlainSettings(ParserSettings):
    """All text of the page, navigation included, one line a text node; tables lose their rows."""

    libraries: ClassVar[tuple[str, ...]] = ("beautifulsoup4", "lxml")
    cost: ClassVar[str] = "about 5 ms a page"
    kind: Literal["plain"] = "plain"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Plain()


def _source(path: str) -> str | bytes:
    """UTF-8 as text; anything else as bytes, for the library to look at what the page declares."""
    data = Path(path).read_bytes()
    if not data.strip():
        raise DataError("the file is empty")
    try:
        return decode(data, "utf-8-sig")[0]
    except DataError:
        return data


class _Plain:
    def parse(self, path: str, doc_id: str) -> Document:
        from bs4 import BeautifulSoup

        soup = BeautifulSoup(_source(path), "lxml")
        for tag in soup(["script", "style"]):
            tag.decompose()
        lines = (squeeze(line) for line in soup.get_text("\n").split("\n"))
        return make_document(doc_id, "\n".join(line for line in lines if line), title=_title(soup))


class _Trafilatura:
    def __init__(self, settings: TrafilaturaSettings) -> None:
        self._settings = settings

    def parse(self, path: str, doc_id: str) -> Document:
        import trafilatura
        from bs4 import BeautifulSoup

        source = _source(path)
        text = trafilatura.extract(
            source,
            output_format="markdown",
            include_comments=False,
            include_tables=True,
            favor_precision=self._settings.favor == "precision",
            favor_recall=self._settings.favor == "recall",
        )
        if not text:
            raise DataError("trafilatura found no main text in it; use the parser 'structural' or 'plain'")
        text = text.strip()
        return make_document(doc_id, text, markdown_headings(text), _title(BeautifulSoup(source, "lxml")))


class _Structural:
    def __init__(self, settings: HtmlSettings) -> None:
        self._settings = settings

    def parse(self, path: str, doc_id: str) -> Document:
        from bs4 import BeautifulSoup

        from ._html_tree import HtmlWalker, main_content

        soup = BeautifulSoup(_source(path), "lxml")
        title = _title(soup)
        builder = TextBuilder()
        HtmlWalker(builder).walk(main_content(soup, self._settings.content, self._settings.remove))
        return builder.document(doc_id, title)


def _title(soup: BeautifulSoup) -> str:
    return squeeze(soup.title.get_text()) if soup.title else ""
