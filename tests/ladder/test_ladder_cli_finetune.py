"""`ragladder embed` and `ragladder llm`: the finetuning rungs by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_reading import TUNED, contents, parsed, rung, suggested

Cli = Callable[..., Any]


# --- embed ------------------------------------------------------------------------------------------------------------


def test_pairs_are_those_of_the_climb_and_hold_the_evidence(all_rungs: Any, cli: Cli) -> None:
    report = parsed(cli("embed", "pairs", all_rungs.config, "--json", *TUNED))
    assert report["counts"] == rung(all_rungs, "embedding")["pair_counts"]
    assert len(report["pairs"]) == report["counts"]["pairs"] == 12
    assert report["counts"]["unanswerable"] == 1
    assert report["negatives"] is None
    evidence = {row["id"]: row["evidence"][0]["text"] for row in all_rungs.rows() if row.get("evidence")}
    assert all(evidence[pair["question_id"]] in " ".join(pair["positive"].split()) for pair in report["pairs"])
    ran = cli("embed", "pairs", all_rungs.config, "--show", 3)
    assert ran.out.splitlines()[0] == report["summary"]
    assert "1 questions without evidence" in ran.out
    assert sum(line.startswith("  +  ") for line in ran.out.splitlines()) == 3
    assert suggested(ran)[:2] == ["embed", "train"]
    whole = cli("embed", "pairs", all_rungs.config, "--full").out
    for pair in report["pairs"]:
        assert " ".join(pair["positive"].split()) in whole
        assert " ".join(pair["positive"].split()) not in ran.out
    assert cli("embed", "pairs", all_rungs.config, "--show", 0).out.count("  +  ") == 0


def test_mined_negatives_are_shown_and_come_from_train_documents(all_rungs: Any, cli: Cli) -> None:
    mine = "rungs.embedding.train.hard_negatives={num_negatives: 2, relative_margin: null}"
    report = parsed(cli("embed", "pairs", all_rungs.config, "--json", "--set", mine))
    assert sum(report["negatives"].values()) == report["counts"]["pairs"]
    negatives = [(pair, text) for pair in report["pairs"] for text in pair["negatives"]]
    assert len(negatives) >= 12
    for pair, text in negatives:
        assert text != pair["positive"]
        assert any(device in text.lower() for device in ("kettle", "lantern", "pump"))
    text = cli("embed", "pairs", all_rungs.config, "--set", mine).out
    assert f"hard negatives: {report['negatives']['complete']} pairs have all" in text
    assert "\n  -  " in text


def test_embed_train_is_the_climbs_training_and_eval_takes_its_model(all_rungs: Any, cli: Cli) -> None:
    before = all_rungs.stages()
    result = parsed(cli("embed", "train", all_rungs.config, "--json", *TUNED))
    details = rung(all_rungs, "embedding")
    assert result["reused"] is True
    assert Path(result["model"]).relative_to(all_rungs.cache) == Path(*Path(details["model"]).parts[-3:])
    assert (result["before"], result["after"]) == (details["base_score"], details["best_score"])
    assert result["improved"] is True
    assert all_rungs.stages() == before
    model_only = ("--set", "rungs.embedding.adapter=null")
    ran = cli("embed", "train", all_rungs.config, *TUNED, *model_only, "--out", "trained")
    assert f"dev ndcg@5: {result['before']:.4f} before, {result['after']:.4f} after" in ran.out
    assert "trained earlier" in ran.out
    assert contents(all_rungs.root / "trained") == contents(Path(result["model"]))
    arguments = suggested(ran)
    assert arguments[0] == "eval"
    assert f"pipeline.embed.model={all_rungs.root / 'trained'}" in arguments
    assert 0 < parsed(cli(*arguments, "--json"))["scores"]["ndcg@5"]["mean"] <= 1


def test_the_query_adapter_of_the_climb_is_suggested_and_scores_as_its_candidate(all_rungs: Any, cli: Cli) -> None:
    details = rung(all_rungs, "embedding")
    candidate = next(r for r in all_rungs.ladder()["rungs"] if r["name"] == "embedding")["candidate"]
    ran = cli("embed", "train", all_rungs.config, *TUNED)
    assert f"query adapter: dev {details['query_adapter']['best_score']:.4f}" in ran.out
    # Of equals on dev the adapter is taken: it needs no new index.
    assert details["query_adapter"]["best_score"] >= details["best_score"]
    arguments = suggested(ran)
    assert any(argument.startswith("pipeline.query_adapter=") for argument in arguments)
    adapted = parsed(cli(*arguments, "--json"))["scores"]["ndcg@5"]["mean"]
    assert adapted == pytest.approx(candidate["scores"]["dev"]["ndcg@5"]["mean"])


def test_a_training_that_does_not_pay_says_that_the_model_is_the_base(workspace: Any, cli: Cli) -> None:
    train = "{epochs: 1, learning_rate: 1.0e-12, wise_ft: [], dtype: fp32}"
    small = f"rungs.embedding={{metric: ndcg@5, adapter: null, train: {train}}}"
    ran = cli("embed", "train", workspace.config, "--out", "m", "--set", small)
    assert "kept: the base itself" in ran.out
    assert suggested(ran)[:2] == ["embed", "pairs"]
    result = parsed(cli("embed", "train", workspace.config, "--json", "--set", small))
    assert (result["improved"], result["reused"]) == (False, True)
    assert result["before"] == result["after"]
    assert (workspace.root / "m" / "modules.json").is_file()
    assert not workspace.runs()


def test_a_rung_that_is_not_configured_is_taken_with_its_defaults_aloud(workspace: Any, cli: Cli) -> None:
    ran = cli("embed", "pairs", workspace.config, "--set", "score.ks=[5,10]")
    assert ran.code == 0
    assert "rungs.embedding is not in the config" in ran.err
    # Its default metric, ndcg@10, is not among the config's: no other is taken in its place.
    refused = cli("embed", "pairs", workspace.config)
    assert refused.code == 2
    assert "ndcg@10" in refused.err


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["embed", "llm"])
def test_a_folder_in_use_is_refused_before_anything_is_computed(workspace: Any, cli: Cli, name: str) -> None:
    ran = cli(name, "train", workspace.config, "--out", workspace.docs)
    assert ran.code == 3
    assert "not empty" in ran.err
    assert not workspace.stages()


@pytest.mark.parametrize(
    ("arguments", "change", "said"),
    [
        (("embed", "curve"), "rungs.embedding.train=null", "query adapter alone"),
        (("embed", "train"), "pipeline.retrieve.mode=bm25", "searches words only"),
        (("llm", "data"), "pipeline.generate=extractive", "finetunes a model on this machine"),
        (("llm", "train"), "pipeline.generate=extractive", "finetunes a model on this machine"),
    ],
)
def test_a_pipeline_that_cannot_be_finetuned_exits_with_2(
    workspace: Any, cli: Cli, arguments: tuple[str, ...], change: str, said: str
) -> None:
    sections = ("--set", "rungs.embedding.metric=ndcg@5", "--set", "rungs.llm={}")
    ran = cli(*arguments, workspace.config, *sections, "--set", change)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("arguments", [("embed", "pairs"), ("embed", "train"), ("llm", "data"), ("llm", "train")])
def test_train_questions_are_needed(workspace: Any, cli: Cli, tiny_llm: Path, arguments: tuple[str, ...]) -> None:
    workspace.write_rows([row for row in workspace.rows() if row["split"] != "train"])
    generate = json.dumps({"kind": "llm", "llm": {"kind": "local", "model": str(tiny_llm)}})
    sections = ("--set", "rungs.embedding.metric=ndcg@5", "--set", f"pipeline.generate={generate}")
    ran = cli(*arguments, workspace.config, *sections)
    assert ran.code == 3
    assert "'train'" in ran.err
