"""Two processes of torchrun train one adapter: the same updates as one process, and a clean end of both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ragladder.core.components import Resources
from ragladder.core.progress import Reporter
from ragladder.llm_ft import (
    Example,
    LoraResult,
    LoraSettings,
    Preference,
    PreferenceResult,
    PreferenceSettings,
    save_examples,
    train_lora,
    train_preferences,
)

pytestmark = pytest.mark.slow

SETTINGS = LoraSettings(rank=4, learning_rate=1e-2, epochs=2, batch_size=4, dtype="float32", max_length=128, patience=0)
SCRIPT = """
import sys
from pathlib import Path
from ragladder.core.components import Resources
from ragladder.core.distributed import help_leader, is_main, leading
from ragladder.core.progress import Reporter
from ragladder.llm_ft import LoraSettings, load_examples, train_lora

if not is_main():
    sys.exit(help_leader())
base, examples, settings, *outs = sys.argv[1:]
rows = load_examples(Path(examples))
chosen = LoraSettings.model_validate_json(settings)
with leading():
    for out in outs:
        train_lora(Path(base), rows, rows[:8], chosen, Path(out), Resources(), Reporter())
print("leader done")
"""


TUNING = """
import sys
from pathlib import Path
from ragladder.core.components import Resources
from ragladder.core.distributed import help_leader, is_main, leading
from ragladder.core.progress import Reporter
from ragladder.llm_ft import LoraSettings, Preference, PreferenceSettings, load_examples, train_preferences

if not is_main():
    sys.exit(help_leader())
base, examples, lora, tuning, out = sys.argv[1:]
rows = [Preference(e.messages, "please ask", e.completion) for e in load_examples(Path(examples))]
settings = PreferenceSettings.model_validate_json(tuning)
with leading():
    train_preferences(
        Path(base), None, rows, settings, LoraSettings.model_validate_json(lora), Path(out), Resources(), Reporter()
    )
print("leader done")
"""


def two_processes(folder: Path, *arguments: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    path = folder / "train.py"
    path.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, env=env)


def test_two_processes_make_the_updates_of_one_and_train_again(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    train = lamp_examples[:24]  # whole batches: nothing is seen twice
    save_examples(train, tmp_path / "examples.jsonl")
    alone = train_lora(tiny_model, train, train[:8], SETTINGS, tmp_path / "alone", Resources(), silent)
    outs = [tmp_path / "both", tmp_path / "again"]
    arguments = [str(tiny_model), str(tmp_path / "examples.jsonl"), SETTINGS.model_dump_json(), *map(str, outs)]
    ran = two_processes(tmp_path, *arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "leader done\n"
    for out in outs:
        both = LoraResult.model_validate_json((out / "result.json").read_text())
        assert (both.steps, both.tokens, both.examples) == (alone.steps, alone.tokens, alone.examples)
        for name in ("loss", "token_accuracy", "dev_loss"):
            ours, its = ([getattr(row, name) for row in one.history] for one in (both, alone))
            assert ours == [None if value is None else pytest.approx(value, abs=1e-4) for value in its], name
    assert alone.history[-1].dev_loss is not None and alone.base_dev_loss is not None
    assert alone.history[-1].dev_loss < alone.base_dev_loss - 0.3, "nothing was learnt, so equal losses say little"


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_two_processes_tune_to_preferences(
    method: str, tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    rows = lamp_examples[:16]
    save_examples(rows, tmp_path / "examples.jsonl")
    settings = PreferenceSettings.model_validate({"data": "x", "learning_rate": 5e-3, "epochs": 2, "method": method})
    liked = [Preference(e.messages, "please ask", e.completion) for e in rows]
    alone = train_preferences(tiny_model, None, liked, settings, SETTINGS, tmp_path / "alone", Resources(), silent)
    inputs = [str(tiny_model), str(tmp_path / "examples.jsonl"), SETTINGS.model_dump_json(), settings.model_dump_json()]
    ran = two_processes(tmp_path, *inputs, str(tmp_path / "both"), script=TUNING)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "leader done\n"
    both = PreferenceResult.model_validate_json((tmp_path / "both" / "preference.json").read_text())
    assert both.steps == alone.steps == len(both.loss)
    # KTO's reference point is a mean over the rows of each process, so that its losses are near, not equal.
    assert both.loss == pytest.approx(alone.loss, abs=1e-4 if method == "dpo" else 0.05)
    assert both.loss[-1] < both.loss[0] - 0.01
    assert (tmp_path / "both" / "adapter" / "adapter_model.safetensors").is_file()


def test_what_stops_the_training_is_said_once_and_ends_both(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path
) -> None:
    save_examples(lamp_examples[:8], tmp_path / "examples.jsonl")
    odd = SETTINGS.model_copy(update={"batch_size": 3}).model_dump_json()
    ran = two_processes(tmp_path, str(tiny_model), str(tmp_path / "examples.jsonl"), odd, str(tmp_path / "out"))
    assert ran.returncode != 0
    assert ran.stderr.count("train.batch_size of 3 cannot be split over 2 processes") == 1
    assert not (tmp_path / "out" / "adapter").exists()
