"""Training: it learns, repeats, resumes, and leaves the base alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ragladder
from ragladder.core.chat.types import Message
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, StageError
from ragladder.core.progress import Reporter
from ragladder.core.quiet import quiet_libraries
from ragladder.llm_ft import (
    CheckSettings,
    EstimateSettings,
    Example,
    LoraSettings,
    check_examples,
    estimate_training,
    merge_adapter,
    train_lora,
    write_model_card,
)
from ragladder.llm_ft.train import LoraResult

FAST = LoraSettings(rank=4, learning_rate=1e-2, epochs=2, batch_size=8, dtype="float32", max_length=128)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def trained(tiny_model: Path, lamp_examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> LoraResult:
    before, out = hashes(tiny_model), tmp_path_factory.mktemp("trained")
    connect = socket.socket.connect

    def refuse(*_: object) -> None:
        raise AssertionError("training opened a connection")

    socket.socket.connect = refuse  # type: ignore[method-assign, assignment]
    try:
        result = train_lora(tiny_model, lamp_examples, lamp_examples[:6], FAST, out, Resources(), Reporter(quiet=True))
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
    assert hashes(tiny_model) == before, "files of the base model were changed"
    return result


def test_the_loss_falls_and_the_record_is_whole(trained: LoraResult, lamp_examples: list[Example]) -> None:
    assert trained.base_dev_loss is not None and trained.best_dev_loss is not None
    assert trained.best_dev_loss < trained.base_dev_loss - 0.4
    assert (trained.steps, trained.best_step, trained.examples, trained.too_long) == (6, 6, 24, 0)
    dev = {row.step: row for row in trained.history if row.dev_loss is not None}
    assert sorted(dev) == [0, 3, 6]
    assert dev[6].dev_loss == trained.best_dev_loss
    assert all(0 <= row.token_accuracy <= 1 for row in trained.history if row.token_accuracy is not None)
    assert [row.step for row in trained.history] == [0, 1, 2, 3, 4, 5, 6]
    modules = 2 * 4 * (64 * 4 + 4 * 64) + 2 * 3 * (64 * 4 + 4 * 128)
    assert trained.trainable_parameters == modules
    assert LoraResult.model_validate_json((trained.adapter.parent / "result.json").read_text()) == trained
    assert not list(trained.adapter.parent.glob("checkpoints-*"))
    assert not list(trained.adapter.glob("*.bin"))


def test_the_dev_loss_is_that_of_the_saved_adapter_on_completions_alone(
    trained: LoraResult, tiny_model: Path, lamp_examples: list[Example]
) -> None:
    import torch
    from peft import PeftModel
    from ragladder.llm_ft import Encoder
    from transformers import AutoModelForCausalLM

    with quiet_libraries():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(trained.adapter))
    losses, count = 0.0, 0
    for row in Encoder.from_folder(tiny_model).encode_all(lamp_examples[:6]):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].float()
        for place, label in enumerate(row.labels[1:]):
            if label != -100:
                losses -= torch.log_softmax(logits[place], 0)[label].item()
                count += 1
    assert losses / count == pytest.approx(trained.best_dev_loss, rel=1e-4)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_prompt_tokens_and_padding_carry_no_loss(tiny_model: Path, padding: str) -> None:
    import torch
    from ragladder.llm_ft.loss import completion_loss
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.randint(7, 200, (2, 20), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, -100)
    labels[0, 12:15], labels[1, 16:19] = ids[0, 12:15], ids[1, 16:19]
    mask = torch.ones_like(ids)
    mask[0, 15:] = 0
    if padding == "left":
        ids, labels, mask = ids.flip(1), labels.flip(1), mask.flip(1)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    loss, right, count = completion_loss(model, inputs)
    wanted = model(**inputs).loss  # transformers' own, with all logits
    assert count == 6
    assert 0 <= right <= 6
    assert (loss / count).item() == pytest.approx(wanted.item(), rel=1e-5)
    labels[:] = -100
    assert completion_loss(model, inputs)[0].item() == 0


def test_a_seed_gives_the_same_adapter(
    trained: LoraResult, tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    again = train_lora(tiny_model, lamp_examples, lamp_examples[:6], FAST, tmp_path, Resources(), silent)
    weights = "adapter_model.safetensors"
    assert (again.adapter / weights).read_bytes() == (trained.adapter / weights).read_bytes()
    assert again.history == trained.history


def test_the_precision_of_a_launcher_is_not_taken_for_that_of_the_config(
    trained: LoraResult,
    tiny_model: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    silent: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As `accelerate launch --mixed_precision bf16` sets it, or the file that `accelerate config` writes.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    launched = train_lora(tiny_model, lamp_examples, lamp_examples[:6], FAST, tmp_path, Resources(), silent)
    assert launched.history == trained.history


def test_merged_logits_equal_those_with_the_adapter(trained: LoraResult, tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    before = hashes(tiny_model)
    folder = merge_adapter(tiny_model, trained.adapter, tmp_path / "merged")
    ids = torch.arange(10, 40)[None]
    with quiet_libraries(), torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        plain = base(ids).logits
        with_adapter = PeftModel.from_pretrained(base, str(trained.adapter))(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    assert torch.allclose(merged, with_adapter, atol=1e-4)
    assert not torch.allclose(merged, plain, atol=1e-2)
    assert hashes(tiny_model) == before
    with pytest.raises(DataError, match="exists already"):
        merge_adapter(tiny_model, trained.adapter, folder)
    with pytest.raises(DataError, match="holds no adapter_config.json"):
        merge_adapter(tiny_model, tmp_path, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]


def test_target_modules_that_match_nothing(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, cpu: Resources, silent: Reporter
) -> None:
    for names in (("c_attn",), ("q_proj", "lm_head"), ()):
        settings = FAST.model_copy(update={"target_modules": names})
        with pytest.raises(ConfigError, match="target_modules: .*all-linear, or some of down_proj, gate_proj, k_proj"):
            train_lora(tiny_model, lamp_examples, [], settings, tmp_path, cpu, silent)


def test_long_examples_are_left_out_aloud_and_never_cut(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, cpu: Resources, capsys: pytest.CaptureFixture[str]
) -> None:
    long = replace(lamp_examples[0], messages=(Message("user", "red " * 200),))
    settings = FAST.model_copy(update={"epochs": 1, "target_modules": ("q_proj",)})
    result = train_lora(tiny_model, [long, *lamp_examples[:7]], [], settings, tmp_path, cpu, Reporter())
    assert (result.examples, result.too_long, result.best_dev_loss) == (7, 1, None)
    said = capsys.readouterr().err
    assert "1 of 8 train examples exceed max_length 128 and are left out" in said
    assert "no dev examples" in said
    with pytest.raises(DataError, match="none of 1 train examples fits max_length 128"):
        train_lora(tiny_model, [long], [], settings, tmp_path, cpu, Reporter(quiet=True))


def test_early_stopping_keeps_the_best_epoch(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, cpu: Resources, silent: Reporter
) -> None:
    """Dev answers are others than the train answers, so that learning makes the dev loss worse."""
    dev = [replace(example, completion="zzz 999") for example in lamp_examples[:4]]
    settings = FAST.model_copy(update={"epochs": 6, "learning_rate": 3e-2, "batch_size": 4, "rank": 8})
    result = train_lora(tiny_model, lamp_examples, dev, settings, tmp_path, cpu, silent)
    losses = {row.step: row.dev_loss for row in result.history if row.dev_loss is not None and row.step}
    assert result.stopped_early
    assert result.steps < 36
    assert result.best_dev_loss == min(losses.values()) == losses[result.best_step]
    assert result.best_step < result.steps


def test_a_loss_that_is_no_number_stops(
    tiny_model: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    cpu: Resources,
    silent: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ragladder.llm_ft import loss as losses

    calls, real = [], losses.completion_loss

    def breaks(model, inputs):
        loss, right, count = real(model, inputs)
        calls.append(model.training)
        return (loss * float("nan") if sum(calls) == 5 else loss), right, count

    monkeypatch.setattr(losses, "completion_loss", breaks)
    with pytest.raises(StageError, match=r"loss is nan at step 5: .* last good adapter is in .*checkpoint-3") as e:
        train_lora(tiny_model, lamp_examples, lamp_examples[:2], FAST, tmp_path, cpu, silent)
    kept = Path(str(e.value).rpartition(" is in ")[2].rstrip("."))
    assert (kept / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "adapter").exists()


def test_estimate_counts_steps_and_measures(
    trained: LoraResult, tiny_model: Path, lamp_examples: list[Example], cpu: Resources
) -> None:
    cost = estimate_training(
        tiny_model, lamp_examples, lamp_examples[:6], FAST, EstimateSettings(price_per_hour=3.6), cpu
    )
    assert (cost.steps, cost.tokens) == (trained.steps, trained.tokens)
    assert cost.trainable_parameters == trained.trainable_parameters
    assert cost.money == pytest.approx(cost.seconds * 1e-3)
    assert 0 < cost.seconds < 60
    assert cost.examples_per_second > 0
    assert cost.peak_memory > 50e6
    with pytest.raises(DataError, match="none of 24"):
        estimate_training(tiny_model, lamp_examples, [], LoraSettings(max_length=16), EstimateSettings(), cpu)


def test_the_model_card_says_what_was_done(trained: LoraResult, lamp_examples: list[Example]) -> None:
    report = check_examples(lamp_examples, CheckSettings())
    path = write_model_card("tiny-llama", trained, FAST, report, {"correct|exact": 0.5})
    text = path.read_text()
    assert path == trained.adapter / "README.md"
    for part in ("base_model: tiny-llama", "| learning_rate | 0.01 |", "examples of kind oracle | 24", "0.5000"):
        assert part in text
    assert f"{trained.best_dev_loss:.4f}" in text
    assert str(trained.adapter) not in text


def test_settings_refuse_what_makes_no_sense() -> None:
    for wrong in ({"rank": 0}, {"learning_rate": 0}, {"dropout": 1}, {"batchsize": 2}, {"dtype": "float16"}):
        with pytest.raises(ValueError):
            LoraSettings(**wrong)


def test_importing_loads_no_heavy_library() -> None:
    code = "import ragladder.llm_ft, sys; print([m for m in ('torch', 'trl', 'peft', 'datasets') if m in sys.modules])"
    with _python(code) as process:
        assert process.communicate()[0].strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        {"dtype": "bfloat16"},
        {"packing": True},
        {"gradient_checkpointing": True},
        {"use_dora": True},
        {"use_rslora": True},
        {"dropout": 0.1, "gradient_accumulation": 2, "warmup_ratio": 0.5},
    ],
)
def test_every_option_trains_and_loads(
    option: dict, tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, cpu: Resources, silent: Reporter
) -> None:
    settings = LoraSettings.model_validate({**FAST.model_dump(), "epochs": 3, **option})
    result = train_lora(tiny_model, lamp_examples, lamp_examples[:6], settings, tmp_path, cpu, silent)
    assert result.base_dev_loss is not None and result.best_dev_loss is not None
    assert result.best_dev_loss < result.base_dev_loss - 0.1
    merge_adapter(tiny_model, result.adapter, tmp_path / "merged")
    estimate_training(tiny_model, lamp_examples, [], settings, EstimateSettings(probe_steps=1), cpu)


def test_only_the_first_gpu_is_trained_on(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1"):
        train_lora(tiny_model, lamp_examples, [], FAST, tmp_path, Resources(device="cuda:1"), silent)


@pytest.mark.slow
def test_a_base_whose_own_loss_is_no_number_is_named(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, cpu: Resources, silent: Reporter
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(StageError, match=r"base model's own dev loss is nan: .*no checkpoint yet"):
        train_lora(broken, lamp_examples, lamp_examples[:2], FAST, tmp_path / "out", cpu, silent)


def test_training_resumes_after_a_kill_to_the_same_result(
    tiny_model: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    silent: Reporter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = FAST.model_copy(update={"epochs": 5, "dropout": 0.1, "patience": 0})
    whole = train_lora(tiny_model, lamp_examples, lamp_examples[:6], settings, tmp_path / "whole", Resources(), silent)
    data, out = tmp_path / "data.jsonl", tmp_path / "killed"
    from ragladder.llm_ft import save_examples

    save_examples(lamp_examples, data)
    code = f"""
import time
from pathlib import Path
from ragladder.core.components import Resources
from ragladder.core.progress import Reporter
from ragladder.llm_ft import LoraSettings, load_examples, train_lora
from ragladder.llm_ft import loss
real = loss.completion_loss
def slow(model, inputs):
    time.sleep(0.1)
    return real(model, inputs)
loss.completion_loss = slow
rows = load_examples(Path({str(data)!r}))
settings = LoraSettings.model_validate_json({settings.model_dump_json()!r})
train_lora(Path({str(tiny_model)!r}), rows, rows[:6], settings, Path({str(out)!r}), Resources(), Reporter())
"""
    deadline = time.monotonic() + 120
    with _python(code) as process:
        while not list(out.glob("checkpoints-*/checkpoint-6/trainer_state.json")):
            assert process.poll() is None, "training ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / "adapter").exists()
    broken = next(out.glob("checkpoints-*")) / "checkpoint-12"
    broken.mkdir(exist_ok=True)  # a checkpoint that a kill cut off
    resumed = train_lora(tiny_model, lamp_examples, lamp_examples[:6], settings, out, Resources(), Reporter())
    assert "training goes on from checkpoint-" in capsys.readouterr().err
    weights = "adapter_model.safetensors"
    assert (resumed.adapter / weights).read_bytes() == (whole.adapter / weights).read_bytes()
    assert resumed.history == whole.history
    assert (resumed.best_step, resumed.steps) == (whole.best_step, whole.steps)
    assert json.loads((out / "result.json").read_text())["seconds"] > 0


def _python(code: str) -> subprocess.Popen[str]:
    """A Python process that finds the package under test."""
    package = Path(ragladder.__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(package.parent)]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
