"""Links of README.md and docs/ lead somewhere, and every page stands in the navigation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors_of(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "", text)):
        name, _, anchor = target.partition("#")
        if ":" in name:
            continue
        there = page.parent / name if name else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors_of(there)):
            wrong.append(target)
    assert not wrong


def test_every_page_stands_in_the_navigation_and_is_reached_from_the_start() -> None:
    def names(entry: object) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        return set().union(*map(names, entry.values() if isinstance(entry, dict) else entry))

    navigation = names(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    assert navigation == pages
    start = (ROOT / "docs/index.md").read_text()
    assert {name for name in pages - {"index.md"} if f"({name})" not in start} == set()
