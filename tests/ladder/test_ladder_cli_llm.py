"""`ragladder llm`: prompts, data, training, learning curve and export by themselves."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
# What the retrieval rung of the three-rung climb adopts: with it a command works on the rungs' own incumbent.
TUNED = ("--set", "pipeline.retrieve.mode=hybrid")


def parsed(ran: Any, code: int = 0) -> Any:
    """Standard output as JSON; nothing else may be on it, and nothing on standard error."""
    assert (ran.code, ran.err) == (code, ""), ran.err
    return json.loads(ran.out)


def suggested(ran: Any) -> list[str]:
    """The arguments of the command that the last line names."""
    assert ran.code == 0, ran.err
    last = ran.out.splitlines()[-1]
    assert last.startswith("next: ragladder ")
    return shlex.split(last.removeprefix("next: ragladder "))


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rung(space: Any, name: str) -> dict[str, Any]:
    """What the climb noted of a rung."""
    return next(r["details"] for r in space.ladder()["rungs"] if r["name"] == name)


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
    assert suggested(ran)[:2] == ["llm", "data"]
    for wrong, said in (
        ("{embed.model: [x]}", "no prompt setting"),
        ("{generate.llm.model: [x]}", "name other bases in `sizes`"),
        ("{generate.prompt.template: []}", "has no values"),
    ):
        refused = cli("llm", "prompts", small.config, "--set", f"rungs.llm.prompts={wrong}")
        assert refused.code == 2
        assert said in refused.err


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
