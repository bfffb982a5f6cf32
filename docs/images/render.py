"""Renders the screenshots of docs/report.md from a finished run, in headless Chromium.

    python docs/images/render.py .ragladder/runs/RUN                 # report: desktop, phone, dark, an open question
    python docs/images/render.py .ragladder/runs/RUN --other OTHER   # and two runs side by side

The report is made anew in the run folder first. A picture is written only where the page has no error and asks for
nothing from the network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from browser import Browser, Page, find_chromium
from ragladder.ladder.compare import compare_runs
from ragladder.ladder.report import build_comparison, build_report

HERE = Path(__file__).resolve().parent


def shoot(page: Page, name: str, at: str = "", click: str = "") -> None:
    """Writes NAME.png of the window.

    Args:
        page: Loaded.
        name: Of the picture.
        at: Selector of what is scrolled to the top.
        click: Selector of what is clicked before.
    """
    page.run("document.documentElement.style.scrollBehavior = 'auto'")
    if click:
        page.run(f"document.querySelector({click!r}).click()")
        time.sleep(0.5)
    if at:
        page.run(f"document.querySelector({at!r}).scrollIntoView()")
        time.sleep(0.2)
    wrong = [*page.troubles(), *page.requests()]
    if wrong:
        raise SystemExit(f"{name}: the page is not in order: {wrong}")
    print(page.screenshot(HERE / f"{name}.png"))


def zoomed(page: Page) -> None:
    """Writes report-zoom.png: the parallel coordinates in Plotly, the value of the first knob's winner clicked."""
    page.run("[...document.querySelectorAll('.zoom')].find(b => b.dataset.title.startsWith('All trials')).click()")
    page.wait("document.getElementById('zoomed-chart').dataset.drawn")
    best = "(lines => lines.find(line => line.line.width === 3).meta)(document.getElementById('zoomed-chart').data)"
    marks = "document.getElementById('zoomed-chart').layout.meta"
    place = page.run(f"(best => {marks}.findIndex(([knob, value]) => best[knob] === value))({best})")
    page.run(f"document.getElementById('zoomed-chart').emit('plotly_clickannotation', {{index: {place}}})")
    shoot(page, "report-zoom", click="#zoomed-chart")
    page.run("document.getElementById('zoomed').close()")


def main() -> None:
    """Renders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished climb")
    parser.add_argument("--other", type=Path, help="folder of another climb on the same questions")
    args = parser.parse_args()
    binary = find_chromium()
    if binary is None:
        raise SystemExit("no Chromium: install it, or set $CHROMIUM")
    report = build_report(args.run)
    with Browser(binary) as browser, tempfile.TemporaryDirectory() as scratch:
        page = browser.open(report)
        shoot(page, "report")
        shoot(page, "report-flow", "#diagnosis")
        if page.run("!!document.querySelector('.knobs')"):
            shoot(page, "report-knobs", ".card:has(.knobs)")
            zoomed(page)
        better = "(e => { e.value = 'better'; e.dispatchEvent(new Event('change')); })"
        page.run(f"{better}(document.getElementById('f-change'))")
        shoot(page, "report-question", "#q-body tr", "#q-body .open")
        shoot(browser.open(report, dark=True), "report-dark", "#diagnosis")
        shoot(browser.open(report, 390, 844, phone=True), "report-phone")
        if args.other:
            result = compare_runs(args.run, args.other)
            compared = build_comparison([args.run, args.other], [result], Path(scratch) / "compare.html")
            shoot(browser.open(compared), "report-compare")


if __name__ == "__main__":
    main()
