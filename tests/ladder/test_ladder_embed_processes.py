"""`torchrun` or `accelerate launch` of `embed train`: two real processes on the CPU share one training out."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Cli = Callable[..., Any]


def setting(batch_size: int = 4, max_length: int = 256) -> tuple[str, ...]:
    """Of a small training of the tiny model, which lies in the workspace."""
    train = f"{{epochs: 2, dtype: fp32, wise_ft: [0.5], learning_rate: 1.0e-3, batch_size: {batch_size}, "
    rung = f"rungs.embedding={{metric: ndcg@5, adapter: null, train: {train}max_length: {max_length}}}}}"
    return ("--set", rung, "--set", "pipeline.embed.model=model")


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# On a machine without GPUs accelerate starts several processes only when told that they are for GPUs.
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "bf16")
# With a double of a second device that has too little memory for more than two pairs.
SMALL_MEMORY = """
import os, runpy, torch
from ragladder.embeddings._trial import Trial

backward = Trial.backward

def small(self, batch):
    if os.environ["RANK"] == "1" and len(batch["anchor"]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return backward(self, batch)

Trial.backward = small
runpy.run_module("ragladder", run_name="__main__", alter_sys=True)
"""


def launched(
    workspace: Any,
    *arguments: object,
    launcher: tuple[str, ...] = TORCHRUN,
    program: tuple[str, ...] = ("-m", "ragladder"),
) -> subprocess.CompletedProcess[str]:
    """Runs a command as a launcher starts it."""
    command = [sys.executable, "-m", *launcher, *program, *map(str, arguments)]
    return subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, timeout=280)


def losses(result: dict[str, Any]) -> list[float]:
    return [row["loss"] for row in result["training"]["history"]]


def model_without_dropout(workspace: Any) -> None:
    """A copy of the tiny model: two processes would draw other masks than one."""
    folder = workspace.root / "model"
    shutil.copytree(workspace.settings()["pipeline"]["embed"]["model"], folder)
    settings = json.loads((folder / "config.json").read_text())
    none = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (folder / "config.json").write_text(json.dumps({**settings, **none}))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_make_the_training_of_one(workspace: Any, cli: Cli, launcher: tuple[str, ...]) -> None:
    model_without_dropout(workspace)
    ran = launched(workspace, "embed", "train", workspace.config, "--json", *setting(), launcher=launcher)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)  # one process prints
    assert result["training"]["processes"] == 2
    assert all(math.isfinite(loss) for loss in losses(result))
    assert (Path(result["model"]) / "modules.json").is_file()
    assert len([name for name in workspace.stages() if name.startswith("embedding-train")]) == 1
    assert not list((workspace.cache / "training").glob("embedding-*"))

    again = json.loads(cli("embed", "train", workspace.config, "--json", *setting()).out)
    assert again["reused"] is True and again["model"] == result["model"]

    # The same training on one device, as a stage of its own: a shorter limit changes nothing on texts this short.
    alone = json.loads(cli("embed", "train", workspace.config, "--json", *setting(max_length=255)).out)
    assert alone["reused"] is False and alone["training"]["processes"] == 1
    np.testing.assert_allclose(losses(result), losses(alone), atol=1e-4)
    assert result["after"] == pytest.approx(alone["after"], abs=1e-6)


@pytest.mark.slow
def test_processes_that_cannot_share_a_batch_are_refused_once(workspace: Any) -> None:
    model_without_dropout(workspace)
    ran = launched(workspace, "embed", "train", workspace.config, *setting(batch_size=5))
    assert ran.returncode != 0
    assert ran.stderr.count("error: train embedder: batch_size 5 cannot be shared out among 2 processes") == 1
    assert not any(name.startswith("embedding-train") for name in workspace.stages())


@pytest.mark.slow
def test_where_one_process_lacks_memory_all_halve_the_batch(workspace: Any) -> None:
    model_without_dropout(workspace)
    (workspace.root / "small.py").write_text(SMALL_MEMORY)
    command = ("embed", "train", workspace.config, *setting(batch_size=8))
    ran = launched(workspace, *command, program=("small.py",))
    assert ran.returncode == 0, ran.stderr
    assert (ran.stdout + ran.stderr).count("out of memory; starting again with batch_size 4") == 1
    (stage,) = (name for name in workspace.stages() if name.startswith("embedding-train"))
    result = json.loads((workspace.cache / "stages" / stage / "training.json").read_text())
    assert (result["batch_size"], result["processes"]) == (4, 2)
    assert len(result["history"]) == 2 * 3
