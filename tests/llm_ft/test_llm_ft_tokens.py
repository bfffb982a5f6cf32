"""Labels: prompt tokens carry no loss, whatever the chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ragladder.core.chat import ChatRequest, LocalChatSettings
from ragladder.core.chat.types import Message
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.llm_ft import Encoder, fits_window

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}<|user|>{{ m['role'] }}<|assistant|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant<|assistant|>\n\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
ENDLESS = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
PROMPT = (Message("system", "Answer."), Message("user", "The lamp is red [none].\nColour?"))
ANSWER = "red [HW-1]"


def encoder_with(template: str | None, tiny_model: Path, eos: str = "<|end|>") -> Encoder:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.eos_token = eos
    if template is not None:
        tokenizer.chat_template = template
    return Encoder(tokenizer)


@pytest.mark.parametrize(
    ("template", "eos"), [(None, "<|end|>"), (CHATML, "<|im_end|>"), (LLAMA3, "<|eot_id|>"), (THINKING, "<|im_end|>")]
)
def test_only_the_completion_and_its_end_carry_loss(template: str | None, eos: str, tiny_model: Path) -> None:
    encoder = encoder_with(template, tiny_model, eos)
    row = encoder.encode(PROMPT, ANSWER)
    turns = [{"role": message.role, "content": message.content} for message in PROMPT]
    prompt = encoder.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    learnt = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label != -100]
    assert row.input_ids[: len(prompt)] == prompt, "the prompt is not what the model reads when it answers"
    assert row.labels[: len(prompt)] == [-100] * len(prompt)
    assert row.labels[len(prompt) :] == row.input_ids[len(prompt) :] == learnt
    assert encoder.tokenizer.decode(learnt) == ANSWER + eos
    assert row.prompt_tokens == len(prompt)
    assert bool(encoder.notes) == (template == THINKING)


def test_a_template_without_an_end_gets_one_and_says_so(tiny_model: Path) -> None:
    encoder = encoder_with(ENDLESS, tiny_model)
    row = encoder.encode(PROMPT, ANSWER)
    assert row.input_ids[-1] == row.labels[-1] == encoder.tokenizer.eos_token_id
    assert row.labels.count(encoder.tokenizer.eos_token_id) == 1
    assert any("ends an answer with no token" in note for note in encoder.notes)
    encoder.encode(PROMPT, ANSWER)
    assert len(encoder.notes) == 1, "a note is made once"


def test_a_model_without_a_template_reads_plain_text_and_says_so(tiny_model: Path) -> None:
    encoder = encoder_with("", tiny_model)
    row = encoder.encode(PROMPT, ANSWER)
    text = encoder.tokenizer.decode([t for t, label in zip(row.input_ids, row.labels, strict=True) if label == -100])
    assert text == "Answer.\n\nThe lamp is red [none].\nColour?"
    assert encoder.tokenizer.decode([t for t in row.labels if t != -100]) == " red [HW-1]<|end|>"
    assert any("no chat template" in note for note in encoder.notes)


def test_a_tokenizer_without_pad_token_takes_the_end_token_and_says_so(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "no-pad"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    encoder = Encoder.from_folder(folder)
    assert encoder.tokenizer.pad_token == "<|end|>"
    assert any("no pad token" in note for note in encoder.notes)
    assert encoder.encode(PROMPT, ANSWER).labels[-1] == encoder.tokenizer.eos_token_id


def test_tokenizers_that_cannot_be_used(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer could be read"):
        Encoder.from_folder(tmp_path)
    with pytest.raises(DataError, match="has no end-of-sequence token"):
        encoder_with(None, tiny_model, eos=None)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot render"):
        encoder_with("{{ raise_exception('no system turn') }}", tiny_model).encode(PROMPT, ANSWER)


@pytest.mark.parametrize("template", [None, ""])
def test_prompts_are_those_of_the_local_chat_model(template: str | None, tiny_model: Path, cpu: Resources) -> None:
    encoder = encoder_with(template, tiny_model)
    chat = LocalChatSettings(model=str(tiny_model)).build(cpu)
    chat._load_tokenizer().chat_template = encoder.tokenizer.chat_template
    chat._load_model()
    row = encoder.encode(PROMPT, ANSWER)
    assert row.input_ids[: row.prompt_tokens] == chat._encode(PROMPT)
    assert row.input_ids[-1] in chat._end_ids()
    assert chat.complete([ChatRequest(PROMPT, max_tokens=2)])[0].prompt_tokens == row.prompt_tokens


def test_the_window_of_the_model_bounds_what_is_asked_for(tiny_model: Path) -> None:
    encoder = Encoder.from_folder(tiny_model)
    assert (encoder.limit(100), encoder.limit(4096)) == (100, 256)
    assert encoder.limit_words(100) == "max_length 100"
    assert encoder.limit_words(4096).startswith("the model's own window of 256 tokens (max_length 4096")
    long = (Message("user", "red " * 300),)
    assert not fits_window(encoder, 4096)(long, ANSWER), "the model could not answer it"
    assert fits_window(encoder_with(None, tiny_model), 4096)(long, ANSWER), "without a config there is no window"


def test_fits_window_counts_prompt_and_completion(tiny_model: Path) -> None:
    encoder = encoder_with(None, tiny_model)
    length = len(encoder.encode(PROMPT, ANSWER).input_ids)
    assert fits_window(encoder, length)(PROMPT, ANSWER)
    assert not fits_window(encoder, length - 1)(PROMPT, ANSWER)
