"""The model's shape and its starting weights.

Random weights would need many tokens before a copying circuit appears. Three gentle starts shorten that, all
of them ordinary weights that training goes on to change:

* a token's embedding is the sum of random vectors of its letter groups, so `Restart`, ` restart` and
  ` restarting` begin as neighbours;
* some heads begin by looking at a fixed distance (through query and key biases and the rotary position);
* others begin by looking for tokens similar to their own, or for what followed such a token, and carry it on
  (an induction head).
"""

from __future__ import annotations

import math
import zlib

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROPE_THETA = 1e6
FAST, SLOW = 10, 14
COPY_LAYER = 3
LOOK_BACK = {0: {0: (1, 8.0), 1: (2, 6.0), 2: (4, 3.0)}, 1: {0: (1, 6.0), 1: (5, 2.5)}, 2: {0: (2, 3.0)}}


def model_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Returns the configuration of the reader model."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        attention_bias=True,
        tie_word_embeddings=True,
        initializer_range=0.04,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def letter_groups(token: str) -> list[str]:
    """Returns a token's letter groups: itself, its first letters, its pairs and triples."""
    word = token.strip().lower()
    marked = f"^{word}"
    groups = [word] * 2 + [marked[: n + 1] for n in (3, 4, 5, 6) if len(word) >= n] * 2
    groups += [marked[i : i + n] for n in (3, 4) for i in range(len(marked) - n + 1)]
    groups += ["cased"] if token.strip()[:1].isupper() else []
    groups += ["joined"] if not token.startswith(" ") else []
    return groups + (["digit"] if word.isdigit() else [])


def group_vector(group: str, width: int) -> torch.Tensor:
    """Returns the random vector that belongs to a letter group."""
    generator = torch.Generator().manual_seed(zlib.crc32(group.encode()))
    return torch.randn(width, generator=generator)


def start_embeddings(tokenizer: PreTrainedTokenizerFast, width: int, scale: float = 0.2) -> torch.Tensor:
    """Returns embeddings in which tokens of like spelling are alike."""
    rows = []
    for index in range(len(tokenizer)):
        token = tokenizer.convert_ids_to_tokens(index).replace("Ġ", " ")
        row = sum(group_vector(group, width) for group in letter_groups(token))
        rows.append(row / row.pow(2).mean().sqrt() * scale)
    return torch.stack(rows)


def look_back(attention: torch.nn.Module, head: int, distance: int, force: float, frequency: torch.Tensor) -> None:
    """Makes a head look at the token a given distance back, whatever it is."""
    half = len(frequency)
    first = head * 2 * half
    rows = slice(first, first + 2 * half)
    angle = frequency[:FAST] * distance
    attention.k_proj.bias[first : first + FAST] = force
    attention.q_proj.bias[first : first + FAST] = force * torch.cos(angle)
    attention.q_proj.bias[first + half : first + half + FAST] = -force * torch.sin(angle)
    attention.q_proj.weight[rows] *= 0.3
    attention.k_proj.weight[rows] *= 0.3


def look_for(
    attention: torch.nn.Module, head: int, own: torch.Tensor, sought: torch.Tensor, half: int, gain: float = 1.8
) -> None:
    """Makes a head look for tokens whose `sought` part equals its `own` part, in the slowly rotating dimensions."""
    slow = torch.cat([torch.arange(SLOW, half), torch.arange(half + SLOW, 2 * half)])
    attention.q_proj.weight[slow + head * 2 * half] = own[: len(slow)] * gain
    attention.k_proj.weight[slow + head * 2 * half] = sought[: len(slow)] * gain


def carry(attention: torch.nn.Module, head: int, taken: torch.Tensor, put: torch.Tensor, gain: float) -> None:
    """Makes a head carry the `taken` part of the tokens it looks at to the `put` part of its own token."""
    rows = slice(head * len(taken), (head + 1) * len(taken))
    attention.v_proj.weight[rows] = taken
    attention.o_proj.weight[:, rows] = put.T * gain


def start_attention(model: LlamaForCausalLM) -> None:
    """Sets the heads that look at a distance, at similar tokens, and at what followed a similar token."""
    config = model.config
    half = config.hidden_size // config.num_attention_heads // 2
    frequency = ROPE_THETA ** (-torch.arange(half) / half)
    basis = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size))[0]
    own, before, *copied = basis.split(2 * half)
    layers = [layer.self_attn for layer in model.model.layers]
    for number, heads in LOOK_BACK.items():
        for head, (distance, force) in heads.items():
            look_back(layers[number], head, distance, force, frequency)
    carry(layers[0], 0, own, before, 0.4)
    for head, part in zip((2, 3), copied, strict=True):
        look_for(layers[COPY_LAYER], head, own, before, half)
        carry(layers[COPY_LAYER], head, part, part, 1.8)
        carry(layers[COPY_LAYER + 1], head, part, part, 0.6)
    for number, head in ((0, 3), (1, 2), (1, 3), (2, 2), (2, 3)):
        look_for(layers[number], head, own, own, half, 1.2)


@torch.no_grad()
def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Returns the model at its starting point."""
    torch.manual_seed(seed)
    config = model_config(tokenizer)
    model = LlamaForCausalLM(config)
    model.model.embed_tokens.weight.copy_(start_embeddings(tokenizer, config.hidden_size))
    model.model.norm.weight.fill_(0.2)
    for layer in model.model.layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight *= 1 / math.sqrt(2 * config.num_hidden_layers)
    start_attention(model)
    return model
