"""JSON and JSONL files: records of one document, or one document a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document, Parser
from ._base import ParserSettings, TextBuilder, make_document, read_text, squeeze
from ._saved import ParsedCorpus, ParseFailure

__all__ = ["JsonDocumentsSettings", "JsonRecordsSettings"]


class JsonRecordsSettings(ParserSettings):
    """One document: a paragraph for each record, each value with its name; nested objects become sections."""

    libraries: ClassVar[tuple[str, ...]] = ("charset-normalizer",)
    cost: ClassVar[str] = "nothing"
    kind: Literal["records"] = "records"

    def build(self, resources: Resources) -> Parser:
        """Makes the parser."""
        return _Records()


class JsonDocumentsSettings(ParserSettings):
    """One document for each record with a text, as in BEIR's `corpus.jsonl`; further values become its metadata."""

    libraries: ClassVar[tuple[str, ...]] = ("charset-normalizer",)
    cost: ClassVar[str] = "about 0.1 ms a record"
    kind: Literal["documents"] = "documents"
    text_field: str = Field(default="text", min_length=1)
    """Name of the value that is the text."""
    title_field: str = Field(default="title", min_length=1)
    """Name of the value that is the title; records may lack it."""
    id_field: str | None = Field(default="_id", min_length=1)
    """Name of the value that is the id; null numbers the documents by their lines, as `corpus.jsonl#17`."""
    own_ids: bool = True
    """Ids are those of the records, as questions refer to them; off, they are `corpus.jsonl#<id>`, so that several
    files may use the same."""
    heading: bool = True
    """Writes the title as a heading above the text, so that it is searched and read with it. Off, only the embedding
    contexts `title` and `heading` use it."""

    def build(self, resources: Resources) -> _Documents:
        """Makes the parser."""
        return _Documents(self)


def _read(path: str, doc_id: str) -> Iterator[tuple[int, Any]]:
    """Line number and value of each record; a DataError in the place of a value that cannot be read."""
    text, _ = read_text(path)
    if not doc_id.lower().endswith(".json"):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    yield number, DataError(f"it is not valid JSON: {error}")
        return
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"it is not valid JSON: {error}") from None
    yield from enumerate(value if isinstance(value, list) else [value], start=1)


def _scalar(value: Any) -> str:
    """A single value as text; empty for null and for what holds others."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or isinstance(value, dict | list) else _clean(str(value))


def _clean(text: str) -> str:
    """The text without what no file of text can hold: half surrogate pairs, zero bytes, other line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def _flat(record: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Names and single values of a record, inner names joined by a dot, a list's values by a comma."""
    for name, value in record.items():
        name = f"{above}{_clean(name)}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            for number, inner in enumerate(value, start=1):
                yield from _flat(inner if isinstance(inner, dict) else {"": inner}, f"{name}.{number}.")
        else:
            shown = ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value)
            if shown.strip():
                yield name, shown


class _Records:
    def parse(self, path: str, doc_id: str) -> Document:
        builder = TextBuilder()
        values: list[Any] = []
        for number, value in _read(path, doc_id):
            if isinstance(value, DataError):
                raise DataError(f"line {number}: {value}")
            values.append(value)
        self._write(builder, values[0] if len(values) == 1 else values, 1)
        return builder.document(doc_id, metadata={"records": str(len(values))})

    def _write(self, builder: TextBuilder, value: Any, level: int) -> None:
        if isinstance(value, list):
            for inner in value:
                named = _flat(inner) if isinstance(inner, dict) else iter([("", _scalar(inner))])
                builder.block("; ".join(f"{name}: {squeeze(text)}" if name else text for name, text in named))
            return
        if not isinstance(value, dict):
            builder.block(_scalar(value))
            return
        inner_parts = {name: inner for name, inner in value.items() if _is_section(inner)}
        single = {name: inner for name, inner in value.items() if name not in inner_parts}
        builder.block("\n".join(f"{name}: {squeeze(text)}" for name, text in _flat(single)))
        for name, inner in inner_parts.items():
            builder.heading(level, _clean(name))
            self._write(builder, inner, min(level + 1, 6))


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(inner, dict) for inner in value))


class _Documents:
    """Meets `Parser` for a file of a single record; `parse_many` is for all."""

    def __init__(self, settings: JsonDocumentsSettings) -> None:
        self._settings = settings

    def parse(self, path: str, doc_id: str) -> Document:
        corpus = self.parse_many(path, doc_id)
        if len(corpus.documents) != 1:
            raise DataError(f"it holds {len(corpus.documents)} documents, not one")
        return corpus.documents[0]

    def parse_many(self, path: str, doc_id: str) -> ParsedCorpus:
        """Documents in the order of the file; failures by line."""
        documents: dict[str, Document] = {}
        failures: list[ParseFailure] = []
        for number, value in _read(path, doc_id):
            try:
                if isinstance(value, DataError):
                    raise value
                document = self._document(value, number, doc_id)
                if document.id in documents:
                    raise DataError(f"the id '{document.id}' stands twice; the first is kept")
                documents[document.id] = document
            except DataError as error:
                failures.append(ParseFailure(f"{doc_id}:{number}", str(error)))
        if not documents:
            raise DataError(f"{failures[0].doc_id}: {failures[0].reason}" if failures else "there is no record in it")
        return ParsedCorpus(tuple(documents.values()), tuple(failures))

    def _document(self, record: Any, number: int, doc_id: str) -> Document:
        names = self._settings
        if not isinstance(record, dict):
            raise DataError("it is not an object; use the parser 'records'")
        if names.text_field not in record:
            raise DataError(f"it has no '{names.text_field}'; set text_field, or use the parser 'records'")
        text, title = record[names.text_field], record.get(names.title_field)
        if not isinstance(text, str) or not isinstance(title, str | None):
            raise DataError(f"'{names.text_field}' and '{names.title_field}' must be texts")
        text, title = _clean(text).strip("\n").rstrip(), squeeze(_clean(title or ""))
        facts = {name: value for name, value in record.items() if name not in (names.text_field, names.title_field)}
        key = self._id(facts, number, doc_id)
        metadata = {**dict(_flat(facts)), "file": doc_id}
        if not (names.heading and title):
            return make_document(key, text, (), title or key, metadata=metadata)
        body = f"# {title}\n\n{text}" if text.strip() else f"# {title}"
        return make_document(key, body, [(0, 1, title)], metadata=metadata)

    def _id(self, facts: dict[str, Any], number: int, doc_id: str) -> str:
        """The document's id; taken out of the facts."""
        field = self._settings.id_field
        if field is None:
            return f"{doc_id}#{number}"
        key = _scalar(facts.pop(field, None)).strip()
        if not key:
            raise DataError(f"it has no '{field}'; set id_field (null numbers the documents)")
        return key if self._settings.own_ids else f"{doc_id}#{key}"
