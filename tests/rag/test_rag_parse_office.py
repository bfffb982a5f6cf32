"""Parsers of PowerPoint and Excel files, and the glue to Docling."""

from __future__ import annotations

import datetime
import sys
import textwrap
from pathlib import Path

import pytest
from ragladder.core.components import Resources
from ragladder.core.errors import DataError, MissingExtra
from ragladder.core.types import Document
from ragladder.rag.parse import ParseSettings, corpus_identity
from ragladder.rag.parse.docling import DoclingSettings
from ragladder.rag.parse.pptx import PptxPlainSettings, PptxSettings
from ragladder.rag.parse.xlsx import XlsxRecordsSettings, XlsxTableSettings

RESOURCES = Resources(env={})


def parse(settings, path: Path) -> Document:
    return settings.build(RESOURCES).parse(str(path), path.name)


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    parts = book.active
    parts.title = "Parts"
    parts.append(["Spare parts 2026"])
    parts.append(["Code", "Price", None, "Since", "Share"])
    parts.append(["WF-20-118", 12.5, None, datetime.datetime(2026, 3, 1), 0.25])
    parts["E3"].number_format = "0.0%"
    parts.append(["WF|9", 7, None, datetime.datetime(2026, 3, 1, 9, 30), True])
    parts.append([])
    parts.append(["Ask", "Nightjar"])
    parts.append(["Tel", "0.1"])
    people = book.create_sheet("People")
    people.append(["Name"])
    people.append(["Ada"])
    secret = book.create_sheet("Secret")
    secret.append(["hidden words"])
    secret.sheet_state = "hidden"
    book.create_sheet("Empty")
    book.save(tmp_path / "price_list.xlsx")
    return tmp_path / "price_list.xlsx"


def test_sheets_are_sections_and_blocks_of_rows_tables(workbook: Path) -> None:
    document = parse(XlsxTableSettings(), workbook)
    assert document.text.split("\n\n") == [
        "# Parts",
        "Spare parts 2026",
        "| Code | Price | Since | Share |\n|---|---|---|---|\n"
        "| WF-20-118 | 12.5 | 2026-03-01 | 25% |\n| WF\\|9 | 7 | 2026-03-01 09:30 | TRUE |",
        "| Ask | Nightjar |\n|---|---|\n| Tel | 0.1 |",
        "# People",
        "| Name |\n|---|\n| Ada |",
    ]
    assert [section.path for section in document.sections] == [("Parts",), ("People",)]
    assert (document.title, document.metadata["sheets"]) == ("price list", "2")


def test_rows_as_records_name_their_columns(workbook: Path) -> None:
    document = parse(XlsxRecordsSettings(hidden=True), workbook)
    assert "Code: WF-20-118; Price: 12.5; Since: 2026-03-01; Share: 25%" in document.text.split("\n\n")
    assert "Name: Ada" in document.text and "hidden words" in document.text


def test_a_lone_sheet_needs_no_heading(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.properties.title = "Prices"
    book.save(tmp_path / "x.xlsx")
    document = parse(XlsxTableSettings(), tmp_path / "x.xlsx")
    assert (document.text, document.title, document.sections) == ("| a | b |\n|---|---|", "Prices", ())


def test_what_is_no_workbook_is_a_data_error(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    (tmp_path / "a.xlsx").write_text("no workbook")
    with pytest.raises(DataError, match="not an Excel workbook"):
        parse(XlsxTableSettings(), tmp_path / "a.xlsx")
    (tmp_path / "a.xlsx").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + b"x" * 600)
    with pytest.raises(DataError, match="encrypted or an old .xls"):
        parse(XlsxTableSettings(), tmp_path / "a.xlsx")
    openpyxl.Workbook().save(tmp_path / "empty.xlsx")
    with pytest.raises(DataError, match="no text"):
        parse(XlsxTableSettings(), tmp_path / "empty.xlsx")


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    pptx = pytest.importorskip("pptx")
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = pptx.Presentation()
    opening = deck.slides.add_slide(deck.slide_layouts[0])
    opening.shapes.title.text = "Nest  care"
    opening.placeholders[1].text = "For field engineers"
    body = deck.slides.add_slide(deck.slide_layouts[1])
    body.shapes.title.text = "Preen"
    frame = body.placeholders[1].text_frame
    frame.text = "Wipe the seals"
    added = frame.add_paragraph()
    added.text, added.level = "with water", 1
    body.notes_slide.notes_text_frame.text = "Takes 12 minutes."
    free = deck.slides.add_slide(deck.slide_layouts[6])
    low = free.shapes.add_textbox(Inches(1), Inches(5), Inches(2), Inches(1))
    low.text_frame.text = "below"
    for left, words in ((5, "right"), (1, "left")):
        box = free.shapes.add_textbox(Inches(left), Inches(1), Inches(2), Inches(1))
        box.text_frame.text = words
    group = free.shapes.add_group_shape()
    inner = group.shapes.add_textbox(Inches(1), Inches(3), Inches(2), Inches(1))
    inner.text_frame.text = "grouped"
    table = free.shapes.add_table(2, 2, Inches(1), Inches(6), Inches(4), Inches(1)).table
    for at, words in enumerate(["Code", "Meaning", "E-417", "tilt"]):
        table.cell(at // 2, at % 2).text = words
    data = CategoryChartData()
    data.categories = ["Q1", "Q2"]
    data.add_series("Moults", (3, 4.5))
    free.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(7), Inches(4), Inches(2), data)
    gone = deck.slides.add_slide(deck.slide_layouts[5])
    gone.shapes.title.text = "Hidden slide"
    gone._element.set("show", "0")
    deck.save(tmp_path / "deck.pptx")
    return tmp_path / "deck.pptx"


def test_slides_are_pages_and_sections_read_from_top_to_bottom(deck: Path) -> None:
    document = parse(PptxSettings(), deck)
    assert document.text.split("\n\n") == [
        "# Nest care",
        "For field engineers",
        "## Preen",
        "- Wipe the seals\n  - with water",
        "Notes: Takes 12 minutes.",
        "left",
        "right",
        "grouped",
        "below",
        "| Code | Meaning |\n|---|---|\n| E-417 | tilt |",
        "|  | Moults |\n|---|---|\n| Q1 | 3 |\n| Q2 | 4.5 |",
    ]
    assert document.title == "Nest care"
    assert [section.path for section in document.sections] == [("Nest care",), ("Nest care", "Preen")]
    assert [document.text[start:].split("\n")[0] for start in document.pages] == ["# Nest care", "## Preen", "left"]


def test_notes_can_be_left_out_and_hidden_slides_read(deck: Path) -> None:
    text = parse(PptxSettings(notes=False, hidden=True), deck).text
    assert "12 minutes" not in text and "## Hidden slide" in text


def test_plain_slides_have_no_structure(deck: Path) -> None:
    document = parse(PptxPlainSettings(), deck)
    assert document.sections == () and "Wipe the seals\nwith water" in document.text and "E-417" not in document.text


def test_what_is_no_deck_is_a_data_error(tmp_path: Path) -> None:
    pytest.importorskip("pptx")
    (tmp_path / "a.pptx").write_text("no deck")
    with pytest.raises(DataError, match="not a PowerPoint file"):
        parse(PptxSettings(), tmp_path / "a.pptx")


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PptxSettings, "libraries", ("no-such-package",))
    (tmp_path / "a.pptx").write_text("x")
    with pytest.raises(MissingExtra, match="'no-such-package' is needed"):
        corpus_identity(tmp_path, ParseSettings(), RESOURCES)


DOCLING = {
    "__init__": "",
    "exceptions": "class ConversionError(RuntimeError): ...",
    "datamodel/__init__": "",
    "datamodel/base_models": "class InputFormat:\n    PDF = 'pdf'",
    "datamodel/pipeline_options": """
        import enum
        from types import SimpleNamespace
        class TableFormerMode(str, enum.Enum):
            ACCURATE = "accurate"
            FAST = "fast"
        class PdfPipelineOptions:
            def __init__(self, artifacts_path=None):
                self.artifacts_path, self.table_structure_options = artifacts_path, SimpleNamespace(mode=None)
    """,
    "document_converter": """
        from types import SimpleNamespace
        from .exceptions import ConversionError
        class PdfFormatOption:
            def __init__(self, pipeline_options):
                self.pipeline_options = pipeline_options
        class DocumentConverter:
            def __init__(self, format_options):
                self.options = format_options["pdf"].pipeline_options
            def convert(self, path):
                if "bad" in path:
                    raise ConversionError("no pages")
                return SimpleNamespace(document=self)
            def export_to_markdown(self, escape_underscores, image_placeholder, page_break_placeholder):
                mode = self.options.table_structure_options.mode
                mode = mode.value if mode else "none"
                return f"# Top\\n\\nocr {self.options.do_ocr}\\n\\n\\f\\n\\n## Second\\n\\ntables {mode}\\n"
    """,
}


@pytest.fixture
def fake_docling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the names of Docling's API that the parser uses."""
    for name, source in DOCLING.items():
        file = tmp_path / "site" / "docling" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "docling"]:
        del sys.modules[name]


def test_docling_gives_sections_and_pages(fake_docling, tmp_path: Path) -> None:
    document = parse(DoclingSettings(tables="fast", ocr=True), tmp_path / "a.pdf")
    assert document.text == "# Top\n\nocr True\n\n## Second\n\ntables fast"
    assert [section.path for section in document.sections] == [("Top",), ("Top", "Second")]
    assert [document.text[start:].split("\n")[0] for start in document.pages] == ["# Top", "## Second"]
    with pytest.raises(DataError, match="Docling cannot read it"):
        parse(DoclingSettings(), tmp_path / "bad.pdf")
    assert DoclingSettings(models="x").identity(RESOURCES) == DoclingSettings().identity(RESOURCES)


def test_without_docling_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docling", None)
    for step in (DoclingSettings().build, DoclingSettings().identity):
        with pytest.raises(MissingExtra, match=r"ragladder\[parse\]"):
            step(RESOURCES)
