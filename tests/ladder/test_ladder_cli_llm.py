"""`ragladder llm`: prompts, data, training, learning curve and export by themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_reading import TUNED, contents, parsed, rung, suggested

Cli = Callable[..., Any]


def test_llm_data_reports_what_the_climb_trains_on(all_rungs: Any, cli: Cli) -> None:
    result = parsed(cli("llm", "data", all_rungs.config, "--json", "--show", 4, *TUNED))
    details = rung(all_rungs, "llm")
    assert result["report"] == details["data"]
    assert (result["inserted"], result["without_oracle"], result["trimmed"]) == (
        details["inserted"],
        details["without_oracle"],
        details["trimmed"],
    )
    assert (result["dev_examples"], result["estimate"], len(result["samples"])) == (13, None, 4)
    ran = cli("llm", "data", all_rungs.config, "--show", 4, *TUNED)
    for sample in result["samples"]:
        assert all(text in ran.out for _, text in sample["messages"])
        assert f"[assistant, to be learnt]\n{sample['completion']}\n" in ran.out
    assert f"window {result['report']['tokens']['window']}" in ran.out
    assert suggested(ran)[:2] == ["llm", "train"]


def test_llm_data_that_cannot_be_trained_on_exits_with_3(all_rungs: Any, cli: Cli) -> None:
    style = ("--set", "rungs.llm.checks.style=never")
    ran = cli("llm", "data", all_rungs.config, "--estimate", *style)
    assert ran.code == 3
    assert "error    style: 13 of 13 examples" in ran.out
    assert "estimate: not made" in ran.out
    assert "next:" not in ran.out
    result = parsed(cli("llm", "data", all_rungs.config, "--json", *style), code=3)
    assert [f["check"] for f in result["report"]["findings"] if f["severity"] == "error"] == ["style"]
    refused = cli("llm", "train", all_rungs.config, *style)
    assert refused.code == 3
    assert "style" in refused.err


def test_warnings_are_listed_and_do_not_stop(all_rungs: Any, cli: Cli) -> None:
    ran = cli("llm", "data", all_rungs.config, "--show", 0, "--set", "rungs.llm.checks.min_abstain=0.9")
    assert ran.code == 0
    assert "warning  balance: " in ran.out


def test_the_estimate_is_of_the_steps_that_training_takes(all_rungs: Any, cli: Cli) -> None:
    ran = parsed(cli("llm", "data", all_rungs.config, "--json", "--estimate", "--price", 3600, *TUNED))
    cost = ran["estimate"]
    trained = rung(all_rungs, "llm")
    assert cost["steps"] == trained["steps"]
    assert cost["trainable_parameters"] == trained["trainable_parameters"]
    assert cost["money"] == pytest.approx(cost["seconds"])
    assert cost["seconds"] > 0
    alone = cli("llm", "data", all_rungs.config, "--price", 2)
    assert alone.code == 2
    assert "--estimate" in alone.err


def test_llm_train_is_the_climbs_training_and_eval_takes_its_adapter(all_rungs: Any, cli: Cli) -> None:
    before = all_rungs.stages()
    result = parsed(cli("llm", "train", all_rungs.config, "--json", *TUNED))
    details = rung(all_rungs, "llm")
    assert result["reused"] is True
    assert Path(result["adapter"]).relative_to(all_rungs.cache) == Path(*Path(details["adapter"]).parts[-3:])
    assert (result["before"], result["after"]) == (details["base_dev_loss"], details["best_dev_loss"])
    assert result["improved"] is (result["after"] < result["before"])
    assert all_rungs.stages() == before
    ran = cli("llm", "train", all_rungs.config, *TUNED, "--out", "adapter")
    assert f"dev loss: {result['before']:.4f} before, {result['after']:.4f} after" in ran.out
    assert contents(all_rungs.root / "adapter") == contents(Path(result["adapter"]))
    arguments = suggested(ran)
    assert f"pipeline.generate.llm.adapter={all_rungs.root / 'adapter'}" in arguments
    assert parsed(cli(*arguments, "--json"))["questions"] == 13


# --- by words alone: nothing to encode --------------------------------------------------------------------------------


@pytest.fixture
def small(words: Any, tiny_llm: Path) -> Any:
    """A workspace that searches words, answers by the tiny LLM, and has the LLM rung alone."""
    settings = words.settings()
    settings["pipeline"]["chunk"]["size"] = 96
    settings["pipeline"]["generate"] = {
        "kind": "llm",
        "max_tokens": 4,
        "llm": {"kind": "local", "model": str(tiny_llm), "dtype": "float32"},
        "prompt": {"template": "cited", "max_context_tokens": 300},
    }
    train = {"epochs": 1, "max_length": 480, "learning_rate": 2e-2, "rank": 4, "dtype": "float32"}
    settings["score"]["answer_metric"] = "token_f1"
    settings["rungs"] = {"llm": {"data": {"copies": 1}, "train": train}}
    words.write(settings)
    return words


def test_prompts_are_tried_and_what_is_left_is_listed(small: Any, cli: Cli) -> None:
    axes = "rungs.llm.prompts={generate.prompt.template: [plain, cited], generate.prompt.demonstrations: [1]}"
    report = parsed(cli("llm", "prompts", small.config, "--json", "--set", axes))
    assert report["tried"] >= 2
    assert report["metric"] == "token_f1"
    # A random model answers nothing well: every question whose evidence is found is an edge case.
    assert len(report["edge_cases"]) >= 5
    ran = cli("llm", "prompts", small.config, "--set", axes)
    assert f"edge cases left for training: {len(report['edge_cases'])} of 13" in ran.out
    first = report["edge_cases"][0]
    shown = f"  {first['question_id']}: {first['question']}\n      expected: {first['reference']}\n      answered:"
    assert shown in ran.out
    assert suggested(ran)[:2] == ["llm", "data"]
    for wrong, said in (
        ("{embed.model: [x]}", "no prompt setting"),
        ("{generate.llm.model: [x]}", "name other bases in `sizes`"),
        ("{generate.prompt.template: []}", "has no values"),
    ):
        refused = cli("llm", "prompts", small.config, "--set", f"rungs.llm.prompts={wrong}")
        assert refused.code == 2
        assert said in refused.err


def test_what_was_decided_for_a_tokenizer_is_said_with_the_data(small: Any, cli: Cli, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(small.settings()["pipeline"]["generate"]["llm"]["model"], bare)
    (bare / "chat_template.jinja").unlink()
    config = json.loads((bare / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    ran = cli("llm", "data", small.config, "--show", 0, "--set", f"pipeline.generate.llm.model={bare}")
    assert ran.code == 0, ran.err
    assert "note: the model has no chat template: messages are joined by blank lines" in ran.out
    assert "note: the tokenizer has no pad token: its end-of-sequence token '<|end|>' is used" in ran.out
    assert "note: 13 train questions are few, 50 to 100 a usual start: `ragladder llm curve`" in ran.out


def test_a_climb_that_could_not_train_in_the_end_does_not_begin(small: Any, cli: Cli) -> None:
    before = small.stages()
    for command in ("check", "climb"):
        ran = cli(command, small.config, "--set", "rungs.llm.train.quantize=4bit")
        assert ran.code == 2 and "4bit" in ran.err
    assert small.stages() == before and not small.runs()


def test_a_page_of_samples_is_written(small: Any, cli: Cli) -> None:
    ran = cli("llm", "data", small.config, "--show", 2, "--page", "page.md")
    assert ran.code == 0, ran.err
    page = (small.root / "page.md").read_text()
    assert page.count("[assistant, to be learnt]") == 2
    assert "tokens an example" in page


def test_the_learning_curve_says_what_doubling_would_bring(small: Any, cli: Cli) -> None:
    report = parsed(cli("llm", "curve", small.config, "--json"))
    assert [point["share"] for point in report["points"]] == [0.25, 0.5, 1.0]
    counts = [point["questions"] for point in report["points"]]
    assert counts == sorted(set(counts))
    assert report["advice"] in ("more_data", "bigger_model", "stop", "unclear")
    ran = cli("llm", "curve", small.config)
    assert report["reason"] in ran.out
    # What the training command does is the curve's last point: found, not done again.
    assert parsed(cli("llm", "train", small.config, "--json"))["reused"] is True


def test_a_baked_prompt_is_trained_short_and_asked_short(small: Any, cli: Cli) -> None:
    bake = ("--set", "rungs.llm.bake_prompt=true")
    sample = parsed(cli("llm", "data", small.config, "--json", "--show", 1, *bake))["samples"][0]
    assert "Answer the question from the passages" not in sample["messages"][0][1]
    assert sample["messages"][0][1].endswith("Answer:")
    result = parsed(cli("llm", "train", small.config, "--json", "--out", "adapter", *bake))
    assert list(result["prompt_changes"]) == ["pipeline.generate.prompt.template"]
    plain = parsed(cli("llm", "data", small.config, "--json", "--show", 1))["report"]["tokens"]
    baked = parsed(cli("llm", "data", small.config, "--json", "--show", 1, *bake))["report"]["tokens"]
    assert baked["median"] < plain["median"] - 30
    wrong = cli("llm", "data", small.config, *bake, "--set", "rungs.llm.baked_template='no slots {question}'")
    assert wrong.code == 2
    assert "the template lacks {contexts}" in wrong.err


def test_an_adapter_is_exported_for_each_server(small: Any, cli: Cli) -> None:
    nothing = cli("llm", "export", small.config, "served")
    assert nothing.code == 2
    assert "--adapter" in nothing.err
    trained = parsed(cli("llm", "train", small.config, "--json", "--out", "adapter"))
    assert "| learning_rate | 0.02 |" in (Path(trained["adapter"]) / "README.md").read_text()
    result = parsed(
        cli("llm", "export", small.config, "served", "--adapter", "adapter", "--base", "org/base", "--json")
    )
    assert set(result["commands"]) == {"vllm", "ollama", "transformers"}
    assert "vllm serve org/base --enable-lora --max-lora-rank 8" in result["commands"]["vllm"]
    assert (small.root / "served" / "merged" / "model.safetensors").is_file()
    # The config's own adapter is the default.
    own = f"pipeline.generate.llm.adapter={small.root / 'adapter'}"
    ran = cli("llm", "export", small.config, "alone", "--formats", "vllm", "--set", own)
    assert ran.code == 0, ran.err
    assert not (small.root / "alone" / "merged").exists()
    assert cli("llm", "export", small.config, "alone", "--set", own).code == 3
    unknown = cli("llm", "export", small.config, "other", "--formats", "tgi", "--set", own)
    assert (unknown.code, "'tgi' is not known" in unknown.err) == (2, True)


def test_base_and_adapter_are_compared_side_by_side(small: Any, cli: Cli) -> None:
    nothing = cli("llm", "compare", small.config)
    assert (nothing.code, "name one with --adapter" in nothing.err) == (2, True)
    parsed(cli("llm", "train", small.config, "--json", "--out", "adapter"))
    found = parsed(cli("llm", "compare", small.config, "--adapter", "adapter", "--json"))
    one, edge = found["comparison"], found["edge_cases"]
    dev = {row["id"] for row in small.rows() if row["split"] == "dev"}
    assert one["wins"] + one["ties"] + one["losses"] == one["n"] == len(dev)
    assert edge["questions"] and set(edge["questions"]) <= dev
    assert {row["question_id"] for row in edge["answers"]} == {*edge["questions"], *edge["newly_lost"]}
    assert found["forgetting"] is None
    ran = cli("llm", "compare", small.config, "--adapter", "adapter", "--show", 2)
    assert ran.out.count("\nreference: ") == ran.out.count("\nadapter (") == 2
    assert f"{one['wins']} won, {one['ties']} tied, {one['losses']} lost" in ran.out
    assert suggested(ran)[:1] == ["climb"]
    # An adapter of another base, here one whose note was changed, is refused before the base answers.
    (small.root / "adapter" / "base.json").write_text(json.dumps({"weights": "0" * 64}))
    wrong = cli("llm", "compare", small.config, "--adapter", "adapter")
    assert (wrong.code, "was trained on another base" in wrong.err) == (3, True)


@pytest.mark.slow
def test_two_processes_train_what_one_does(small: Any, cli: Cli) -> None:
    small.write(small.settings())
    started = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*started, "-m", "ragladder", "llm", "train", str(small.config), "--json", "--out", "both"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, cwd=small.root)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)  # one process prints
    assert result["reused"] is False and (small.root / "both" / "adapter_model.safetensors").is_file()
    assert not list((small.cache / "training").glob("*")), "no leftovers"
    # One process finds that training, and would come to the same.
    again = parsed(cli("llm", "train", small.config, "--json"))
    assert again["reused"] is True
    shutil.rmtree(next((small.cache / "stages").glob("llm-train-*")))
    alone = parsed(cli("llm", "train", small.config, "--json"))
    assert alone["reused"] is False
    assert alone["training"]["steps"] == result["training"]["steps"]
    # 13 examples fill no whole batches: a few count twice with two processes, so the losses are near, not equal.
    fell = alone["before"] - alone["after"]
    assert fell > 0.1
    assert abs(alone["after"] - result["after"]) < 0.1 * fell


def test_the_plan_counts_prompts_search_and_curve_beside_the_training(small: Any, cli: Cli) -> None:
    settings = small.settings()
    settings["rungs"]["llm"] |= {
        "prompts": {"generate.prompt.template": ["plain", "cited", "reasoned"], "generate.prompt.chain": ["extract"]},
        "search": {"trials": 4},
        "curve": {"shares": [0.25, 0.5]},
        "reference": settings["pipeline"]["generate"]["llm"],
        "forgetting": {},
    }
    small.write(settings)
    counts = Counter(row["split"] for row in small.rows())
    dev, test = counts["dev"], counts["test"]
    ran = cli("check", small.config)
    assert ran.code == 0, ran.err
    assert "trainings at most: 4.75 (1 the adapter, 3 search, 0.75 learning curve)" in ran.out
    # two rounds over three templates and one chain of two calls; a prompt may keep the chain, an adapter does not
    parts = f"{2 * 5 * dev} prompts, {dev} adapters on dev, {2 * dev} learning curve, 16 general prompts"
    tests = f"{2 * test} the best prompt on test, {test} the adapter on test"
    total = 13 * dev + 16 + 3 * test
    assert f"on this machine at most: {total} ({parts}, {tests})" in ran.out
    assert f"calls of other LLMs at most: {2 * dev} reference" in ran.out
    assert "LLM calls behind an endpoint: 0" in ran.out
    settings["rungs"]["llm"]["reference"] = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    settings["rungs"]["llm"]["teacher"] = {"llm": settings["rungs"]["llm"]["reference"]}
    small.write(settings)
    ran = cli("check", small.config)
    answerable = sum(row["split"] == "train" and bool(row.get("evidence")) for row in small.rows())
    assert f"at most {answerable} of the LLM rung's teacher, at most {2 * dev} of the LLM rung's reference" in ran.out
    assert ran.code == 4
    assert "reference LLM: NOT REACHABLE" in ran.out and "teacher LLM: NOT REACHABLE" in ran.out
