"""A tiny language model with a tokenizer of its own, and examples for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ragladder.core.chat.types import Message
from ragladder.core.components import Resources
from ragladder.core.progress import Reporter
from ragladder.llm_ft import Example, LoraSettings, train_lora

CHAT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>\n{{ m['content'] }}<|end|>"
    "{% else %}<|user|>\n{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
COLOURS = ("red", "green", "blue", "amber", "white", "black")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama model with random weights: 2 layers, width 64."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]
    texts = [f"The lamp of door {n} is {colour}. What colour is it?" for n in range(9) for colour in COLOURS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    logging.disable_progress_bar()
    LlamaForCausalLM(config).save_pretrained(folder)
    logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lamp_examples() -> list[Example]:
    """Examples whose answer is a word of the prompt."""
    return [
        Example(
            f"q{door}-{place}",
            f"Which colour has door {door}{place}?",
            (Message("user", f"The lamp of door {door}{place} is {colour}.\nWhich colour has door {door}{place}?"),),
            f"{colour} [HW-{door}]",
            "oracle",
            (f"doc{door}:0-30",),
        )
        for door in range(4)
        for place, colour in enumerate(COLOURS)
    ]


@pytest.fixture
def cpu(tmp_path: Path) -> Resources:
    """The CPU, with a cache of its own."""
    return Resources(device="cpu", cache_dir=tmp_path / "cache")


@pytest.fixture
def silent() -> Reporter:
    """A reporter that prints nothing."""
    return Reporter(quiet=True)


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, lamp_examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an adapter of the tiny model, trained on the lamps."""
    settings = LoraSettings(rank=4, learning_rate=1e-2, epochs=2, batch_size=8, dtype="float32", max_length=128)
    out = tmp_path_factory.mktemp("adapter")
    return train_lora(tiny_model, lamp_examples, [], settings, out, Resources(), Reporter(quiet=True)).adapter
