"""What is embedded with a chunk."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError, DataError
from ragladder.core.types import Chunk, Document
from ragladder.rag.context import (
    ContextSection,
    HeadingSettings,
    NeighboursSettings,
    NoneSettings,
    TitleSettings,
    embedding_texts,
)

TEXT = "First one. Second one! Third one? Fourth one. Fifth one."
DOCUMENT = Document("a.md", TEXT, "Spec sheet", "HW-201")
START = TEXT.index("Third")
CHUNK = Chunk("a.md", START, START + 10, "Third one?", "HW-201", "Spec sheet", ("Spec sheet", "N4", "Size"))


class Config(BaseModel):
    context: ContextSection = NoneSettings()


def texts(settings: object, chunk: Chunk = CHUNK, document: Document = DOCUMENT) -> str:
    return embedding_texts([chunk], {"a.md": document}, settings)[0]


def test_none_is_the_text_alone() -> None:
    assert texts(NoneSettings()) == "Third one?"


def test_title_and_heading_stand_above_the_text() -> None:
    assert texts(TitleSettings()) == "Spec sheet\nThird one?"
    assert texts(HeadingSettings()) == "Spec sheet > N4 > Size\nThird one?"
    assert texts(HeadingSettings(separator=" / ")) == "Spec sheet / N4 / Size\nThird one?"


def test_a_title_that_is_not_the_first_heading_is_added() -> None:
    other = Document("a.md", TEXT, "Handbook", "HW-201")
    assert texts(HeadingSettings(), document=other) == "Handbook > Spec sheet > N4 > Size\nThird one?"
    assert texts(HeadingSettings(), Chunk("a.md", 0, 5, "First")) == "Spec sheet\nFirst"


def test_neighbours_are_whole_sentences_on_both_sides() -> None:
    assert texts(NeighboursSettings(sentences=1)) == "Second one! Third one? Fourth one."
    assert texts(NeighboursSettings(sentences=9)) == TEXT
    assert texts(NeighboursSettings(), Chunk("a.md", 0, 10, "First one.")) == "First one. Second one!"


def test_order_and_number_are_those_of_the_chunks() -> None:
    chunks = [CHUNK, Chunk("a.md", 0, 10, "First one."), CHUNK]
    assert embedding_texts(chunks, {"a.md": DOCUMENT}, NoneSettings()) == ["Third one?", "First one.", "Third one?"]
    assert embedding_texts([], {}, HeadingSettings()) == []


def test_a_missing_document_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r"1 documents .* a\.md"):
        embedding_texts([CHUNK], {}, NoneSettings())


def test_misspelt_names_and_impossible_numbers_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'heading'"):
        validate({"context": "headings"}, Config, "x.yaml")
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        validate({"context": {"kind": "neighbours", "sentences": 0}}, Config, "x.yaml")
