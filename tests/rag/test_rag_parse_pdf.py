"""PDF parsers, on files that the tests draw."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import reportlab
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.types import Document
from ragladder.rag.parse.pdf import PdfPlumberSettings, Pypdfium2Settings, PypdfSettings
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

RESOURCES = Resources(env={})
LEFT, RIGHT, TOP = 60, 310, 760


def draw(path: Path, *pages: Callable[[Canvas], None], encrypt: str | None = None) -> Path:
    buffer = io.BytesIO()
    security = StandardEncryption(encrypt, strength=128) if encrypt else None
    canvas = Canvas(buffer, pagesize=A4, invariant=1, encrypt=security)
    for number, page in enumerate(pages, 1):
        canvas.setFont("Helvetica", 8)
        canvas.drawString(LEFT, 810, "Wrenfield internal")
        canvas.drawString(LEFT, 25, f"Page {number} of {len(pages)}")
        canvas.setFont("Helvetica", 10)
        page(canvas)
        canvas.showPage()
    canvas.save()
    path.write_bytes(buffer.getvalue())
    return path


def lines(canvas: Canvas, x: float, y: float, texts: list[str], size: float = 10, font: str = "Helvetica") -> float:
    canvas.setFont(font, size)
    for text in texts:
        canvas.drawString(x, y, text)
        y -= size * 1.2
    return y


def parse(settings, path: Path) -> Document:
    return settings.build(RESOURCES).parse(str(path), path.name)


def columns(canvas: Canvas) -> None:
    lines(canvas, LEFT, TOP, ["Thermals plan for the busy part of the year, all depots"], 18, "Helvetica-Bold")
    left = [f"left line {number} goes on with some more words" for number in range(1, 9)]
    left[3] = "left line 4 is about the replace-"
    left[4] = "ment of a part and about well-known"
    right = [f"right line {number} goes on with some more words" for number in range(1, 9)]
    for number in range(8):  # drawn across the columns, as some writers do
        lines(canvas, LEFT, TOP - 40 - 12 * number, [left[number]])
        lines(canvas, RIGHT, TOP - 40 - 12 * number, [right[number]])


def test_two_columns_are_read_one_after_the_other(tmp_path) -> None:
    document = parse(PdfPlumberSettings(), draw(tmp_path / "a.pdf", columns))
    assert document.text.startswith("# Thermals plan for the busy part of the year, all depots\n\nleft line 1")
    assert document.text.index("left line 8") < document.text.index("right line 1")
    assert "the replacement of a part" in document.text
    across = parse(PdfPlumberSettings(columns=False), tmp_path / "a.pdf").text
    assert across.index("right line 1") < across.index("left line 2")


def with_table(canvas: Canvas) -> None:
    lines(canvas, LEFT, TOP, ["Codes"], 16, "Helvetica-Bold")
    lines(canvas, LEFT, TOP - 25, ["All that the console may show."])
    rows = [("Code", "Meaning", "Action"), ("E-1", "plate", "ask"), ("E-2", "tilt of the", "send two")]
    for at, row in enumerate(rows):
        for column, text in enumerate(row):
            canvas.rect(LEFT + 100 * column, TOP - 80 - 30 * at, 100, 30)
            lines(canvas, LEFT + 100 * column + 4, TOP - 62 - 30 * at, [text])
    lines(canvas, LEFT + 104, TOP - 134, ["cabinet"])
    lines(canvas, LEFT, TOP - 180, ["Below the table."])


TABLE = "| Code | Meaning | Action |\n|---|---|---|\n| E-1 | plate | ask |\n| E-2 | tilt of the cabinet | send two |"


def test_ruled_tables_are_tables(tmp_path) -> None:
    path = draw(tmp_path / "a.pdf", with_table)
    assert parse(PdfPlumberSettings(), path).text == (
        f"# Codes\n\nAll that the console may show.\n\n{TABLE}\n\nBelow the table."
    )
    assert "|" not in parse(PdfPlumberSettings(tables=False), path).text


def first_page(canvas: Canvas) -> None:
    y = lines(canvas, LEFT, TOP, ["Manual"], 18, "Helvetica-Bold")
    y = lines(canvas, LEFT, y - 6, ["The round"], 13, "Helvetica-Bold")
    y = lines(canvas, LEFT, y - 6, ["Work from the top down and from", "left to right."])
    y = lines(canvas, LEFT, y - 8, ["\u2022 Look at every door."])
    y = lines(canvas, LEFT + 20, y, ["\u2022 With a torch."])
    y = lines(canvas, LEFT, y, ["\u2022 Wipe the sensors with the brush,"])
    y = lines(canvas, LEFT + 8, y, ["two strokes."])
    y = lines(canvas, LEFT, y - 10, ["Notes"], 10, "Helvetica-Bold")
    lines(canvas, LEFT, 90, ["A sentence that goes on", "over the end of the"])


def second_page(canvas: Canvas) -> None:
    y = lines(canvas, LEFT, TOP, ["page and stops here."])
    lines(canvas, LEFT, y - 8, ["A new paragraph."])


def test_headings_lists_and_text_over_a_page_end(tmp_path) -> None:
    document = parse(PdfPlumberSettings(), draw(tmp_path / "a.pdf", first_page, second_page))
    assert document.text == "\n\n".join(
        [
            "# Manual",
            "## The round",
            "Work from the top down and from left to right.",
            "- Look at every door.\n  - With a torch.\n- Wipe the sensors with the brush, two strokes.",
            "### Notes",
            "A sentence that goes on over the end of the page and stops here.",
            "A new paragraph.",
        ]
    )
    assert document.pages == (0, document.text.index("A new paragraph."))
    assert document.heading_path(document.text.index("stops")) == ("Manual", "The round", "Notes")


def test_running_headers_and_page_numbers_go_unless_asked_for(tmp_path) -> None:
    path = draw(tmp_path / "a.pdf", first_page, second_page)
    assert "internal" not in parse(PdfPlumberSettings(), path).text
    kept = parse(PdfPlumberSettings(running_headers=True), path).text
    assert kept.count("Wrenfield internal") == 2 and "Page 2 of 2" in kept
    one = parse(PdfPlumberSettings(), draw(tmp_path / "b.pdf", second_page)).text
    assert "internal" not in one and "Page" not in one, "small print at the edge of a single page"


@pytest.mark.parametrize("settings", [PypdfSettings(), Pypdfium2Settings()])
def test_plain_parsers_keep_headers_and_have_no_sections(tmp_path, settings) -> None:
    document = parse(settings, draw(tmp_path / "a_b.pdf", first_page, second_page))
    assert "Wrenfield internal" in document.text and "left to right." in document.text
    assert document.sections == () and len(document.pages) == 2 and document.title == "a b"
    assert document.text[document.pages[1] :].split("\n")[0].startswith(("Wrenfield", "Page 2", "page and"))


PARSERS = [PdfPlumberSettings(), PypdfSettings(), Pypdfium2Settings()]


@pytest.mark.parametrize("settings", PARSERS)
def test_pages_without_text_encrypted_and_damaged_files_are_data_errors(tmp_path, settings) -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    canvas.rect(100, 100, 50, 50)
    canvas.showPage()
    canvas.save()
    (tmp_path / "scan.pdf").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="run OCR"):
        parse(settings, tmp_path / "scan.pdf")
    with pytest.raises(DataError, match="encrypted"):
        parse(settings, draw(tmp_path / "secret.pdf", second_page, encrypt="word"))
    (tmp_path / "bad.pdf").write_bytes(b"this is no PDF")
    with pytest.raises(DataError, match="not a PDF file"):
        parse(settings, tmp_path / "bad.pdf")


def test_a_table_that_goes_on_over_the_page_is_one_table(tmp_path) -> None:
    def part(*rows: tuple[str, str]) -> Callable[[Canvas], None]:
        def page(canvas: Canvas) -> None:
            for at, row in enumerate([("Code", "Meaning"), *rows]):
                for column, text in enumerate(row):
                    canvas.rect(LEFT + 100 * column, TOP - 30 * at, 100, 30)
                    lines(canvas, LEFT + 100 * column + 4, TOP + 10 - 30 * at, [text])

        return page

    def last(canvas: Canvas) -> None:
        part(("E-3", "dip"))(canvas)
        lines(canvas, LEFT, TOP - 80, ["Below."])

    document = parse(PdfPlumberSettings(), draw(tmp_path / "a.pdf", part(("E-1", "plate"), ("E-2", "tilt")), last))
    table = "| Code | Meaning |\n|---|---|\n| E-1 | plate |\n| E-2 | tilt |\n| E-3 | dip |"
    assert document.text == f"{table}\n\nBelow."
    assert document.pages == (0, document.text.index("Below."))


@pytest.mark.parametrize(
    ("above", "below", "joined"),
    [
        ("the sensors are dilu-", "ted with water", "diluted with"),
        ("it is well-known, and well-", "known things stay", "well-known things"),
        ("order the part WF-20-", "118 from stock", "WF-20-118 from"),
        ("a hyphen that is soft, Wie\u00ad", "DERHOLUNG", "WieDERHOLUNG"),
    ],
)
def test_hyphens_at_line_ends(tmp_path, above: str, below: str, joined: str) -> None:
    # The standard fonts have no soft hyphen.
    font = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
    pdfmetrics.registerFont(TTFont("Vera", str(font)))
    path = draw(tmp_path / "a.pdf", lambda canvas: lines(canvas, LEFT, TOP, [above, below], font="Vera"))
    assert joined in parse(PdfPlumberSettings(), path).text
