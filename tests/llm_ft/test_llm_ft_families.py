"""Models of other families than Llama: the loss is their own, and layers without adapters are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError
from ragladder.core.progress import Reporter
from ragladder.core.quiet import quiet_libraries
from ragladder.llm_ft import Encoder, Example, LoraSettings, train_lora

FAST = LoraSettings(rank=4, learning_rate=1e-2, epochs=1, batch_size=8, dtype="float32", max_length=128)
SIZES = {"hidden_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "max_position_embeddings": 256}
FAMILIES = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},  # Conv1D layers, absolute positions
    "gemma2": {**SIZES, **HEADS, "head_dim": 16},  # capped logits, sliding windows
    "phi3": {**SIZES, **HEADS},  # query, key and value in one layer
    "mamba": SIZES,  # no attention; peft refuses some of its layers
}


def model_of(family: str, tiny_model: Path, folder: Path) -> Path:
    """A random model of a family, with the tiny model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **ids, **FAMILIES[family])
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "phi3"])
def test_the_dev_loss_is_that_of_the_models_own_forward_pass(
    family: str, tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    import torch
    from peft import PeftModel
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    base, dev = model_of(family, tiny_model, tmp_path / "base"), lamp_examples[:4]
    result = train_lora(base, lamp_examples, dev, FAST, tmp_path / "out", Resources(), silent)
    assert result.base_dev_loss is not None and result.best_dev_loss is not None
    assert result.best_dev_loss < result.base_dev_loss - 0.1
    with quiet_libraries():
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = PeftModel.from_pretrained(plain, str(result.adapter)).eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for row in Encoder.from_folder(base).encode_all(dev):
            logits, labels = model(torch.tensor([row.input_ids])).logits[0, :-1], torch.tensor(row.labels)[1:]
            total += float(cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum"))
            count += int((labels != -100).sum())
    assert result.best_dev_loss == pytest.approx(total / count, abs=1e-3)


def test_layers_that_peft_refuses_are_said_with_those_there_are(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    base = model_of("mamba", tiny_model, tmp_path / "base")
    with pytest.raises(ConfigError, match=r"target_modules: peft refuses: .*linear layers are: dt_proj, in_proj"):
        train_lora(base, lamp_examples, [], FAST, tmp_path / "out", Resources(), silent)
    only = FAST.model_copy(update={"target_modules": ("in_proj",)})
    assert train_lora(base, lamp_examples[:8], [], only, tmp_path / "out", Resources(), silent).steps == 1
