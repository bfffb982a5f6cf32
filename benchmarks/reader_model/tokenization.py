"""Trains the reader model's tokenizer: byte-level BPE in which a word has one spelling wherever it stands.

A blank is inserted after a line break and after an opening bracket, so that `HW-207` is the same tokens in
`[HW-207]`, in a sentence and at the beginning of an answer. The decoder takes the blanks out again.
Digits and capitals of codes are single tokens; so a code is copied character by character.
"""

from __future__ import annotations

from pathlib import Path

from generate import ASSISTANT, END, USER, ItemWriter
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from values import LEXICON

PIECES = r" ?\p{Lu}?\p{Ll}+| ?\p{Lu}(?!\p{Ll})| ?\p{N}|\n|-{3,}| ?[^\s\p{L}\p{N}]| +"
PAD = "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def empty_tokenizer() -> Tokenizer:
    """Returns the untrained tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\n(?=\S)"), "\n "),
            normalizers.Replace(Regex(r"\[(?=\w)"), "[ "),
            normalizers.Replace(Regex(r"\((?=\w)"), "( "),
            normalizers.Replace(Regex(r" `(?=\S)"), " ` "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Replace("\n ", "\n"),
            decoders.Replace("[ ", "["),
            decoders.Replace("( ", "("),
            decoders.Replace(" ` ", " `"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def train_tokenizer(size: int, sources: list[Path], seed: int = 7) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on generated items, the lexicon and the given documents.

    Args:
        size: Vocabulary size.
        sources: Documents added for vocabulary flavour.
        seed: Seed of the generated items.
    """
    writer = ItemWriter(seed)
    words = [
        " " + word
        for path in LEXICON.glob("*.txt")
        for word in path.read_text().replace("|", " ").split()
        if word.isalpha()
    ]
    texts = [writer.item("mid").text() for _ in range(12000)]
    texts += words * 40 + [word.capitalize() for word in words] * 4 + [path.read_text() for path in sources] * 40
    tokenizer = empty_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
        model_input_names=["input_ids", "attention_mask"],
    )
