"""Parsers: files to documents with Markdown-like text, sections and pages.

    markdown  structural, plain
    html      structural, trafilatura, plain
    pdf       pdfplumber, pypdf, pypdfium2
    docx      structural, plain
    csv       table, records
    text      text

`settings.py` holds the config section, `corpus.py` reads a folder, `_pool.py` runs parsers in processes that can be
stopped.
"""

from __future__ import annotations

from .corpus import (
    ParsedCorpus,
    ParseFailure,
    corpus_identity,
    load_documents,
    parse_corpus,
    save_documents,
)
from .settings import FORMATS, PARSERS, ParseSettings, parser_settings

__all__ = [
    "FORMATS",
    "PARSERS",
    "ParseFailure",
    "ParseSettings",
    "ParsedCorpus",
    "corpus_identity",
    "load_documents",
    "parse_corpus",
    "parser_settings",
    "save_documents",
]
