"""Parsers of Markdown, HTML, Word, CSV and plain text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.types import Document
from ragladder.rag.parse.csv import CsvRecordsSettings, CsvTableSettings
from ragladder.rag.parse.docx import DocxPlainSettings, DocxSettings
from ragladder.rag.parse.html import HtmlPlainSettings, HtmlSettings, TrafilaturaSettings
from ragladder.rag.parse.markdown import MarkdownPlainSettings, MarkdownSettings
from ragladder.rag.parse.text import TextSettings

RESOURCES = Resources(env={})


def parse(settings, path: Path, data: str | bytes | None = None) -> Document:
    if data is not None:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    document = settings.build(RESOURCES).parse(str(path), path.name)
    for section in document.sections:
        assert section.path[-1] in re.sub(r"[*`]", "", document.text[section.start :].split("\n")[0])
        assert 0 <= section.start < section.end <= len(document.text)
    return document


MARKDOWN = """---
title: Spec sheet
version: 011
tags: [a, b]
---
# Spec `N4` *sheet*

Intro.

## Weight

142 kg.

```
# not a heading
```

### Details

- a list
- # no heading of the document

Size
----

Small.
"""


def test_markdown_sections_and_front_matter(tmp_path) -> None:
    document = parse(MarkdownSettings(), tmp_path / "a.md", MARKDOWN)
    assert document.title == "Spec N4 sheet" and document.text.startswith("# Spec `N4`")
    assert document.metadata["version"] == "011" and document.metadata["encoding"] == "utf-8"
    top = ("Spec N4 sheet",)
    assert [section.path for section in document.sections] == [
        top,
        (*top, "Weight"),
        (*top, "Weight", "Details"),
        (*top, "Size"),
    ]
    assert document.heading_path(document.text.index("142 kg")) == (*top, "Weight")
    assert document.heading_path(document.text.index("Small.")) == (*top, "Size")


def test_front_matter_that_is_not_quite_yaml_is_still_none_of_the_text(tmp_path) -> None:
    document = parse(MarkdownSettings(), tmp_path / "a.md", "---\ntitle: Jackdaw: notes\n---\nText.")
    assert (document.text, document.title) == ("Text.", "Jackdaw: notes")
    rule = "---\nno front matter\n---\n\nText."
    assert parse(MarkdownSettings(), tmp_path / "b.md", rule).text == rule


def test_markdown_line_ends_do_not_shift_offsets(tmp_path) -> None:
    document = parse(MarkdownSettings(), tmp_path / "a.md", "Ä\r\n\r\n# Top\r\n\r\ntext\r\n")
    assert document.text == "Ä\n\n# Top\n\ntext" and document.sections[0].start == 3


def test_plain_markdown_keeps_everything(tmp_path) -> None:
    document = parse(MarkdownPlainSettings(), tmp_path / "spec_sheet.md", MARKDOWN)
    assert document.text == MARKDOWN.strip() and document.sections == () and document.title == "spec sheet"


PAGE = """<!DOCTYPE html><html><head><title>Restart | Intranet</title><style>p{}</style></head><body>
<div class="cookie-banner">We use cookies.</div>
<header class="top"><a href="/">Home</a></header>
<nav><ul><li><a href="/a">All pages</a></li></ul></nav>
<aside class="sidebar"><h2>Related</h2><p>Something else</p></aside>
<main><div class="breadcrumb">Home &rsaquo; Library</div>
<article><header><h1>Restart   a <em>nest</em></h1></header>
<p>Hold the <strong>restart pin</strong><br>for 12&nbsp;seconds.</p>
<h2>Steps</h2>
<ol start="3"><li>Open it.<ul><li>Left</li><li>Right</li></ul></li><li><p>Close it.</p></li></ol>
<h2>Codes</h2>
<table><caption>All codes</caption><tr><th>Code</th><th colspan="2">Meaning</th></tr>
<tr><td rowspan="2">E-1</td><td>a | b</td><td>c</td></tr><tr><td>d</td><td>e</td></tr></table>
<pre>snf soak
  start</pre>
<dl><dt>Nest</dt><dd>A cabinet</dd></dl>
<blockquote><p>Never do it.</p></blockquote>
<div>Loose <b>words</b> <div>and a block</div> after</div>
</article><div class="feedback">Was this useful?</div></main>
<footer>Legal notes</footer><script>var x = "script"</script></body></html>"""


def test_html_keeps_the_main_content_with_its_structure(tmp_path) -> None:
    document = parse(HtmlSettings(), tmp_path / "a.html", PAGE)
    assert document.text == "\n\n".join(
        [
            "# Restart a nest",
            "Hold the restart pin for 12 seconds.",
            "## Steps",
            "3. Open it.\n  - Left\n  - Right\n4. Close it.",
            "## Codes",
            "All codes",
            "| Code | Meaning |  |\n|---|---|---|\n| E-1 | a \\| b | c |\n|  | d | e |",
            "```\nsnf soak\n  start\n```",
            "- Nest: A cabinet",
            "> Never do it.",
            "Loose words",
            "and a block",
            "after",
        ]
    )
    assert document.title == "Restart a nest"
    assert document.heading_path(document.text.index("E-1")) == ("Restart a nest", "Codes")


def test_html_selectors_choose_and_remove(tmp_path) -> None:
    document = parse(HtmlSettings(content="aside", remove=("aside p",)), tmp_path / "a.html", PAGE)
    assert document.text == "## Related"
    with pytest.raises(DataError, match="nothing in it fits the selector 'section.none'"):
        parse(HtmlSettings(content="section.none"), tmp_path / "a.html")
    with pytest.raises(DataError, match="not a valid CSS selector"):
        parse(HtmlSettings(content="a["), tmp_path / "a.html")


def test_html_without_main_loses_its_surroundings_but_never_most_of_its_text(tmp_path) -> None:
    text = "The locker has twelve doors and one screen. " * 5
    page = f"<body><nav>Menu</nav><div class='page-sidebar-left'><p>{text}</p></div><footer>Legal</footer></body>"
    assert parse(HtmlSettings(), tmp_path / "a.html", page).text == text.strip()


def test_html_in_another_encoding(tmp_path) -> None:
    page = "<html><head><meta charset='iso-8859-1'></head><body><p>Größe: 3 €</p></body></html>"
    document = parse(HtmlSettings(), tmp_path / "a.html", page.encode("cp1252"))
    assert document.text.startswith("Größe")


def test_plain_html_keeps_the_navigation_and_loses_the_rows(tmp_path) -> None:
    document = parse(HtmlPlainSettings(), tmp_path / "a.html", PAGE)
    for words in ("All pages", "Legal notes", "We use cookies.", "restart pin"):
        assert words in document.text
    assert "script" not in document.text and "|" not in document.text.replace("a | b", "").replace("Restart | I", "")
    assert document.sections == ()


def test_trafilatura_gives_the_main_text_with_sections(tmp_path) -> None:
    words = "The nest is a cabinet with doors, and the depot fills it every morning before eight. "
    page = f"""<html><head><title>T</title></head><body><nav><a href='/x'>Menu entry</a></nav>
    <main><article><h1>Top</h1><p>{words * 3}</p><h2>Below</h2><p>{words * 2}</p></article></main>
    <footer>Legal notes</footer></body></html>"""
    document = parse(TrafilaturaSettings(), tmp_path / "a.html", page)
    assert words.strip() in document.text and "Menu entry" not in document.text
    assert [section.path[-1] for section in document.sections] == ["Top", "Below"]
    with pytest.raises(DataError, match="trafilatura found no main text"):
        parse(TrafilaturaSettings(), tmp_path / "b.html", "<html><body></body></html>")


def make_docx(path: Path) -> None:
    import docx

    file = docx.Document()
    file.core_properties.title = "File title"
    file.add_heading("Roost day", 0)
    file.add_paragraph("Everybody\nstands.")
    file.add_heading("Order", 1)
    for text, style in [("Safety", "List Number"), ("Numbers", "List Number"), ("detail", "List Bullet 2")]:
        file.add_paragraph(text, style=style)
    file.add_paragraph("Then go.")
    file.add_paragraph("Again", style="List Number")
    table = file.add_table(rows=3, cols=2)
    for row, texts in zip(table.rows, [("Mode", "Speed"), ("Dawn", "5,400"), ("both", "")], strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    table.cell(2, 0).merge(table.cell(2, 1))
    file.sections[0].header.paragraphs[0].text = "running header"
    file.save(str(path))


def test_docx_headings_lists_and_tables(tmp_path) -> None:
    make_docx(tmp_path / "a.docx")
    document = parse(DocxSettings(), tmp_path / "a.docx")
    assert document.text == "\n\n".join(
        [
            "# Roost day",
            "Everybody stands.",
            "# Order",
            "1. Safety\n2. Numbers\n  - detail",
            "Then go.",
            "1. Again",
            "| Mode | Speed |\n|---|---|\n| Dawn | 5,400 |\n| both |  |",
        ]
    )
    assert document.title == "Roost day"
    plain = parse(DocxPlainSettings(), tmp_path / "a.docx")
    assert "Dawn" not in plain.text and "Then go." in plain.text and plain.title == "File title"


def test_docx_that_is_none(tmp_path) -> None:
    with pytest.raises(DataError, match="not a Word file"):
        parse(DocxSettings(), tmp_path / "a.docx", b"PK\x03\x04 nonsense")
    with pytest.raises(DataError, match="encrypted or an old .doc file"):
        parse(DocxSettings(), tmp_path / "b.docx", bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600)


def test_csv_rows_as_a_table_or_as_records(tmp_path) -> None:
    data = 'code;name;"first action"\nE-1;Tilt, strong;"Call\nthem"\n\n;;\nE-2;a|b;\n'
    table = parse(CsvTableSettings(), tmp_path / "error_codes.csv", data)
    assert table.text.split("\n") == [
        "| code | name | first action |",
        "|---|---|---|",
        "| E-1 | Tilt, strong | Call them |",
        "| E-2 | a\\|b |  |",
    ]
    assert table.title == "error codes" and table.metadata["rows"] == "2"
    records = parse(CsvRecordsSettings(), tmp_path / "error_codes.csv")
    assert records.text == "code: E-1; name: Tilt, strong; first action: Call them\n\ncode: E-2; name: a|b"


def test_csv_of_one_column_and_damaged_csv(tmp_path) -> None:
    assert parse(CsvTableSettings(), tmp_path / "a.csv", "name\nTilt").text == "| name |\n|---|\n| Tilt |"
    with pytest.raises(DataError, match="not valid CSV"):
        parse(CsvTableSettings(), tmp_path / "b.csv", 'a,b\n"c"d,e\n')


@given(st.lists(st.lists(st.text("ab |,;\n", max_size=5), min_size=2, max_size=2), min_size=1, max_size=5))
def test_csv_table_keeps_every_cell(rows: list[list[str]]) -> None:
    import csv
    import io

    from ragladder.rag.parse._base import markdown_table

    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    lines = markdown_table(rows).split("\n")
    kept = [[" ".join(cell.split()) for cell in row] for row in rows]
    kept = [row for row in kept if any(row)]
    assert len(lines) == (len(kept) + 1 if kept else 1)
    for row, line in zip(kept, [lines[0], *lines[2:]], strict=False):
        assert [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] == row


TEXT = """PREEN MANUAL
============

For all sites, 2025.

HOW OFTEN

Every 16 weeks.
On two lines.

Kit
---

E-417

DO NOT SHOUT!
"""


def test_text_headings_are_lines_in_capitals_or_underlined(tmp_path) -> None:
    document = parse(TextSettings(), tmp_path / "a.txt", TEXT)
    assert document.text == (
        "# PREEN MANUAL\n\nFor all sites, 2025.\n\n## HOW OFTEN\n\nEvery 16 weeks.\nOn two lines.\n\n### Kit\n\nE-417"
        "\n\nDO NOT SHOUT!"
    )
    assert document.heading_path(document.text.index("E-417")) == ("PREEN MANUAL", "HOW OFTEN", "Kit")
    assert parse(TextSettings(headings=False), tmp_path / "a.txt").text == TEXT.strip()


LONG = "Der Schlüssel fürs Gerät hängt über der Tür, und für größere Störungen gibt es einen zweiten. " * 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_any_usual_encoding(tmp_path, encoding: str) -> None:
    document = parse(TextSettings(), tmp_path / "a.txt", LONG.encode(encoding))
    assert document.text == LONG.strip()


def test_text_in_the_encoding_that_is_named(tmp_path) -> None:
    assert parse(TextSettings(encoding="cp1252"), tmp_path / "a.txt", b"3 \x80").text == "3 €"
    with pytest.raises(DataError, match="cannot be read as ascii"):
        parse(TextSettings(encoding="ascii"), tmp_path / "a.txt")
    with pytest.raises(DataError, match="unknown encoding"):
        parse(TextSettings(encoding="klingon"), tmp_path / "a.txt")


@pytest.mark.parametrize("data", [b"", b" \n\n ", b"abc\0def"])
def test_text_that_is_none(tmp_path, data: bytes) -> None:
    with pytest.raises(DataError, match="empty|zero bytes"):
        parse(TextSettings(), tmp_path / "a.txt", data)


def test_identity_names_the_libraries_that_decide_the_result() -> None:
    identity = HtmlSettings().identity(RESOURCES)
    assert identity["kind"] == "structural" and set(identity["libraries"]) == {"beautifulsoup4", "lxml"}
    assert HtmlSettings(content="main").identity(RESOURCES) != identity
