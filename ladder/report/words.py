"""Words and numbers as people read them: the same in the HTML report and on the terminal."""

from __future__ import annotations

import json
import re
from typing import Any

from ...eval.answers import ANSWER_METRICS
from ..records import CostRecord, EstimateRecord, ForgoneRecord, LadderRecord, RungRecord
from ..words import RUNG_NAMES

__all__ = [
    "CAUSES",
    "FAULTS",
    "VERDICTS",
    "arm_name",
    "cause_name",
    "cost_words",
    "duration",
    "family",
    "forgone_words",
    "headline",
    "interval",
    "number",
    "p_value",
    "price_of_next",
    "setting",
    "signed",
    "status_name",
]

VERDICTS = {
    "adopt": ("Adopted", "✓"),
    "reject": ("Rejected", "✕"),
    "inconclusive": ("Inconclusive", "?"),
    "skip": ("Skipped", "–"),
    "stop": ("Stopped", "■"),
}
"""Verdict: word and mark."""

_ARMS = {
    "baseline": "Baseline",
    "retrieval": "Retrieval knobs",
    "embedding": "Embedding finetuning",
    "prompt": "Best prompt",
    "llm": "LLM finetuning (LoRA)",
    "extractive_reader": "Extractive reader (no LLM)",
    "gold_context": "Gold evidence in the context",
    "closed_book": "Closed book (no documents)",
    "reference_llm": "Reference LLM",
}
_CAUSES = {
    "answered": ("Answered", "the answer metric reaches score.good_enough"),
    "lost_in_parsing": ("Lost in parsing", "the evidence is not in the parsed text, or damaged there"),
    "not_retrieved": ("Not retrieved", "the evidence is not among the candidates that were fetched"),
    "ranked_out": ("Ranked out", "the evidence was fetched, but cut before the context"),
    "ranked_low": ("Ranked low", "the evidence stood in the context, too far back: first, it is answered"),
    "cut_from_prompt": ("Cut from the prompt", "the evidence was kept, but the prompt's budget had no room for it"),
    "distracted": ("Distracted", "answered from the evidence alone, not among the other passages"),
    "wrong_answer": ("Wrong answer", "the evidence stood in the context"),
    "unanswerable_answered": ("Should have declined", "the documents do not answer it, yet it was answered"),
    "reference_rejected": ("Metric at fault", "the metric rejects the reference answer itself"),
    "metric_missing": ("Score missing", "the answer or its score failed"),
}
CAUSES = tuple(_CAUSES)
"""In the order in which a pipeline can lose a question; `answered` leads."""
FAULTS = {
    "parse": ("Parser", "evidence lost or damaged in the parsed text"),
    "retrieve": ("Retriever", "evidence not among the candidates that were fetched"),
    "rank": ("Ranking", "evidence fetched, but cut before the context or too far back in it"),
    "context_budget": ("Prompt budget", "evidence kept, but no room for it in the prompt"),
    "generate": ("LLM and prompt", "answered wrongly with the evidence present, or without any"),
    "judge": ("Metric or judge", "not scored, or the metric rejects the reference answer"),
}
"""Part of the pipeline: its name and what it did wrong."""
_STATUSES = {
    "judge_error": "judge failed",
    "parse_error": "judge's reply not readable",
    "timeout": "timed out",
    "generation_error": "generation failed",
    "not_applicable": "does not apply",
    "ok": "ok",
}
_RETRIEVAL = re.compile(
    r"^(hit|evidence_recall|ndcg|token_recall|token_precision|token_iou|context_chars|context_tokens|recall|precision"
    r"|map)@|^(mrr|precision_omega)$|^doc_"
)
_ANSWER = {*ANSWER_METRICS}


def arm_name(arm: str) -> str:
    """The name of an arm or rung in words; itself where it is not known."""
    return _ARMS.get(arm, arm)


def cause_name(cause: str) -> tuple[str, str]:
    """The name of a cause of loss and what it means."""
    return _CAUSES.get(cause, (cause.replace("_", " ").capitalize(), ""))


def status_name(status: str) -> str:
    """A status in words."""
    return _STATUSES.get(status, status.replace("_", " "))


def family(metric: str) -> str:
    """Which part a metric measures: Retrieval, Answer or RAGAS."""
    if _RETRIEVAL.search(metric):
        return "Retrieval"
    return "Answer" if metric in _ANSWER else "RAGAS"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number, whole from 100 on; a dash where there is none."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else digits
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign; a true minus sign, and no sign on zero."""
    if value is None:
        return "–"
    text = number(value, digits)
    return f"+{text}" if float(text.replace("−", "-")) > 0 else text


def interval(low: float | None, high: float | None, plus: bool = False) -> str:
    """`0.512 to 0.634`; a note where the interval is not known."""
    if low is None or high is None:
        return "no interval"
    form = signed if plus else number
    return f"{form(low)} to {form(high)}"


def p_value(value: float | None) -> str:
    """A p value: `0.013`, `< 0.001`."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """`0.4 s`, `48 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def cost_words(cost: CostRecord) -> str:
    """Time, tokens and money; what is zero is left out, but for the time."""
    parts = [duration(cost.seconds)]
    tokens = cost.prompt_tokens + cost.completion_tokens
    if tokens:
        parts.append(f"{_thousands(tokens)} tokens")
    if cost.money:
        parts.append(f"price {cost.money:,.2f}")
    return ", ".join(parts)


def headline(record: LadderRecord) -> str:
    """The answer in one sentence; where the climb stopped before a rung, what that rung would cost and win at most."""
    return " ".join(part for part in (record.summary, price_of_next(record)) if part)


def price_of_next(record: LadderRecord) -> str:
    """What the first rung that the climb stopped before would cost and win at most; empty where nothing is known."""
    stopped = (rung for rung in record.rungs if rung.decision.verdict == "stop")
    known = ((rung, rung.forgone) for rung in stopped if rung.forgone and _has_news(rung.forgone))
    rung, f = next(known, (None, None))
    if rung is None or f is None:
        return ""
    name, gain = RUNG_NAMES[rung.name], _gain(f)
    titled = name[0].upper() + name[1:]
    if gain is None:
        return f"{titled} would cost {_machine_time(f)}; the gain was not measured."
    lost = f"from the {f.questions} of {f.of} dev questions lost there"
    if f.seconds is None:
        return f"At most {signed(gain.mean)} could be won by {name}, {lost}; the cost was not measured."
    return f"{titled} would cost {_machine_time(f)} for at most {signed(gain.mean)}, {lost}."


def forgone_words(record: LadderRecord, rung: RungRecord) -> str:
    """What a rung that was not tried would cost and win at most, with what each figure rests on; empty without one, and
    where the rung has nothing to change in the pipeline."""
    f = rung.forgone
    if f is None or f.cost_note == f.gain_note:
        return ""
    gain = _gain(f)
    if gain is not None and not _has_news(f):
        return ""  # the verdict's reason says so already
    won = f"gain {f.gain_note}"
    if gain is not None:
        reach = f"{signed(gain.mean)} {record.answer_metric} on dev ({interval(gain.low, gain.high, True)})"
        won = f"could win at most {reach} {f.gain_note} ({f.questions} of {f.of})"
    if f.seconds is None:
        return f"{won}; time {f.cost_note}"
    return f"{won}; would cost {_machine_time(f)} ({f.cost_note})"


def _has_news(forgone: ForgoneRecord) -> bool:
    """Whether anything was measured that is not nothing."""
    return forgone.seconds is not None or (_gain(forgone) is not None and forgone.questions > 0)


def _gain(forgone: ForgoneRecord) -> EstimateRecord | None:
    return forgone.gain if forgone.gain is not None and forgone.gain.mean is not None else None


def _machine_time(forgone: ForgoneRecord) -> str:
    seconds = forgone.seconds or 0.0
    if forgone.device == "cuda" and seconds >= 60:
        minutes = round(seconds / 60)
        return f"about {minutes} GPU-minute{'' if minutes == 1 else 's'}"
    return f"about {duration(seconds)} on the {'CPU' if forgone.device == 'cpu' else 'GPU'}"


def setting(value: Any) -> str:
    """A setting's value as it stands in YAML, on one line."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False, default=str)


def _thousands(count: int) -> str:
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:,.0f}k" if count < 1_000_000 else f"{count / 1_000_000:,.1f}M"
