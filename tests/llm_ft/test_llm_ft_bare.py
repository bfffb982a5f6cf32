"""The training is TRL's own: a bare TRL + peft script with the same data and seed sees the same losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ragladder.core.components import Resources
from ragladder.core.progress import Reporter
from ragladder.core.quiet import quiet_libraries
from ragladder.llm_ft import Example, LoraSettings, train_lora

SETTINGS = LoraSettings(rank=4, learning_rate=1e-2, epochs=2, batch_size=4, dtype="float32", max_length=128, patience=0)


def bare_losses(model_folder: Path, train: list[Example], dev: list[Example], out: Path) -> tuple[list[float], ...]:
    """Train and dev losses of what a user would write without this package."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    def rows(examples: list[Example]) -> Any:
        return Dataset.from_list(
            [
                {
                    "prompt": [{"role": m.role, "content": m.content} for m in e.messages],
                    "completion": [{"role": "assistant", "content": e.completion}],
                }
                for e in examples
            ]
        )

    lora = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet_libraries():
        base: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        torch.manual_seed(0)
        model: Any = get_peft_model(base, lora)
    with quiet_libraries():
        args = SFTConfig(
            output_dir=str(out),
            num_train_epochs=2,
            per_device_train_batch_size=4,
            per_device_eval_batch_size=4,
            learning_rate=1e-2,
            lr_scheduler_type="linear",
            warmup_steps=0.05,
            weight_decay=0.0,
            train_sampling_strategy="group_by_length",
            max_length=None,
            bf16=False,
            use_cpu=True,
            seed=0,
            eval_strategy="epoch",
            eval_on_start=True,  # it draws from the generator that orders the examples
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            dataloader_pin_memory=False,
        )
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    with quiet_libraries():
        trainer = SFTTrainer(model, args, train_dataset=rows(train), eval_dataset=rows(dev), processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    log = trainer.state.log_history
    return [e["loss"] for e in log if "loss" in e], [e["eval_loss"] for e in log if "eval_loss" in e]


def test_losses_equal_those_of_a_bare_script(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    # uneven lengths, so that padding and batching matter
    train = [e for place, e in enumerate(lamp_examples) if place % 6 != 5]
    ours = train_lora(tiny_model, train, lamp_examples[:6], SETTINGS, tmp_path / "ours", Resources(), silent)
    losses, dev = bare_losses(tiny_model, train, lamp_examples[:6], tmp_path / "bare")
    mine = [row.loss for row in ours.history if row.loss is not None]
    my_dev = [row.dev_loss for row in ours.history if row.dev_loss is not None]
    assert len(losses) == len(mine) == 10
    assert mine == pytest.approx(losses, abs=1e-3)
    assert my_dev == pytest.approx(dev, abs=1e-3)
    assert losses[-1] < losses[0] - 0.3, "nothing was learnt, so equal losses would say little"
