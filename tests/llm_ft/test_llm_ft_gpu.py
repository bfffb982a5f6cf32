"""On a GPU: bf16 LoRA and QLoRA against a bare TRL + peft script, on random weights in the shape of a 0.5 B Llama."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ragladder
from ragladder.core.components import Resources
from ragladder.core.progress import Reporter
from ragladder.llm_ft import Example, LoraSettings, merge_adapter, train_lora

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

ROOT = Path(ragladder.__file__).parent


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_losses_and_throughput_are_those_of_a_bare_script(quantize: str) -> None:
    if quantize == "4bit":
        pytest.importorskip("bitsandbytes")
    options = ["--device", "cuda", "--shape", "0.5b", "--dtype", "bfloat16", "--tokens", "512", "--quantize", quantize]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT.parent)])}
    command = [sys.executable, str(ROOT / "benchmarks" / "llm_throughput.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_an_adapter_of_four_bits_learns_and_merges_onto_the_weights_on_disk(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    settings = LoraSettings(rank=4, learning_rate=1e-2, epochs=3, batch_size=8, max_length=128, quantize="4bit")
    on = Resources(device="cuda")
    result = train_lora(tiny_model, lamp_examples, lamp_examples[:6], settings, tmp_path, on, Reporter(quiet=True))
    assert result.base_dev_loss is not None and result.best_dev_loss is not None
    assert result.best_dev_loss < result.base_dev_loss - 0.1
    merged = merge_adapter(tiny_model, result.adapter, tmp_path / "merged")
    assert (merged / "model.safetensors").stat().st_size >= (tiny_model / "model.safetensors").stat().st_size * 0.9
