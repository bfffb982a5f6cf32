"""The embedding rung by itself: query adapters, pairs from files, learning curve, search, estimate, forgetting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ragladder.core.errors import ConfigError, DataError
from ragladder.ladder.finetune.embedding_curve import gain_per_doubling
from ragladder.ladder.general_set import GeneralSetSettings, general_set

Cli = Callable[..., Any]
QUICK = "train: {epochs: 1, dtype: fp32, wise_ft: [], learning_rate: 1.0e-3, batch_size: 8}, metric: ndcg@5"


def parsed(ran: Any) -> Any:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def rung(*more: str) -> tuple[str, str]:
    return ("--set", f"rungs.embedding={{{', '.join((QUICK, *more))}}}")


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_query_adapter_alone_needs_no_new_vectors_and_serves_a_static_model(workspace: Any, cli: Cli) -> None:
    base = workspace.settings()["pipeline"]["embed"]["model"]
    static = ("--set", f"pipeline.embed={{kind: static, model: {base}, dimension: 16}}")
    adapter = "{learning_rates: [0.003], epochs: 20, patience: null}"
    alone = ("--set", f"rungs.embedding={{train: null, metric: ndcg@5, adapter: {adapter}}}")
    before = parsed(cli("eval", workspace.config, "--split", "dev", "--json", *static))
    encoded = {name for name in workspace.stages() if name.startswith("encode-")}
    result = parsed(cli("embed", "train", workspace.config, "--json", *static, *alone, "--out", "adapter"))
    assert result["model"] is None
    assert result["improved"] is True and result["after"] > result["before"]
    overrides = [part for override in result["overrides"] for part in ("--set", override)]
    assert overrides[1] == f"pipeline.query_adapter={workspace.root / 'adapter'}"
    after = parsed(cli("eval", workspace.config, "--split", "dev", "--json", *static, *overrides))
    assert after["scores"]["ndcg@5"]["mean"] != before["scores"]["ndcg@5"]["mean"]
    assert {name for name in workspace.stages() if name.startswith("encode-")} == encoded, "no new index"
    text = cli("embed", "train", workspace.config, *static, *alone)
    assert "with the query adapter" in text.out and "next: ragladder eval" in text.out


def test_a_missing_or_foreign_adapter_stops_with_a_sentence(workspace: Any, cli: Cli) -> None:
    ran = cli("eval", workspace.config, "--split", "dev", "--set", "pipeline.query_adapter=nowhere")
    assert ran.code == 3
    assert "there is no query adapter" in ran.err
    assert "Traceback" not in ran.err


def test_pairs_of_files_are_added_without_leaks(workspace: Any, cli: Cli) -> None:
    dev = next(row for row in workspace.rows() if row["split"] == "dev" and row.get("evidence"))
    lines(
        workspace.root / "extra.jsonl",
        {"query": "a new question", "positive": "a new passage"},
        {"query": dev["question"], "positive": "leaks"},
    )
    log = [{"query": "liked?", "text": "liked passage", "rating": 2}, {"query": "liked?", "text": "so so", "rating": 0}]
    lines(workspace.root / "log.jsonl", *log)
    sources = "pairs: [{path: extra.jsonl}, {path: log.jsonl, format: feedback}]"
    report = parsed(cli("embed", "pairs", workspace.config, "--json", "--show", 100, *rung(sources)))
    found = {pair["query"]: pair["positive"] for pair in report["pairs"]}
    assert found["a new question"] == "a new passage" and found["liked?"] == "liked passage"
    assert dev["question"] not in found
    counts = report["counts"]
    assert (counts["source_pairs"], counts["held_out"], counts["feedback_silent"]) == (3, 1, 1)
    assert counts["pairs"] == 14
    workspace.write_rows([row for row in workspace.rows() if row["split"] != "train"])
    alone = parsed(cli("embed", "pairs", workspace.config, "--json", *rung(sources)))
    assert alone["counts"]["pairs"] == 2, "files alone are enough"
    missing = cli("embed", "pairs", workspace.config, *rung("pairs: [{path: none.jsonl}]"))
    assert missing.code == 3 and "none.jsonl" in missing.err


def test_the_estimate_says_time_and_memory_and_trains_nothing(workspace: Any, cli: Cli) -> None:
    found = parsed(cli("embed", "estimate", workspace.config, "--json", *rung()))
    assert found["steps"] == 2 and found["seconds"] > 0
    ran = cli("embed", "estimate", workspace.config, "--price", 2, *rung())
    assert "peak memory" in ran.out and "cost: " in ran.out
    assert not any(name.startswith("embedding-train") for name in workspace.stages())


def test_a_search_tries_the_own_settings_first_and_goes_on_after_a_kill(workspace: Any, cli: Cli) -> None:
    space = "trials: 3, batch_size: [8], loss: [multiple_negatives], epochs: [1, 1], learning_rate: [0.0001, 0.01]"
    own = rung(f"search: {{{space}}}", "adapter: null")
    found = parsed(cli("embed", "search", workspace.config, "--json", *own))
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2]
    assert found["trials"][0]["settings"]["learning_rate"] == pytest.approx(1e-3)
    best = max((t for t in found["trials"] if t["state"] == "complete"), key=lambda t: t["score"])
    assert found["best"] == best["number"]
    stages = workspace.stages()
    again = parsed(cli("embed", "search", workspace.config, "--json", *own))
    assert workspace.stages() == stages, "nothing is trained twice"
    assert [t["settings"] for t in again["trials"]] == [t["settings"] for t in found["trials"]]
    ran = cli("embed", "search", workspace.config, *own)
    assert "<- best" in ran.out
    if found["overrides"]:
        assert "rungs.embedding.train.learning_rate=" in ran.out.splitlines()[-1]


def test_a_learning_curve_needs_pairs_enough(workspace: Any, cli: Cli) -> None:
    ran = cli("embed", "curve", workspace.config, *rung())
    assert ran.code == 3
    assert "12 pairs are too few" in ran.err


def test_a_learning_curve_trains_on_nested_shares(workspace: Any, cli: Cli) -> None:
    extra = [{"query": f"question {n} of many", "positive": f"passage {n} of many words"} for n in range(24)]
    lines(workspace.root / "extra.jsonl", *extra)
    source = rung("pairs: [{path: extra.jsonl}]", "adapter: null")
    found = parsed(cli("embed", "curve", workspace.config, "--json", *source))
    assert [point["pairs"] for point in found["points"]] == [9, 18, 36]
    assert found["low"] <= found["gain_per_doubling"] <= found["high"]
    assert found["verdict"] in ("more data", "enough", "unclear")
    ran = cli("embed", "curve", workspace.config, *source)
    assert f"gain per doubling: {found['gain_per_doubling']:+.4f}" in ran.out


def test_the_gain_per_doubling_is_the_slope_and_its_interval_is_over_questions() -> None:
    rows = np.array([[0.1, 0.2, 0.3], [0.3, 0.4, 0.5], [0.0, 0.1, 0.2], [0.5, 0.6, 0.7]])
    assert gain_per_doubling([10, 20, 40], rows) == pytest.approx((0.1, 0.1, 0.1))
    draw = np.random.default_rng(0)
    noisy = rows.repeat(50, axis=0) + draw.normal(scale=0.2, size=(200, 3))
    slope, low, high = gain_per_doubling([10, 20, 40], noisy)
    assert low < 0.1 < high and low < slope < high


def beir(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    lines(folder / "corpus.jsonl", *({"_id": f"d{n}", "title": "", "text": f"text {n}"} for n in range(30)))
    lines(folder / "queries.jsonl", *({"_id": f"q{n}", "text": f"text {n}"} for n in range(12)))
    rows = "".join(f"q{n}\td{n}\t1\n" for n in range(12))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_a_general_set_is_drawn_and_scored(tmp_path: Path) -> None:
    from ragladder.core.components import Resources

    settings = GeneralSetSettings(path=str(beir(tmp_path / "set")), queries=10, documents=20)
    found = general_set(settings, Resources())
    assert (len(found.questions), len(found.documents)) == (10, 20)
    assert general_set(settings, Resources()).questions == found.questions

    def perfect(texts: Any, role: str) -> np.ndarray:
        return np.eye(40, dtype=np.float32)[[int(text.split()[1]) for text in texts]]

    assert found.score(perfect) == 1
    with pytest.raises(DataError, match="no answerable question of the split 'dev'"):
        general_set(settings.model_copy(update={"split": "dev"}), Resources())
    with pytest.raises(ValueError, match="brings no documents"):
        GeneralSetSettings(path="x", format="csv")


def test_the_general_set_of_a_config_is_measured(workspace: Any, cli: Cli) -> None:
    beir(workspace.root / "general")
    general = "general: {path: general, queries: 10, documents: 20, max_loss: null}"
    result = parsed(cli("embed", "train", workspace.config, "--json", *rung(general, "adapter: null")))
    alphas = [alpha for alpha, _ in result["training"]["general"]]
    assert alphas == ([0, result["training"]["alpha"]] if result["improved"] else [])
    card = (Path(result["model"]) / "README.md").read_text()
    assert "95% interval" in card


def test_a_search_without_a_training_is_refused(workspace: Any) -> None:
    from ragladder.core.progress import Reporter
    from ragladder.ladder.finetune.embedding import embed_search

    with pytest.raises(ConfigError, match="query adapter alone"):
        embed_search(workspace.config, ["rungs.embedding={train: null, metric: ndcg@5}"], Reporter(quiet=True))


def test_a_rung_that_trains_nothing_is_refused(workspace: Any, cli: Cli) -> None:
    nothing = "rungs.embedding={train: null, adapter: null, metric: ndcg@5}"
    ran = cli("embed", "train", workspace.config, "--set", nothing)
    assert ran.code == 2
    assert "there is nothing to train" in ran.err


def test_a_kill_after_the_last_epoch_does_not_cost_the_training(
    workspace: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ragladder.ladder.rungs import embedding_stages

    compare = embedding_stages.paired_comparison
    calls = []

    def killed_once(*values: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return compare(*values)

    monkeypatch.setattr(embedding_stages, "paired_comparison", killed_once)
    command = ("embed", "train", workspace.config, *rung("adapter: null"))
    assert cli(*command).code == 130
    assert not any(name.startswith("embedding-train") for name in workspace.stages())
    again = cli(*command)
    assert again.code == 0 and "going on after epoch 1" in again.out + again.err
    assert "epoch 1/1" not in again.out + again.err, "nothing is trained again"
    assert not list((workspace.cache / "training").glob("embedding-*"))


def test_what_the_general_set_forbids_is_said(workspace: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from ragladder.ladder.general_set import GeneralSet

    beir(workspace.root / "general")
    scores = iter((0.9, 0.5, 0.6))  # a double's: of the base, of the trained weights, of a share of them
    monkeypatch.setattr(GeneralSet, "score", lambda self, encode: next(scores))
    general = "general: {path: general, queries: 10, documents: 20, max_loss: 0.1, tries: 1}"
    train = "train: {epochs: 3, dtype: fp32, wise_ft: [], learning_rate: 5.0e-3, batch_size: 4, freeze_layers: 0}"
    wanted = ("--set", f"rungs.embedding={{{train}, metric: ndcg@5, adapter: null, {general}}}")
    result = parsed(cli("embed", "train", workspace.config, "--json", *wanted))
    candidates = dict(result["training"]["candidates"])
    # By a line, .9 of what may be lost is lost at this share.
    assert sorted(candidates) == pytest.approx([0, 0.9 * 0.1 / 0.4, 1]) and candidates[1.0] > candidates[0.0]
    assert (result["improved"], result["overrides"]) == (False, [])
    best = max(sorted(candidates), key=lambda share: candidates[share])
    gained = candidates[best] - candidates[0.0]
    assert f"the base itself; a share of {best:.3g} is better" in result["kept"]
    assert f"better on dev by {gained:.4f}, but loses 0." in result["kept"]
    ran = cli("embed", "train", workspace.config, *wanted)
    assert f"kept: {result['kept']}" in ran.out
    assert "general set ndcg@10: 0.9000 before, 0.9000 after" in ran.out


def test_the_searchs_first_trial_is_the_training_of_the_config_and_bad_pairs_of_settings_fail_alone(
    workspace: Any, cli: Cli
) -> None:
    train = "train: {epochs: 1, dtype: fp32, wise_ft: [], batch_size: 8, mini_batch_size: 4}"
    space = "trials: 5, batch_size: [8], loss: [multiple_negatives, triplet], epochs: [1, 1]"
    own = ("--set", f"rungs.embedding={{{train}, metric: ndcg@5, adapter: null, search: {{{space}}}}}")
    found = parsed(cli("embed", "search", workspace.config, "--json", *own))
    states = {trial["settings"]["loss"]: trial["state"] for trial in found["trials"]}
    assert states == {"multiple_negatives": states["multiple_negatives"], "triplet": "failed"}
    bad = next(trial for trial in found["trials"] if trial["state"] == "failed")
    assert "mini_batch_size is for" in bad["error"]
    assert parsed(cli("embed", "train", workspace.config, "--json", *own))["reused"] is True


def test_mean_pooling_of_a_plain_transformer_is_said_where_it_is_used(workspace: Any, cli: Cli) -> None:
    from sentence_transformers import SentenceTransformer

    model = workspace.settings()["pipeline"]["embed"]["model"]
    transformer: Any = SentenceTransformer(model, device="cpu")[0]
    transformer.save(str(workspace.root / "plain"))
    ran = cli("eval", workspace.config, "--split", "dev", "--set", "pipeline.embed.model=plain")
    assert ran.code == 0
    assert (ran.out + ran.err).count("mean pooling is taken") == 1
