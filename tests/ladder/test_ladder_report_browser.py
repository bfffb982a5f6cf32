"""The report in headless Chromium: skipped where there is none. axe-core is looked for at $AXE_CORE."""

from __future__ import annotations

import importlib.util
import io
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ragladder.ladder.compare import compare_runs
from ragladder.ladder.report import build_comparison, build_report
from report_run import EVIL, GOLD, write_run

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("ragladder_browser", HERE.parents[1] / "docs" / "images" / "browser.py")
assert spec is not None and spec.loader is not None
browser_module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(browser_module)
CHROMIUM = browser_module.find_chromium()
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium, or set $CHROMIUM")
SIZES = ({}, {"dark": True}, {"width": 390, "height": 844, "phone": True})
ROWS = "[...document.querySelectorAll('#q-body tr.q')]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browser_module.Browser(CHROMIUM) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages to look at, by kind."""
    root = tmp_path_factory.mktemp("pages")
    folders = [write_run(root / name, 120) for name in ("first", "second")]
    compared = build_comparison(folders, [compare_runs(*folders)], root / "compare.html")
    return {"report": build_report(folders[0]), "compare": compared}


@pytest.fixture
def page(browser: Any, pages: dict[str, Path]) -> Any:
    return browser.open(pages["report"])


def choose(page: Any, select: str, value: str) -> None:
    put = f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('change')); }})"
    page.run(f"{put}(document.getElementById({select!r}))")


def search(page: Any, words: str) -> None:
    put = f"(e => {{ e.value = {words!r}; e.dispatchEvent(new Event('input')); }})"
    page.run(f"{put}(document.getElementById('f-search'))")
    page.wait("document.getElementById('q-count').textContent.startsWith('1 of 120')")


@pytest.mark.parametrize("kind", ["report", "compare"])
@pytest.mark.parametrize("size", SIZES, ids=["desktop", "dark", "phone"])
def test_it_loads_in_peace(browser: Any, pages: dict[str, Path], kind: str, size: dict[str, Any]) -> None:
    page = browser.open(pages[kind], **size)
    assert page.troubles() == []
    assert page.requests() == []
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), "the page must not scroll sideways"
    assert page.run(f"{ROWS}.length") == 50


ZOOMS = "document.querySelectorAll('button.zoom.ready')"
DRAWN = "document.getElementById('zoomed-chart').dataset.drawn"


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "dark", "phone"])
def test_every_chart_opens_in_plotly_and_asks_nobody(
    browser: Any, pages: dict[str, Path], size: dict[str, Any]
) -> None:
    page = browser.open(pages["report"], **size)
    titles = []
    for number in range(page.run(f"{ZOOMS}.length")):
        page.run(f"{ZOOMS}[{number}].click()")
        page.wait(f"{DRAWN} === {ZOOMS}[{number}].dataset.title")
        titles.append(page.run(DRAWN))
        assert page.run("document.querySelectorAll('#zoomed-chart .trace, #zoomed-chart .boxlayer').length") > 0
        assert page.run("document.querySelectorAll('#zoomed-chart [data-attr=sendChartToCloud]').length") == 0
        shared = "[...document.querySelectorAll('.modebar-btn')].filter(b => b.dataset.title.startsWith('Share'))"
        assert page.run(f"{shared}.length") == 0
        if number == 0:  # the picture that its button saves
            picture = (
                "Plotly.toImage(document.getElementById('zoomed-chart'), {format: 'png', width: 400, height: 300})"
            )
            assert page.run(picture).startswith("data:image/png;base64,")
        page.press("Escape", 27)
        page.wait("!document.getElementById('zoomed').open")
    assert {"The ladder", "Training, Embedding finetuning"} <= set(titles) and len(titles) > 4
    assert page.troubles() == [] and page.requests() == []


def test_a_click_on_a_value_keeps_the_trials_that_have_it(page: Any) -> None:
    lines = f"[...{ZOOMS}].find(b => b.dataset.title.startsWith('All trials'))"
    page.run(f"{lines}.click()")
    page.wait(f"{DRAWN} === {lines}.dataset.title")
    figure = f"JSON.parse({lines}.nextElementSibling.textContent)"
    knob, value = page.run(f"{figure}.layout.meta[0]")
    page.run("document.getElementById('zoomed-chart').emit('plotly_clickannotation', {index: 0})")
    seen = page.run("document.getElementById('zoomed-chart').data.map(d => [d.meta, d.opacity])")
    assert {point[knob] for point, opacity in seen if opacity == 1} == {value}
    assert all((opacity == 1) == (point[knob] == value) for point, opacity in seen)
    assert len({opacity for _, opacity in seen}) == 2


def test_filters_and_their_counts(page: Any) -> None:
    choose(page, "f-split", "dev")
    assert page.run("document.getElementById('q-count').textContent").startswith("40 of 120 questions")
    choose(page, "f-change", "worse")
    shown = page.run(f"{ROWS}.map(tr => parseFloat(tr.cells[5].textContent.replace('−', '-')))")
    assert shown and all(change < 0 for change in shown)
    choose(page, "f-split", "")
    choose(page, "f-change", "")
    search(page, "locker no. 37,")
    assert "q-037" in page.run(f"{ROWS}[0].textContent")


def test_the_largest_losses_lead(page: Any) -> None:
    changes = page.run(f"{ROWS}.map(tr => parseFloat(tr.cells[5].textContent.replace('−', '-')))")
    losses = [change for change in changes if change < 0]
    gains = [change for change in changes if change > 0]
    assert losses and gains and changes == sorted(losses) + sorted(gains, reverse=True)
    page.run("document.querySelector('#q-head [data-key=delta]').click()")
    changes = page.run(f"{ROWS}.map(tr => parseFloat(tr.cells[5].textContent.replace('−', '-')))")
    assert changes[0] > 0 and changes == sorted(changes, reverse=True)


def test_a_row_opens_by_keyboard_and_shows_everything(page: Any) -> None:
    search(page, "q-000")
    assert page.run(f"{ROWS}[0].querySelector('button').firstChild.data") == EVIL
    page.run(f"{ROWS}[0].querySelector('button').focus()")
    page.press("Enter", 13, "\r")
    page.wait("document.querySelector('.detail .arm')")
    assert page.run("document.querySelector('.detail mark').textContent") == GOLD
    assert page.run("document.querySelectorAll('.detail .arm').length") == 4
    opened = "[...document.querySelectorAll('.detail .passages')].map(d => [d.open, d.firstChild.textContent])"
    after = page.run("document.getElementById('f-to').selectedOptions[0].textContent")
    named = [(name, is_open) for is_open, name in page.run(opened)]
    assert len(named) == 4 and [name for name, is_open in named if is_open] == [
        f"{after}: 2 passages, 1 with gold evidence"
    ]
    claims = "[...document.querySelectorAll('.detail .verdicts li')]"
    verdicts = page.run(f"{claims}.map(li => [li.className, li.textContent])")
    assert [name for name, _ in verdicts] == ["", "no"]  # the baseline's two claims
    assert "claim 1 <i>" in verdicts[1][1] and "not in the text" in verdicts[1][1]
    assert page.run("document.querySelectorAll('.detail i, .detail b:not(.num)').length") == 0
    page.press("Enter", 13, "\r")
    assert page.run("document.querySelector('.detail')") is None
    assert page.troubles() == []


def test_a_cause_in_the_diagnosis_leads_to_its_questions(page: Any) -> None:
    page.run("document.querySelector('[data-cause=not_retrieved]').click()")
    causes = page.run(f"[...new Set({ROWS}.map(tr => tr.cells[2].textContent))]")
    assert causes == ["Not retrieved"]


def test_nothing_moves_once_it_is_drawn(page: Any) -> None:
    entries = (
        "new Promise(done => new PerformanceObserver(list => done(list.getEntries().map(e => e.value)))"
        ".observe({type: 'layout-shift', buffered: true}))"
    )
    found = page.run(f"Promise.race([{entries}, new Promise(done => setTimeout(() => done([]), 300))])")
    assert sum(found) < 0.01


def test_print_keeps_headings_with_what_follows_and_leaves_the_table_of_questions_out(page: Any) -> None:
    from pypdf import PdfReader

    sheets = PdfReader(io.BytesIO(page.print_pdf())).pages
    # NFKC takes ligatures apart.
    texts = [unicodedata.normalize("NFKC", " ".join(sheet.extract_text().split())) for sheet in sheets]
    whole = " ".join(texts)
    assert "Tuned retrieval lifts token_f1" in texts[0] and "Test was not looked at" in texts[0]  # of the last rung
    together = {
        "Where each dev question ended": "Dev questions by cause",
        "What every pipeline costs a question": "against seconds a question",
        "final pipeline against baseline. Many slices": "By kind",
        "Provenance": "Documents sha256",
    }
    for heading, content in together.items():
        assert any(heading in text and content in text for text in texts), heading
    assert "Every dev and test question" not in whole and "Not printed: folded tables" in whole
    assert all(len(text) > 40 for text in texts), "an empty sheet"


@pytest.mark.parametrize("kind", ["report", "compare"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_accessibility_fault(browser: Any, pages: dict[str, Path], kind: str, dark: bool) -> None:
    if not AXE.is_file():
        pytest.skip("needs axe-core: npm install axe-core, and $AXE_CORE names its axe.min.js")
    page = browser.open(pages[kind], dark=dark)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.run(f"{ROWS}[0].querySelector('button').click()")
    page.wait("document.querySelector('.detail .arm')")
    page.run(AXE.read_text(encoding="utf-8") + "; 1")
    violations = (
        "axe.run().then(r => r.violations"
        ".map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | ')))"
    )
    assert page.run(violations) == []
    if kind == "report":
        page.run(f"{ZOOMS}[1].click()")
        page.wait(DRAWN)
        assert page.run(violations) == []
