"""Readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.types import Chunk, Generator, Question
from ragladder.rag.generate import ExtractiveSettings, GeneratorSection, LLMGenerator, LLMGeneratorSettings
from ragladder.rag.prompt import Demonstration, PromptSettings

N4 = "## N4\nThe nest is grey.\nHold the restart pin for 12 seconds."
RESTART = Chunk("HW-207_a.md", 0, 90, N4, "HW-207", "Nest", ("Nest", "N4"))
OTHER = Chunk("HW-207_a.md", 90, 99, "## N6\n- Hold the restart pin for 30 seconds.", "HW-207", "Nest", ("Nest", "N6"))
BILL = Chunk("BL-104_b.md", 0, 50, "The plume is due after 14 days. Ask the warden.", "BL-104", "Plume")


class ScriptedChat:
    """Test double: a chat model that answers by script and keeps what it was asked."""

    def __init__(self, script: dict[str, Completion]) -> None:
        self.script = script
        self.asked: list[ChatRequest] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.asked += requests
        return [next(c for word, c in self.script.items() if word in r.messages[0].content) for r in requests]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def probe(self) -> Probe:
        return Probe(True, "a test double")


def ask(text: str, name: str = "q") -> Question:
    return Question(name, text, "")


def extract(question: str, *chunks: Chunk, **settings: Any) -> str:
    reader = ExtractiveSettings(**settings).build(Resources())
    assert isinstance(reader, Generator)
    return reader.generate([ask(question)], [chunks])[0].text


def test_extractive_copies_the_best_sentence_with_its_reference() -> None:
    assert extract("When is the plume due?", RESTART, BILL) == "The plume is due after 14 days. [BL-104]"
    assert extract("When is the plume due?", RESTART, BILL, cite=False) == "The plume is due after 14 days."


def test_extractive_reads_headings_and_is_not_fooled_by_them() -> None:
    assert extract("restart pin N6 how many seconds", RESTART, OTHER) == "Hold the restart pin for 30 seconds. [HW-207]"
    assert extract("restart pin N4 how many seconds", OTHER, RESTART) == "Hold the restart pin for 12 seconds. [HW-207]"


def test_extractive_abstains() -> None:
    assert extract("Who won the football match?", RESTART, BILL) == "Not documented [none]"
    assert extract("Who won?", abstention="no idea") == "no idea"
    assert extract("the of and", RESTART) == "Not documented [none]"
    question = "Is the plume purple, and who delivers giraffes?"
    assert extract(question, BILL, threshold=0.9) == "Not documented [none]"
    assert extract(question, BILL, threshold=0.0).startswith("The plume")


def test_extractive_takes_several_sentences_and_repeats_itself() -> None:
    two = extract("plume due, restart pin", RESTART, BILL, sentences=2, threshold=0.1)
    assert two.count("[") == 2 and "; " in two
    assert two == extract("plume due, restart pin", RESTART, BILL, sentences=2, threshold=0.1)


def llm_settings(**values: Any) -> LLMGeneratorSettings:
    return LLMGeneratorSettings.model_validate({"llm": {"kind": "local", "model": "./m"}, **values})


def test_llm_keeps_failures_tokens_and_what_stood_in_the_prompt() -> None:
    chat = ScriptedChat(
        {
            "long?": Completion(" 12 seconds [HW-207] ", prompt_tokens=90, completion_tokens=7, seconds=0.5),
            "due?": Completion("half", "timeout", "no answer within 1 s", seconds=1.0),
        }
    )
    settings = llm_settings(prompt={"max_context_tokens": 16}, max_tokens=9, stop=["\n"], seed=4)
    reader = LLMGenerator(chat, settings)
    good, bad = reader.generate([ask("long?", "a"), ask("due?", "b")], [[OTHER, BILL], []])
    assert isinstance(reader, Generator)
    assert (good.question_id, good.text, good.status) == ("a", "12 seconds [HW-207]", "ok")
    assert (good.prompt_tokens, good.completion_tokens, good.seconds) == (90, 7, 0.5)
    assert good.contexts == (OTHER,), "the tokenizer of the model decides what fits"
    assert (bad.question_id, bad.text, bad.status, bad.detail) == ("b", "", "timeout", "no answer within 1 s")
    first = chat.asked[0]
    assert (first.max_tokens, first.temperature, first.stop, first.seed) == (9, 0.0, ("\n",), 4)


def test_llm_shows_demonstrations() -> None:
    chat = ScriptedChat({"": Completion("x")})
    reader = LLMGenerator(chat, llm_settings(prompt={"demonstrations": 1}))
    reader.with_demonstrations([Demonstration("Which day?", "Monday [X]")]).generate([ask("q")], [[]])
    assert "Monday [X]" in chat.asked[0].messages[0].content


def test_identity_holds_the_template_text_and_the_models(tmp_path: Path) -> None:
    values = {"kind": "llm", "llm": {"kind": "openai", "base_url": "http://x/v1", "model": "m"}}
    settings = TypeAdapter(GeneratorSection).validate_python(values)
    resources = Resources(cache_dir=tmp_path, env={})
    identity = settings.identity(resources)
    assert "Question: {question}" in identity["prompt"]["template"]
    assert identity["llm"] == settings.llm.identity(resources)
    assert identity != settings.model_copy(update={"max_tokens": 7}).identity(resources)
    assert identity != settings.model_copy(update={"prompt": PromptSettings(order="best_last")}).identity(resources)


def test_the_section_takes_a_bare_name_and_refuses_unknown_keys() -> None:
    adapter = TypeAdapter(GeneratorSection)
    assert adapter.validate_python("extractive") == ExtractiveSettings()
    with pytest.raises(ValueError, match="sentnces"):
        adapter.validate_python({"kind": "extractive", "sentnces": 2})
