"""What surrounds a training: search, learning curve, teacher, forgetting, export, and bad input."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragladder.core.chat.types import ChatRequest, Completion, Message, Probe
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, MissingExtra, StageError
from ragladder.core.progress import Reporter
from ragladder.core.quiet import quiet_libraries
from ragladder.core.types import Question
from ragladder.llm_ft import Example, LoraSettings, estimate_training, merge_adapter, train_lora
from ragladder.llm_ft.curator import TeacherSettings, curate
from ragladder.llm_ft.curve import CurveSettings, advise, doubling_gains, share_of
from ragladder.llm_ft.estimate import EstimateSettings
from ragladder.llm_ft.export import export_adapter
from ragladder.llm_ft.forgetting import ForgettingSettings, general_prompts, measure_forgetting
from ragladder.llm_ft.model import check_adapter
from ragladder.llm_ft.search import SearchSettings, SearchTrial, advise_next, best_trial

FAST = LoraSettings(rank=4, learning_rate=1e-2, epochs=2, batch_size=8, dtype="float32", max_length=128)
TEACHER = {"kind": "local", "model": "teacher"}


@pytest.fixture(scope="module")
def other_base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shapes, other weights."""
    import shutil

    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("other") / "base"
    shutil.copytree(tiny_model, folder)
    with quiet_libraries():
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            model.model.norm.weight.mul_(1.01)
        model.save_pretrained(folder)
    return folder


# --- search -----------------------------------------------------------------------------------------------------------


def trial(losses: Sequence[float], dev: Sequence[float], **settings: Any) -> SearchTrial:
    history = [{"loss": None, "dev_loss": dev[0]}, *({"loss": loss, "dev_loss": None} for loss in losses)]
    history += [{"loss": None, "dev_loss": loss} for loss in dev[1:]]
    best = min(dev[1:]) if dev[1:] else None
    return SearchTrial(FAST.model_copy(update=settings), "", {"history": history, "best_dev_loss": best})


def test_advice_follows_what_the_losses_say() -> None:
    limits = SearchSettings()
    still, _ = advise_next([trial([3.0, 1.0], [3.0, 2.0, 1.5])], limits) or (FAST, "")
    assert (still.epochs, still.learning_rate) == (4, FAST.learning_rate)
    flat, why = advise_next([trial([3.0, 2.95], [3.0, 2.99, 2.98], learning_rate=1e-4)], limits) or (FAST, "")
    assert flat.learning_rate == pytest.approx(3e-4)
    assert "higher rate" in why
    over, _ = advise_next([trial([3.0, 0.2], [3.0, 1.0, 1.4, 1.6])], limits) or (FAST, "")
    assert over.learning_rate == pytest.approx(FAST.learning_rate / 3)
    settled = trial([3.0, 1.0], [3.0, 1.0, 0.999])
    assert advise_next([settled], limits) is None
    assert advise_next([trial([3.0, 1.0], [3.0, 2.0, 1.5])] * 4, limits) is None


def test_the_best_trial_is_the_lowest_dev_loss_and_the_cheaper_of_equals() -> None:
    first, second = trial([3.0, 1.0], [3.0, 1.0]), trial([3.0, 1.0], [3.0, 1.0], epochs=4)
    assert best_trial([first, second]) is first
    assert best_trial([first, trial([1.0], [3.0, 0.5])]).dev_loss == 0.5


# --- learning curve ---------------------------------------------------------------------------------------------------


@given(gain=st.floats(-0.2, 0.2), start=st.floats(0, 1), sizes=st.sets(st.integers(1, 1000), min_size=2, max_size=5))
def test_the_slope_of_a_straight_line_is_its_gain(gain: float, start: float, sizes: set[int]) -> None:
    import math

    points = [(size, {"q": start + gain * math.log2(size)}) for size in sorted(sizes)]
    assert doubling_gains(points)["q"] == pytest.approx(gain, abs=1e-6)


def test_questions_without_a_score_are_left_out_and_one_size_is_no_curve() -> None:
    assert doubling_gains([(10, {"a": 0.0, "b": None}), (20, {"a": 1.0, "b": 1.0})]) == {"a": pytest.approx(1.0)}
    with pytest.raises(ValueError, match="two different"):
        doubling_gains([(10, {"a": 0.0}), (10, {"a": 1.0})])


def test_shares_are_nested_and_in_order() -> None:
    questions = [Question(f"q{n}", "?", "a") for n in range(40)]
    quarter, half = share_of(questions, 0.25, 7), share_of(questions, 0.5, 7)
    assert (len(quarter), len(half)) == (10, 20)
    assert {q.id for q in quarter} < {q.id for q in half}
    assert half == [q for q in questions if q in half]
    assert share_of(questions, 0.25, 8) != quarter
    with pytest.raises(ValueError, match="below 1"):
        CurveSettings(shares=(0.5, 1.0))


@pytest.mark.parametrize(
    ("gain", "low", "high", "met", "advice"),
    [
        (0.05, 0.02, 0.08, False, "more_data"),
        (0.0, -0.005, 0.005, False, "bigger_model"),
        (0.03, -0.02, 0.08, False, "unclear"),
        (0.05, 0.02, 0.08, True, "stop"),
        (0.05, None, None, False, "unclear"),
    ],
)
def test_advice_of_the_curve(gain: float, low: float | None, high: float | None, met: bool, advice: str) -> None:
    assert advise(gain, low, high, 0.01, met)[0] == advice


# --- teacher ----------------------------------------------------------------------------------------------------------


class Teacher:
    """Answers what it is told to, by question."""

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies, self.asked = replies, 0

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.asked += len(requests)
        found = [next((r for q, r in self.replies.items() if q in x.messages[0].content), "") for x in requests]
        return [Completion(text, "ok" if text else "timeout") for text in found]

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


def test_the_teacher_rejects_rewrites_and_never_drops_in_silence(lamp_examples: list[Example]) -> None:
    five = lamp_examples[:5]  # red, green, blue, amber, white
    abstention = replace(five[0], completion="Not documented [none]", kind="abstain")
    replies = {
        "of door 00": '{"grade": 1, "answer": "red [HW-0]"}',
        "of door 01": 'Sure: {"grade": 5, "answer": "lamp is green [HW-0]"}',
        "of door 02": '{"grade": 5, "answer": "a sky blue by Monet [HW-0]"}',
        "of door 03": '{"grade": 5, "answer": "amber"}',
    }
    examples = [
        replace(e, messages=(Message("user", f"lamp of door 0{n} is {e.completion[:-7]}.\n{e.question}"),))
        for n, e in enumerate(five)
    ]
    teacher = Teacher(replies)
    settings = TeacherSettings.model_validate({"llm": TEACHER, "rewrite": True})
    done = curate([*examples, examples[1], abstention], teacher, settings)
    assert teacher.asked == 5, "one call a question, none for abstentions"
    assert done.rejected == ((five[0].question_id, 1),)
    assert done.rewritten == (five[1].question_id,)
    assert done.refused == (five[2].question_id, five[3].question_id), "not in the passages; lost its citation"
    assert done.failed == (five[4].question_id,)
    kept = [e.completion for e in done.examples]
    assert kept == [
        "lamp is green [HW-0]",
        *(e.completion for e in five[2:]),
        "lamp is green [HW-0]",
        abstention.completion,
    ]
    assert "1 questions rejected, 1 answers rewritten, 2 rewrites refused, 1 without a verdict" in done.summary()
    plain = curate(examples, Teacher(replies), TeacherSettings.model_validate({"llm": TEACHER}))
    assert plain.rewritten == ()


@pytest.mark.parametrize("reply", ['{"grade": 7, "answer": "x"}', '{"grade": true, "answer": "x"}', "{}", "no", "[1]"])
def test_a_verdict_that_is_none_leaves_the_answer(reply: str, lamp_examples: list[Example]) -> None:
    done = curate(lamp_examples[:1], Teacher({"door": reply}), TeacherSettings.model_validate({"llm": TEACHER}))
    assert (done.examples, done.failed) == ((lamp_examples[0],), (lamp_examples[0].question_id,))


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_forgetting_is_nothing_for_an_untrained_adapter_and_something_for_a_trained_one(
    tiny_model: Path, adapter: Path, tmp_path: Path, cpu: Resources
) -> None:
    from ragladder.llm_ft._run import save_adapter
    from ragladder.llm_ft.model import add_adapter, load_base

    settings = ForgettingSettings(max_tokens=8)
    prompts = general_prompts(settings, cpu)[:4]
    said = ["The lamp of door 3 is red.", "What colour is it?", "green", "door 4"]
    save_adapter(add_adapter(load_base(tiny_model, FAST, "cpu"), FAST), tmp_path / "new", tiny_model)
    none = measure_forgetting(tiny_model, tmp_path / "new", prompts, settings, cpu, said)
    assert none.rise == pytest.approx(0, abs=1e-5)
    some = measure_forgetting(tiny_model, adapter, prompts, settings, cpu, said)
    assert some.base_loss == pytest.approx(none.base_loss, abs=1e-5)
    assert some.rise > 0.05
    assert "4 general prompts" in some.sentence()
    with pytest.raises(DataError, match="answers none"):
        measure_forgetting(tiny_model, adapter, prompts, settings, cpu, [""] * 4)
    (tmp_path / "mine.txt").write_text("One?\n\nTwo?\n")
    mine = ForgettingSettings(prompts=str(tmp_path / "mine.txt"))
    assert general_prompts(mine, cpu) == ("One?", "Two?")
    (tmp_path / "mine.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no prompts"):
        general_prompts(mine, cpu)


# --- export -----------------------------------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_export_serves_the_same_answers_and_names_its_commands(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = digests(tiny_model)
    result = export_adapter(tiny_model, adapter, tmp_path / "out", base_name="org/tiny", env={"PATH": ""})
    for one in ("tokenizer.json", "tokenizer_config.json"):  # llama.cpp's converter reads the base's own
        assert (result.folder / "merged" / one).read_bytes() == (tiny_model / one).read_bytes()
    assert digests(tiny_model) == before
    vllm = "vllm serve org/tiny --enable-lora --max-lora-rank 8 --lora-modules ragladder=adapter"
    assert result.commands["vllm"] == vllm
    config = json.loads((result.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert any("convert_hf_to_gguf.py was not found" in note for note in result.notes)
    readme = (result.folder / "README.md").read_text()
    assert all(command in readme for command in result.commands.values())
    ids = torch.arange(10, 40)[None]
    with quiet_libraries(), torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        wanted = PeftModel.from_pretrained(base, str(result.folder / "adapter"))(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(result.folder / "merged")(ids).logits
    assert torch.allclose(merged, wanted, atol=1e-4)
    text = (result.folder / "Modelfile").read_text()
    assert text.startswith("FROM ./merged\n")
    assert 'PARAMETER stop "<|end|>"' in text
    # The template, filled in, is what the model's own chat template writes.
    template = text.partition('TEMPLATE """')[2].partition('"""')[0]
    alone = template.partition("{{ else }}")[2].partition("{{ end }}")[0]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    turn = [{"role": "user", "content": "How long?"}]
    asked = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert alone.replace("{{ .Prompt }}", "How long?") == asked
    with pytest.raises(DataError, match="not empty"):
        export_adapter(tiny_model, adapter, tmp_path / "out", ["vllm"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_merged_model_keeps_the_tokenizer_files_that_transformers_would_drop(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    bare = shutil.copytree(adapter, tmp_path / "bare", ignore=shutil.ignore_patterns("base.json"))
    (base / "special_tokens_map.json").write_text("{}")
    (base / "tokenizer.model").write_bytes(b"sentencepiece's own file")
    result = export_adapter(base, bare, tmp_path / "out", ["transformers"], env={"PATH": ""})
    assert (result.folder / "merged" / "tokenizer.model").read_bytes() == b"sentencepiece's own file"
    assert (result.folder / "merged" / "special_tokens_map.json").read_text() == "{}"


def test_gguf_is_made_by_the_converter_of_llama_cpp(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    tools = tmp_path / "llama.cpp"
    tools.mkdir()
    script = tools / "convert_hf_to_gguf.py"
    script.write_text("import sys\nopen(sys.argv[sys.argv.index('--outfile') + 1], 'w').write(sys.argv[1])\n")
    env = {"LLAMA_CPP": str(tools)}
    result = export_adapter(tiny_model, adapter, tmp_path / "out", ["ollama"], env=env)
    assert (result.folder / "model.gguf").read_text() == "merged"
    assert (result.folder / "Modelfile").read_text().startswith("FROM ./model.gguf\n")
    script.write_text("raise SystemExit('unknown architecture')")
    with pytest.raises(StageError, match="unknown architecture"):
        export_adapter(tiny_model, adapter, tmp_path / "broken", ["ollama"], env=env)
    script.write_text("raise NotImplementedError('BPE pre-tokenizer was not recognized - update it')")
    with pytest.raises(StageError, match="does not know this model's tokenizer .* without 'ollama'"):
        export_adapter(tiny_model, adapter, tmp_path / "broken", ["ollama"], env=env)
    script.write_text("import a_package_that_nobody_has")
    with pytest.raises(StageError, match="needs the package 'a_package_that_nobody_has': pip install -r"):
        export_adapter(tiny_model, adapter, tmp_path / "broken", ["ollama"], env=env)
    with pytest.raises(DataError, match="is not in it"):
        export_adapter(tiny_model, adapter, tmp_path / "broken", ["ollama"], env={"LLAMA_CPP": str(tmp_path)})
    assert not (tmp_path / "broken").exists()


# --- bad input --------------------------------------------------------------------------------------------------------


def test_an_adapter_of_another_base_is_refused_everywhere(
    tiny_model: Path, other_base: Path, adapter: Path, tmp_path: Path, cpu: Resources
) -> None:
    check_adapter(tiny_model, adapter)
    with pytest.raises(DataError, match="trained on another base"):
        merge_adapter(other_base, adapter, tmp_path / "merged")
    with pytest.raises(DataError, match="trained on another base"):
        export_adapter(other_base, adapter, tmp_path / "out", ["vllm"])
    with pytest.raises(DataError, match="trained on another base"):
        measure_forgetting(other_base, adapter, ["Hi"], ForgettingSettings(), cpu)
    assert not list(tmp_path.glob("[!c]*"))


def test_four_bits_without_bitsandbytes_or_gpu(
    tiny_model: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    silent: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ragladder.core import errors

    settings = FAST.model_copy(update={"quantize": "4bit"})
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'ragladder\[gpu\]'"):
        train_lora(tiny_model, lamp_examples, [], settings, tmp_path, Resources(device="cuda"), silent)
    monkeypatch.setattr(errors, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="4bit needs a CUDA device, and this one is cpu"):
        estimate_training(tiny_model, lamp_examples, [], settings, EstimateSettings(), Resources())


def test_no_train_examples(tiny_model: Path, tmp_path: Path, silent: Reporter) -> None:
    with pytest.raises(DataError, match="there are no train examples"):
        train_lora(tiny_model, [], [], FAST, tmp_path, Resources(), silent)


@pytest.mark.parametrize("message", ["[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", None])
def test_out_of_memory_says_what_to_lower(
    message: str | None,
    tiny_model: Path,
    lamp_examples: list[Example],
    tmp_path: Path,
    silent: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from ragladder.llm_ft import loss

    def full(*_: object) -> None:
        raise RuntimeError(message) if message else torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loss, "completion_loss", full)
    with pytest.raises(StageError, match="out of memory on cpu: lower batch_size or max_length.*no checkpoint yet"):
        train_lora(tiny_model, lamp_examples, [], FAST, tmp_path, Resources(), silent)
