"""`ragladder eval`: scores the pipeline of a config, without climbing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import Config, Json, Overrides, Quiet, Verbose, command

if TYPE_CHECKING:
    from ..evaluate import EvalResult

__all__ = ["evaluate"]


def evaluate(
    config: Config,
    split: Annotated[Literal["dev", "test", "train"], typer.Option(help="Which questions.")] = "dev",
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score the pipeline of a config on one split: retrieval, answer and RAGAS metrics with intervals."""
    from ...core.progress import Reporter
    from ..evaluate import evaluate_config

    result = evaluate_config(config, split, set_ or (), Reporter(quiet=quiet or json, verbose=verbose))
    if json:
        print(result.model_dump_json(indent=1))
        return
    print("\n".join(_lines(result)))
    if result.published:
        from ..published import published_lines

        print("\n".join(["", *published_lines(result.published)]))
        return
    if split == "test":
        print("note: choose nothing by these figures, or the gate's promise is void; choose on dev")
    else:
        print(f"next: {command('climb', config, set_)}")


def _lines(result: EvalResult) -> list[str]:
    """What was scored, and what could not be."""
    from ...core.words import counted

    questions, documents = counted(result.questions, "question"), counted(result.documents, "document")
    lines = [f"{result.name}, {result.split}: {questions}, {documents}"]
    lines += [f"  could not be read: {name}: {reason}" for name, reason in result.failures.items()]
    width = max(len(metric) for metric in result.scores)
    without = [metric for metric, score in result.scores.items() if not score.n]
    for metric, score in result.scores.items():
        if metric in without:
            continue
        shown = "no value" if score.mean is None else f"{score.mean:8.4f}"
        interval = "" if score.low is None or score.high is None else f"  [{score.low:.4f}, {score.high:.4f}]"
        lines.append(f"  {metric:{width}}  {shown}{interval}  {score.n_ok}/{score.n}")
    if without:
        lines.append(f"  apply to none of the questions: {', '.join(without)}")
    for metric, missing in result.missing.items():
        shown = ", ".join(f"{count} {status}" for status, count in missing.statuses.items())
        lines.append(f"  without a score: {metric}: {shown}; the first: {missing.reason}")
    if any(missing.statuses.keys() & {"timeout", "judge_error"} for missing in result.missing.values()):
        lines.append("  the same command asks again for what an endpoint did not answer")
    return lines
