"""What is embedded with a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.config import validate
from ragladder.core.errors import ConfigError, DataError, StageError
from ragladder.core.types import Chunk, Document
from ragladder.rag.context import (
    ContextSection,
    HeadingSettings,
    LateSettings,
    LLMContextSettings,
    NeighboursSettings,
    NoneSettings,
    TitleSettings,
    embedding_texts,
)
from ragladder.rag.situate import SituatedContext

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


def test_late_leaves_the_text_alone() -> None:
    assert texts(LateSettings()) == "Third one?"


class Writer:
    """Test double: writes a context that names the chunk, fails where told, and keeps what it was asked."""

    def __init__(self, fail_on: str = "nothing fails") -> None:
        self.asked: list[str] = []
        self.fail_on = fail_on

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        prompts = [request.messages[0].content for request in requests]
        self.asked += prompts
        return [
            Completion("", "timeout", "no answer within 1 s")
            if self.fail_on in prompt.partition("This passage")[2]
            else Completion(f" About\n{len(prompt)}. ", prompt_tokens=10, completion_tokens=2)
            for prompt in prompts
        ]

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "a test double")


def llm_settings(**values: object) -> LLMContextSettings:
    endpoint = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    return LLMContextSettings.model_validate({"llm": endpoint, **values})


def test_an_llm_writes_each_context_once_and_it_is_kept(tmp_path: Path) -> None:
    resources = Resources(cache_dir=tmp_path)
    chunks, documents = [CHUNK, Chunk("a.md", 0, 10, "First one."), CHUNK], {"a.md": DOCUMENT}
    writer = Writer()
    context = SituatedContext(writer, llm_settings(), resources)
    found = context.texts(chunks, documents)
    assert len(writer.asked) == 2, "equal chunks are asked for once"
    assert found[0] == found[2] and found[0].startswith("About ") and found[0].endswith(".\nThird one?")
    assert TEXT in writer.asked[0] and "Spec sheet" in writer.asked[0] and "\n\nThird one?\n\n" in writer.asked[0]
    assert context.usage(chunks[:2], documents) == (20, 4)
    again = Writer()
    assert SituatedContext(again, llm_settings(), resources).texts(chunks, documents) == found and not again.asked
    SituatedContext(again, llm_settings(max_tokens=9), resources).texts(chunks, documents)
    assert len(again.asked) == 2, "other settings are other contexts"


def test_what_an_llm_did_not_write_is_an_error_and_the_rest_is_kept(tmp_path: Path) -> None:
    chunks, documents = [CHUNK, Chunk("a.md", 0, 10, "First one.")], {"a.md": DOCUMENT}
    resources = Resources(cache_dir=tmp_path)
    with pytest.raises(StageError, match=r"no context for 1 of 2 chunks.*no answer within 1 s.*run the same command"):
        SituatedContext(Writer("Third"), llm_settings(), resources).texts(chunks, documents)
    again = Writer()
    SituatedContext(again, llm_settings(), resources).texts(chunks, documents)
    assert len(again.asked) == 1


def test_an_llm_is_shown_the_document_round_the_chunk_up_to_its_limit(tmp_path: Path) -> None:
    text = "".join(f"{n:04d} " for n in range(200))
    document, chunk = Document("a.md", text, "", "a"), Chunk("a.md", 500, 504, text[500:504])
    writer = Writer()
    SituatedContext(writer, llm_settings(document_characters=200), Resources(cache_dir=tmp_path)).text(chunk, document)
    assert text[402:602] in writer.asked[0] and text[395:402] not in writer.asked[0]


def test_a_prompt_without_its_places_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks {chunk}"):
        llm_settings(prompt="{document}")
    with pytest.raises(ConfigError, match="needs resources"):
        embedding_texts([CHUNK], {"a.md": DOCUMENT}, llm_settings())
