"""Preference tuning: what is read, what is learnt, what survives a kill, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ragladder.core.chat.types import Message
from ragladder.core.components import Resources
from ragladder.core.errors import DataError, StageError
from ragladder.core.progress import Reporter
from ragladder.core.quiet import quiet_libraries
from ragladder.llm_ft import Example, LoraSettings, check_adapter
from ragladder.llm_ft.preference import PreferenceResult, train_preferences
from ragladder.llm_ft.preference_data import Preference, PreferenceSettings, load_preferences

FAST = LoraSettings(rank=4, learning_rate=1e-2, epochs=2, batch_size=8, dtype="float32", max_length=128)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_preferences_are_read_and_every_bad_row_is_named(tmp_path: Path) -> None:
    pair = {"question": "How?", "chosen": "so", "rejected": "not so"}
    thumb = {"question": "Why?", "answer": "because", "liked": False}
    rows = load_preferences(write(tmp_path / "good.jsonl", pair, thumb))
    assert [(row.chosen, row.rejected) for row in rows] == [("so", "not so"), (None, "because")]
    bad = write(
        tmp_path / "bad.jsonl",
        "{",
        {"question": "x", "answer": "y", "liked": "yes"},
        {**pair, "rejected": "so"},
        {**thumb, "question": "HOW"},
        {"answer": "y", "liked": True},
    )
    with pytest.raises(DataError) as error:
        load_preferences(bad, held_out=["how?"])
    for number, said in (
        (1, "Expecting"),
        (2, "true or false"),
        (3, "the same"),
        (4, "dev or test"),
        (5, "no question"),
    ):
        assert any(f"bad.jsonl:{number}:" in line and said in line for line in str(error.value).splitlines()), said
    with pytest.raises(DataError, match="holds no preferences"):
        load_preferences(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(DataError, match="cannot be read"):
        load_preferences(tmp_path / "none.jsonl")


def likelihood(base: Path, adapter: Path, messages: tuple[Message, ...], answer: str) -> float:
    import torch
    from peft import PeftModel
    from ragladder.llm_ft import Encoder
    from ragladder.llm_ft.loss import completion_loss
    from transformers import AutoModelForCausalLM

    row = Encoder.from_folder(base).encode(messages, answer)
    with quiet_libraries(), torch.no_grad():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).eval()
        inputs = {"input_ids": torch.tensor([row.input_ids]), "labels": torch.tensor([row.labels])}
        return -float(completion_loss(model, inputs)[0])


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_liked_answers_become_likelier_than_disliked_ones(
    method: str, tiny_model: Path, adapter: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    if method == "dpo":
        rows = [Preference(e.messages, "please ask", e.completion) for e in lamp_examples[:8]]
    else:
        rows = [Preference(e.messages, "please ask", None) for e in lamp_examples[:4]]
        rows += [Preference(e.messages, None, e.completion) for e in lamp_examples[4:8]]
    settings = PreferenceSettings(data="x", learning_rate=5e-3, epochs=2)
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    result = train_preferences(tiny_model, adapter, rows, settings, FAST, tmp_path, Resources(), silent)
    assert (result.method, result.rows >= 8, result.too_long) == (method, True, 0)
    messages = lamp_examples[1].messages

    def margin(folder: Path) -> float:
        liked = likelihood(tiny_model, folder, messages, "please ask")
        return liked - likelihood(tiny_model, folder, messages, lamp_examples[1].completion)

    assert margin(tmp_path / "adapter") > margin(adapter) + 1
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before
    check_adapter(tiny_model, tmp_path / "adapter")
    assert not list(tmp_path.glob("checkpoints-*"))


class Killed(Exception):
    """Ends a training in its midst."""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_tuning_resumes_after_it_was_cut_off_to_the_same_adapter(
    method: str,
    tiny_model: Path,
    adapter: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [Preference(e.messages, "please ask", e.completion) for e in lamp_examples[:12]]
    settings = PreferenceSettings.model_validate(
        {"data": "x", "learning_rate": 5e-3, "epochs": 2, "batch_size": 2, "method": method}
    )

    def tune(out: Path) -> PreferenceResult:
        return train_preferences(tiny_model, adapter, rows, settings, FAST, out, Resources(), Reporter())

    whole = tune(tmp_path / "whole")
    from transformers import Trainer

    real, steps = Trainer.training_step, []

    def step(*args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == whole.steps // 2 + 2:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", step)
    with pytest.raises(Killed):
        tune(tmp_path / "cut")
    assert not (tmp_path / "cut" / "adapter").exists()
    monkeypatch.setattr(Trainer, "training_step", real)
    resumed = tune(tmp_path / "cut")
    assert f"{method.upper()}: training goes on from checkpoint-" in capsys.readouterr().err
    assert resumed.loss == pytest.approx(whole.loss, abs=1e-6)
    weights = "adapter/adapter_model.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert whole.loss[-1] < whole.loss[0] - 0.01, "nothing was learnt, so equal losses would say little"


def test_a_preference_loss_that_is_no_number_stops_the_tuning(
    tiny_model: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    silent: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from transformers import Trainer

    rows = [Preference(e.messages, "please ask", e.completion) for e in lamp_examples[:8]]
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: torch.tensor(float("nan")))
    with pytest.raises(
        StageError, match="the loss is nan at step 1: lower preference.learning_rate.*no checkpoint yet"
    ):
        train_preferences(tiny_model, None, rows, PreferenceSettings(data="x"), FAST, tmp_path, Resources(), silent)
    assert not (tmp_path / "adapter").exists()


def test_preferences_that_do_not_fit_the_method(
    tiny_model: Path, lamp_examples: list[Example], tmp_path: Path, silent: Reporter
) -> None:
    up = [Preference(lamp_examples[0].messages, "yes", None)]
    for method, said in (("dpo", "use kto"), ("auto", "no thumb points down")):
        settings = PreferenceSettings.model_validate({"data": "x", "method": method})
        with pytest.raises(DataError, match=said):
            train_preferences(tiny_model, None, up, settings, FAST, tmp_path, Resources(), silent)
    long = [Preference((Message("user", "red " * 300),), "yes", "no")]
    with pytest.raises(DataError, match="no preference fits max_length 128"):
        train_preferences(tiny_model, None, long, PreferenceSettings(data="x"), FAST, tmp_path, Resources(), silent)
