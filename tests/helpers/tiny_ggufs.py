"""llama.cpp's own server, by the `xllamacpp` package, and models for it, written with the `gguf` package alone.

All but MiniLM are test doubles of models: a chat model that knows one word, and a reranker with a random head.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

_END, _BYTES = 4, 5  # the token that ends a turn, and that of the byte 0
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def bigram_chat_model(path: Path, context: int = 2048) -> Path:
    """A Llama whose next byte depends on the last one alone: it says "the", and short valid JSON under a grammar."""
    import gguf

    kind = gguf.TokenType
    marks = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    marks += [("<|im_start|>", kind.CONTROL), ("<|im_end|>", kind.CONTROL)]
    tokens = [*marks, *((f"<0x{byte:02X}>", kind.BYTE) for byte in range(256))]
    width = 288  # one dimension a token, rounded up
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(4)
    writer.add_rope_dimension_count(width // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    _add_tokens(writer, "llama", tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(_END)
    writer.add_add_space_prefix(False)  # else the template's own words come back with a space before them
    writer.add_chat_template(_CHATML)
    shapes = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    shapes |= {"attn_output": (width, width), "ffn_gate": (32, width), "ffn_up": (32, width), "ffn_down": (width, 32)}
    for name, shape in shapes.items():  # the layer adds nothing, so that what is embedded comes out
        _add(writer, f"blk.0.{name}.weight", np.zeros(shape))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        _add(writer, f"{name}.weight", np.ones(width))
    _add(writer, "token_embd.weight", np.eye(len(tokens), width))
    _add(writer, "output.weight", _followers(len(tokens), width))
    return _written(writer, path)


def _followers(tokens: int, width: int) -> np.ndarray:
    """Row: next token; column: last token. A grammar rules out what is liked best until something fits."""
    liked = np.zeros((tokens, width))
    for strength, byte in enumerate(b'",[{1}]:', start=1):
        liked[_BYTES + byte] = strength / 10
    for last, best in (("\n", "t"), ('"', "t"), ("t", "h"), ("h", "e"), ("[", '"{'), ("1", "},")):
        for byte in best.encode():
            liked[_BYTES + byte, _BYTES + ord(last)] = 2
    liked[_BYTES + ord('"'), _BYTES + ord("e")] = 2
    liked[_END, _BYTES + ord("e")] = 3
    return liked


def minilm(folder: Path, path: Path, random_head: bool = False) -> Path:
    """A BERT of sentence-transformers as GGUF.

    Args:
        folder: Of the model.
        path: To write.
        random_head: Makes a reranker of it, whose scores mean nothing.
    """
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if random_head else gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    _add_tokens(writer, "bert", _wordpieces(folder))
    for name, number in (("bos", 101), ("eos", 102), ("unk", 100), ("sep", 102), ("pad", 0), ("mask", 103)):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_bool("tokenizer.ggml.add_eos_token", True)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, weights in load_file(folder / "model.safetensors").items():
        if name.startswith("pooler") or name.endswith("position_ids"):
            continue
        _add(writer, names.get_name(name, try_suffixes=(".weight", ".bias")), weights)
    if random_head:
        _add(writer, "cls.output.weight", np.random.default_rng(0).normal(0, 1.0, (1, config["hidden_size"])))
        _add(writer, "cls.output.bias", np.zeros(1))
    return _written(writer, path)


def _wordpieces(folder: Path) -> list[tuple[str, Any]]:
    """As llama.cpp wants them: a mark before the first piece of a word, not before the others."""
    import gguf

    pieces = []
    for token in (folder / "vocab.txt").read_text(encoding="utf-8").split("\n"):
        special = token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        text = token if special else token[2:] if token.startswith("##") else "▁" + token
        pieces.append((text, gguf.TokenType.CONTROL if special else gguf.TokenType.NORMAL))
    return pieces[: -1 if pieces[-1][0] == "▁" else None]  # the file ends with a line break


def _add_tokens(writer: Any, model: str, tokens: list[tuple[str, Any]]) -> None:
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])


def _add(writer: Any, name: str, weights: np.ndarray) -> None:
    writer.add_tensor(name, np.ascontiguousarray(weights, dtype=np.float32))


def _written(writer: Any, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_SERVE = """
import sys, time
import xllamacpp
model, kind, port, key, context = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.model_alias, params.port = model, {"tiny"}, int(port)
params.n_ctx, params.n_parallel, params.n_threads_http = int(context), 1, 4
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.embedding = kind != "chat"
if kind == "rerank":
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
params.api_keys = [key] if key else []
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(600)
"""


@contextmanager
def llama_server(
    model: Path, kind: Literal["chat", "embed", "rerank"], key: str = "", context: int = 2048, port: int = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """llama.cpp's own server in a process of its own; gives the address up to `/v1`, and the process."""
    arguments = [str(model), kind, str(port or free_port()), key, str(context)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), f"no server: exit code {process.poll()}"
        yield f"{address}/v1", process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
