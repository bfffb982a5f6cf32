"""Readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError
from ragladder.core.types import Chunk, Generator, Question
from ragladder.rag.generate import ExtractiveSettings, GeneratorSection, LLMGenerator, LLMGeneratorSettings
from ragladder.rag.prompt import Demonstration, PromptSettings
from ragladder.rag.structured import ANSWER_SCHEMA

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
    examples = [Demonstration("Which day?", "Monday [X]"), Demonstration("Q?", "Friday [X]")]
    reader.with_demonstrations(examples).generate([ask("q")], [[]])
    assert "Monday [X]" in chat.asked[0].messages[0].content
    with pytest.raises(ConfigError, match="demonstrations is 1, but there are only 1 train questions"):
        reader.with_demonstrations(examples[:1])
    with pytest.raises(ConfigError, match="demonstrations is 1, but 0 were given"):
        reader.generate([ask("q")], [[]])


def test_json_answers_are_parsed_and_what_does_not_fit_is_a_status() -> None:
    good = '```json\n{"answered": true, "answer": "12 seconds", "citations": ["HW-207", "[X]"]}\n```'
    chat = ScriptedChat(
        {
            "long?": Completion(good, prompt_tokens=9),
            "who?": Completion('{"answered": false, "answer": "", "citations": []}'),
            "cut?": Completion('{"answered": true, "ans', detail="cut at max_tokens", completion_tokens=3),
            "odd?": Completion('{"answered": "yes", "answer": "x", "citations": []}'),
            "void?": Completion('{"answered": true, "answer": " ", "citations": []}'),
            "none?": Completion("12 seconds"),
        }
    )
    reader = LLMGenerator(chat, llm_settings(prompt={"output": "json", "abstention": "no idea"}))
    names = list(chat.script)
    answers = reader.generate([ask(name, name) for name in names], [[RESTART]] * len(names))
    assert all(request.json_schema == ANSWER_SCHEMA for request in chat.asked)
    found = dict(zip(names, answers, strict=True))
    assert (found["long?"].text, found["long?"].status) == ("12 seconds [HW-207] [X]", "ok")
    assert (found["who?"].text, found["who?"].status) == ("no idea", "ok")
    assert [found[name].status for name in names[2:]] == ["parse_error"] * 4
    assert [found[name].text for name in names[2:]] == [""] * 4
    assert "no JSON object" in found["cut?"].detail and "cut at max_tokens" in found["cut?"].detail
    assert "answered" in found["odd?"].detail and "holds no answer" in found["void?"].detail
    assert found["cut?"].completion_tokens == 3, "failures cost too"


def test_a_chain_extracts_then_answers_and_counts_both_calls() -> None:
    chat = ScriptedChat(
        {
            "word for word": Completion(
                "Hold the restart pin. [HW-207]", prompt_tokens=50, completion_tokens=9, seconds=1
            ),
            "Hold the restart pin. [HW-207]": Completion("12 seconds", prompt_tokens=7, completion_tokens=2, seconds=2),
        }
    )
    reader = LLMGenerator(chat, llm_settings(prompt={"chain": "extract"}, extract_max_tokens=77, max_tokens=9))
    (answer,) = reader.generate([ask("long?")], [[RESTART, BILL]])
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens, answer.seconds) == ("12 seconds", 57, 11, 3)
    assert answer.contexts == (RESTART, BILL)
    assert [request.max_tokens for request in chat.asked] == [77, 9]


def test_a_chain_that_finds_nothing_abstains_and_a_failed_first_call_is_a_status() -> None:
    chat = ScriptedChat(
        {
            "Question: who?": Completion("NONE.", prompt_tokens=5, completion_tokens=1),
            "Question: how?": Completion("", "timeout", "no answer", seconds=1),
        }
    )
    reader = LLMGenerator(chat, llm_settings(prompt={"chain": "extract", "output": "json", "abstention": "no idea"}))
    nothing, failed = reader.generate([ask("who?", "a"), ask("how?", "b")], [[RESTART], [BILL]])
    assert len(chat.asked) == 2, "the second call is saved"
    assert (nothing.text, nothing.status, nothing.prompt_tokens) == ("no idea", "ok", 5)
    assert (failed.text, failed.status, failed.detail) == ("", "timeout", "extracting: no answer")


def test_what_was_reasoned_is_taken_off() -> None:
    chat = ScriptedChat({"a?": Completion("HW-207 says so.\nAnswer: 12 seconds [HW-207]"), "b?": Completion("14 days")})
    reader = LLMGenerator(chat, llm_settings(prompt={"template": "reasoned"}))
    answers = reader.generate([ask("a?"), ask("b?")], [[RESTART], [BILL]])
    assert [answer.text for answer in answers] == ["12 seconds [HW-207]", "14 days"]


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
