"""Renders a source as a page of an intranet, with all that stands round the text of such pages."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from html import escape

from source import Bullets, Code, Heading, Inline, Paragraph, Source, Table, plain

_MENU = {
    "Wrenfield": ["Home", "News", "Calendar", "Canteen menu", "Lost and found", "Vacancies", "Who is who"],
    "Products": ["Cabinets", "Chilled units", "Sorting machines", "Arms and grippers", "Spare parts", "Roadmap"],
    "Operations": ["Depots", "Vans", "Field planning", "Duty rota", "Incident archive", "Key figures"],
    "Customers": ["Support desk", "Tariffs", "Complaints", "Partner portal", "Customer stories"],
    "My work": ["Time sheet", "Leave balance", "Expenses", "Training", "Phone book", "Report a fault", "IT help"],
}
_STYLE = (
    "body{font:15px/1.5 Verdana,sans-serif;margin:0}.topbar{background:#24423c;color:#fff}.layout{display:flex}"
    ".sidebar{width:17em;padding:1em}main{max-width:52em;padding:1em 2em}table{border-collapse:collapse}"
    "td,th{border:1px solid #9aa;padding:.3em .6em}.cookie-banner{position:fixed;bottom:0;background:#eee}"
)


def render(source: Source, others: Sequence[Source]) -> bytes:
    """The page; `others` are the documents of its group, for the links beside the text."""
    title = escape(source.title)
    day = datetime.date.fromisoformat(source.date)
    date = f"{day.day} {day:%B %Y}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<title>{title} | Wrenfield intranet</title>",
        '<meta name="generator" content="Aviary CMS 4.8">',
        '<link rel="stylesheet" href="/static/site.css?v=318">',
        f"<style>{_STYLE}</style>",
        '<script>window.dataLayer=window.dataLayer||[];dataLayer.push({"page":"doc","area":"intranet"});</script>',
        '</head>\n<body class="page page-doc">\n<a class="skip-link" href="#content">Skip to content</a>',
        _top(),
        '<div class="layout">',
        _sidebar(source, others),
        f'<main id="content">\n<nav class="breadcrumb" aria-label="Breadcrumb"><a href="/">Home</a> &rsaquo; '
        f'<a href="/library/">Library</a> &rsaquo; <a href="/library/{source.group}/">All documents</a> &rsaquo; '
        f"<span>{title}</span></nav>\n<article>",
        _article(source, date),
        "</article>",
        '<div class="share-tools"><a href="#">Print</a> <a href="#">Send by mail</a> <a href="#">Copy link</a> '
        '<a href="#">Add to favourites</a></div>',
        '<section class="feedback"><p>Was this page useful?</p><button>Yes</button><button>No</button>'
        "<p>You can also write to the library desk. We read every note, but we cannot answer all of them.</p>"
        "</section>",
        "</main>\n</div>",
        _bottom(),
        '<script src="/static/site.js?v=318"></script>\n</body>\n</html>\n',
    ]
    return "\n".join(parts).encode()


def _top() -> str:
    menus = []
    for name, entries in _MENU.items():
        links = "".join(f'<li><a href="/{entry.lower().replace(" ", "-")}">{entry}</a></li>' for entry in entries)
        menus.append(f'<li><a href="#">{name}</a><ul class="submenu">{links}</ul></li>')
    return (
        '<header class="topbar"><div class="logo"><a href="/">Wrenfield intranet</a></div>'
        '<form role="search" action="/search"><input name="q" placeholder="Search people and pages">'
        '<button>Search</button></form><div class="user-menu">Signed in | <a href="/profile">My profile</a> | '
        '<a href="/logout">Sign out</a></div></header>\n<nav class="mainnav"><ul>' + "\n".join(menus) + "</ul></nav>"
    )


def _sidebar(source: Source, others: Sequence[Source]) -> str:
    links = "\n".join(
        f'<li><a href="/library/{other.code}">{other.code} {escape(other.title)}</a></li>'
        for other in others
        if other.code != source.code
    )
    return (
        f'<aside class="sidebar">\n<h2>Related pages</h2>\n<ul>\n{links}\n</ul>\n<h3>Most read this week</h3>\n'
        "<ol><li>Parking at the office during the works</li><li>New tariffs for the canteen</li>"
        "<li>How to book a meeting room</li><li>Summer party: photographs</li></ol>\n"
        '<div class="promo"><p>Seen something unsafe? Tell us within the day.</p></div>\n</aside>'
    )


def _bottom() -> str:
    return (
        '<footer class="site-footer">\n<div><h4>About this site</h4><p>The library is kept by the documentation desk. '
        "Printed copies are not controlled: check the version here before you rely on one.</p></div>\n"
        '<div><h4>Legal</h4><ul><li><a href="/terms">Terms of use</a></li>'
        '<li><a href="/privacy">Privacy notice</a></li>'
        '<li><a href="/imprint">Imprint</a></li><li><a href="/accessibility">Accessibility</a></li></ul></div>\n'
        "<p>&copy; 2014&ndash;2026 Wrenfield. All rights reserved. For internal use; do not pass on without the "
        "owner's "
        'consent.</p>\n</footer>\n<div class="cookie-banner" role="dialog"><p>This site uses cookies to remember your '
        "settings and to count visits. You may change your choice at any time.</p><button>Accept all</button>"
        '<button>Only what is needed</button> <a href="/cookies">Read more</a></div>'
    )


def _article(source: Source, date: str) -> str:
    parts = []
    for block in source.blocks:
        if isinstance(block, Heading):
            anchor = "-".join("".join(c if c.isalnum() else " " for c in plain(block.inline).lower()).split())
            heading = f'<h{block.level} id="{anchor}">{_inline(block.inline)}</h{block.level}>'
            if block.level == 1:
                heading = (
                    f'<header class="doc-header">\n{heading}\n<p class="doc-meta">{source.code} &middot; '
                    f"Version {source.version} &middot; {date}</p>\n</header>"
                )
            parts.append(heading)
        elif isinstance(block, Paragraph):
            parts.append(f"<p>{_inline(block.inline)}</p>")
        elif isinstance(block, Code):
            parts.append(f"<pre><code>{escape(block.text)}\n</code></pre>")
        elif isinstance(block, Bullets):
            parts.append(_list(block))
        elif isinstance(block, Table):
            parts.append(_table(block))
    return "\n".join(parts)


def _inline(inline: Inline) -> str:
    return "".join(
        f"<{piece.style}>{escape(piece.text, quote=False)}</{piece.style}>"
        if piece.style
        else escape(piece.text, quote=False)
        for piece in inline
    )


def _list(block: Bullets) -> str:
    tag = "ol" if block.ordered else "ul"
    items = [f"<li>{_inline(item.inline)}{''.join(map(_list, item.below))}</li>" for item in block.items]
    return "\n".join([f"<{tag}>", *items, f"</{tag}>"])


def _table(block: Table) -> str:
    head, *body = block.rows
    header = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
    rows = "\n".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in body)
    table = f"<table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return f'<div class="table-wrap">{table}</div>'
