"""Parsers: files to documents with Markdown-like text, sections and pages.

    markdown    structural, plain
    html        structural, trafilatura, plain, docling
    pdf         pdfplumber, pypdf, pypdfium2, docling
    docx        structural, plain, docling
    pptx        structural, plain, docling
    xlsx        table, records, docling
    csv         table, records
    json_file   records, documents
    json_lines  documents, records
    text        text

`settings.py` holds the config section, `corpus.py` reads a folder, `_pool.py` runs parsers in processes that can be
stopped.
"""

from __future__ import annotations

from ._saved import ParsedCorpus, ParseFailure, load_documents, save_documents
from .corpus import corpus_identity, parse_corpus
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
