"""The answer in one sentence, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .records import ArmRecord, RungRecord

__all__ = ["RUNG_NAMES", "compact", "next_step", "summary"]

RUNG_NAMES = {
    "retrieval": "retrieval knobs",
    "embedding": "embedding finetuning",
    "prompt": "a better prompt",
    "llm": "LoRA finetuning of the LLM",
}


def summary(
    metric: str, baseline: ArmRecord, final: ArmRecord, rungs: Sequence[RungRecord], target: float | None
) -> str:
    """What the climb found, in one sentence."""
    adopted = [RUNG_NAMES[r.name] for r in rungs if r.decision.verdict == "adopt"]
    stopped = next((r for r in rungs if r.decision.verdict == "stop"), None)
    before, after = (arm.scores["test"][metric].mean if "test" in arm.scores else None for arm in (baseline, final))
    moved = f"{metric} on test went from {_shown(before)} to {_shown(after)}"
    if final.arm == baseline.arm:
        moved = f"{metric} on test is {_shown(after)}"
    if stopped is not None:
        return f"Stop before {RUNG_NAMES[stopped.name]}: the target of {target:g} is met ({moved})."
    if not adopted:
        tried = [r for r in rungs if r.decision.verdict not in ("skip", "stop")]
        why = "no rung won" if tried else "no rung was tried, for the reasons given"
        if any(r.decision.primary is not None for r in tried):
            return f"Keep the starting pipeline: {why} on test ({metric} {_shown(before)})."
        return f"Keep the starting pipeline: {why} ({metric} {_shown(before)} on test)."
    return f"Adopt {_and(adopted)}: {moved}."


def next_step(final: ArmRecord, rungs: Sequence[RungRecord], target: float | None, metric: str) -> str:
    """What a team should do now."""
    unclear = [r for r in rungs if r.decision.verdict == "inconclusive"]
    estimate = final.scores.get("test", {}).get(metric)
    if target is not None and estimate and estimate.low is not None and estimate.low >= target:
        return "The target is met: ship the adopted pipeline and watch its answers."
    if unclear:
        looks = [r.decision.primary for r in unclear if r.decision.primary]
        most = max((c.questions_needed for c in looks if c.questions_needed and c.questions_needed > c.n), default=None)
        more = f" about {most} test questions would settle it" if most else " see its reasons"
        names = _and([RUNG_NAMES[r.name] for r in unclear])
        return f"Write more test questions: {names} could not be told from chance;{more}."
    largest = max((c for c in final.causes if c != "answered"), key=lambda c: final.causes[c], default=None)
    if largest is None or not final.causes[largest]:
        return "Every dev question is answered: write harder questions before tuning further."
    advice = {
        "lost_in_parsing": "look at the documents whose evidence the parser loses",
        "not_retrieved": "look at the questions whose evidence is not retrieved, and add train questions like them",
        "ranked_out": "try a reranker or a larger top_k",
        "ranked_low": "try a reranker: the LLM overlooks evidence that stands far back",
        "cut_from_prompt": "raise generate.prompt.max_context_tokens, or make chunks smaller",
        "distracted": "try a smaller top_k, a reranker, or finetuning with distractors in the context",
        "wrong_answer": "try a stronger LLM, a better prompt, or more train questions",
        "unanswerable_answered": "add unanswerable questions to the train split",
        "reference_rejected": "choose another answer metric: this one rejects the reference answers",
        "metric_missing": "find out why scores are missing",
    }[largest]
    if largest == "wrong_answer" and final.pipeline.get("generate", {}).get("kind") == "extractive":
        advice = "no LLM answers yet, only the passages' best sentences: set one (pipeline.generate) and climb again"
    share = f"{final.causes[largest]} of {sum(final.causes.values())} dev questions"
    return f"Most of what is still lost is '{largest.replace('_', ' ')}' ({share}): {advice}."


def compact(value: Any) -> str:
    """A value on one short line: `section, size 256` for {"kind": "section", "size": 256}."""
    if isinstance(value, Mapping):
        kind = value.get("kind", value.get("mode"))
        rest = [f"{name} {compact(v)}" for name, v in value.items() if name not in ("kind", "mode")]
        return ", ".join([str(kind), *rest] if kind is not None else rest)
    if isinstance(value, (list, tuple)):
        return ", ".join(compact(one) for one in value) or "none"
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
