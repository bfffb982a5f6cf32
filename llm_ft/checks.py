"""Checks of training examples before a GPU hour is spent on them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from pydantic import Field

from ..core.components import Model
from ..core.errors import DataError
from .examples import Example, normalise
from .tokens import Encoder

__all__ = ["CheckSettings", "DataReport", "Finding", "TokenLengths", "check_examples", "supported"]

_CITATION = re.compile(r"\s*\[[^\[\]]*\]\s*$")


class CheckSettings(Model):
    """What is demanded of training examples. A share above its limit is an error, one below it a warning."""

    min_overlap: float = Field(default=0.6, ge=0, le=1)
    """An answer counts as supported where it stands in its passages word for word, or where at least this share of its
    words does."""
    max_unsupported: float = Field(default=0.1, ge=0, le=1)
    """Most oracle examples whose answer is not supported: they teach to invent."""
    max_contradicting: float = Field(default=0.02, ge=0, le=1)
    """Most examples whose question or prompt is answered otherwise elsewhere in the data."""
    max_duplicated: float = Field(default=0.1, ge=0, le=1)
    """Most examples that repeat another one, prompt and answer: they count double in training."""
    max_too_long: float = Field(default=0.05, ge=0, le=1)
    """Most examples longer than the window. They are left out of training, never cut."""
    style: str = ""
    """Regular expression that every completion should match in full, for instance `.+ \\[[^\\]]+\\]`; empty checks
    nothing."""
    max_off_style: float = Field(default=0.05, ge=0, le=1)
    """Most completions that do not match `style`."""
    min_abstain: float = Field(default=0.02, ge=0, le=1)
    """A lower share of abstentions is a warning: the model may forget how to abstain."""
    max_abstain: float = Field(default=0.5, ge=0, le=1)
    """A higher share of abstentions is a warning: the model may learn to abstain always. All of them are an error."""


class Finding(Model):
    """What one check found."""

    check: str
    """Which check: `empty`, `unsupported`, `contradiction`, `duplicate`, `leakage`, `too_long`, `style`, `balance`."""
    severity: Literal["error", "warning"]
    """An error stops training."""
    count: int
    """Examples it is about."""
    share: float
    """Their share of the examples that the check looks at."""
    message: str
    """What was found, in words."""
    samples: tuple[str, ...] = ()
    """A few of them: question id and text."""


class TokenLengths(Model):
    """Tokens of prompt and completion together."""

    window: int
    """The most that training takes."""
    median: int
    """Half of the examples are no longer than this."""
    p95: int
    """95% of the examples are no longer than this."""
    longest: int
    """The longest example."""
    longest_completion: int
    """The longest completion alone."""
    total: int
    """Tokens of one pass over the examples that fit."""


class DataReport(Model):
    """The state of the training data."""

    examples: int
    """How many there are."""
    questions: int
    """How many questions they are made of."""
    kinds: dict[str, int]
    """Examples by kind."""
    tokens: TokenLengths | None
    """Lengths; None where no tokenizer was given."""
    findings: tuple[Finding, ...]
    """What the checks found, errors first."""
    samples: tuple[str, ...]
    """A few examples as question and completion, to look at."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that do not."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def raise_errors(self) -> None:
        """Stops where there are errors.

        Raises:
            DataError: With every error in a line of its own.
        """
        if self.errors:
            lines = [f"  {finding.check}: {finding.message}" for finding in self.errors]
            raise DataError("the training examples cannot be used:\n" + "\n".join(lines))


def check_examples(
    examples: Sequence[Example],
    settings: CheckSettings,
    held_out: Iterable[str] = (),
    encoder: Encoder | None = None,
    max_length: int = 0,
) -> DataReport:
    """Looks at everything at once; `DataReport.raise_errors` stops at errors.

    Args:
        examples: The training examples.
        settings: The limits.
        held_out: Texts of the dev and test questions, none of which may be trained on.
        encoder: Counts tokens; None leaves the lengths unchecked.
        max_length: The window in tokens; with `encoder` only.

    Raises:
        DataError: There are no examples, or `style` is no regular expression.
    """
    if not examples:
        raise DataError("there are no training examples to check")
    findings: list[Finding | None] = [
        _share("empty", [e for e in examples if not e.completion.strip()], examples, 0.0, "have no completion"),
        _unsupported(examples, settings),
        _share(
            "contradiction",
            _contradicting(examples),
            examples,
            settings.max_contradicting,
            "are answered otherwise elsewhere in the data",
        ),
        _share("duplicate", _duplicates(examples), examples, settings.max_duplicated, "repeat another example"),
        _leakage(examples, held_out),
        _style(examples, settings),
        _balance(examples, settings),
    ]
    lengths = None
    if encoder is not None:
        lengths, too_long = _lengths(examples, encoder, max_length)
        text = f"are longer than the window of {max_length} tokens and would be left out"
        found_long = _share("too_long", too_long, examples, settings.max_too_long, text)
        if found_long is not None:
            advice = f"{found_long.message}: raise train.max_length (the model may allow more), or shorten the prompts"
            found_long = found_long.model_copy(update={"message": advice})
        findings.append(found_long)
    found = [finding for finding in findings if finding is not None]
    return DataReport(
        examples=len(examples),
        questions=len({example.question_id for example in examples}),
        kinds=dict(sorted(Counter(example.kind for example in examples).items())),
        tokens=lengths,
        findings=tuple(sorted(found, key=lambda finding: finding.severity)),
        samples=tuple(f"{e.question} -> {e.completion}" for e in examples[:: max(1, len(examples) // 3)][:3]),
    )


def _share(check: str, bad: Sequence[Example], among: Sequence[Example], limit: float, what: str) -> Finding | None:
    """A finding about some examples; an error where their share is above the limit."""
    if not bad:
        return None
    share = len(bad) / len(among)
    message = f"{len(bad)} of {len(among)} examples {what} ({share:.1%}, at most {limit:.1%} allowed)"
    return Finding(
        check=check,
        severity="error" if share > limit else "warning",
        count=len(bad),
        share=share,
        message=message,
        samples=tuple(f"{e.question_id}: {e.question} -> {e.completion}" for e in bad[:3]),
    )


def _unsupported(examples: Sequence[Example], settings: CheckSettings) -> Finding | None:
    oracle = [example for example in examples if example.kind == "oracle" and example.completion.strip()]
    bad = [example for example in oracle if not supported(example, settings.min_overlap)]
    return _share("unsupported", bad, oracle, settings.max_unsupported, "have an answer that their passages lack")


def supported(example: Example, min_overlap: float) -> bool:
    """Whether each part of the answer (parts are joined by `;`) stands in the prompt, its question aside.

    Args:
        example: Prompt and answer; a citation at the answer's end is not looked at.
        min_overlap: Share of a part's words that must stand there, where it does not word for word.
    """
    prompt = "\n".join(message.content for message in example.messages).replace(example.question, "\n")
    passages = f" {normalise(prompt)} "
    words = set(passages.split())
    parts = [normalise(part) for part in _CITATION.sub("", example.completion).split(";")]
    for part in filter(None, parts):
        wanted = part.split()
        if f" {part} " not in passages and sum(word in words for word in wanted) < min_overlap * len(wanted):
            return False
    return True


def _contradicting(examples: Sequence[Example]) -> list[Example]:
    """Examples of one question with several answers, or of one prompt with several completions.

    Abstentions are left out of the first: a question is answered or not depending on its passages.
    """
    by_question = _groups([e for e in examples if e.kind == "oracle"], lambda e: normalise(e.question))
    by_prompt = _groups(examples, lambda e: e.messages)
    bad = {
        id(example)
        for group in (*by_question, *by_prompt)
        if len({normalise(example.completion) for example in group}) > 1
        for example in group
    }
    return [example for example in examples if id(example) in bad]


def _duplicates(examples: Sequence[Example]) -> list[Example]:
    groups = _groups(examples, lambda e: (e.messages, normalise(e.completion)))
    return [example for group in groups for example in group[1:]]


def _groups(examples: Sequence[Example], key: Callable[[Example], object]) -> list[list[Example]]:
    groups: defaultdict[object, list[Example]] = defaultdict(list)
    for example in examples:
        groups[key(example)].append(example)
    return list(groups.values())


def _leakage(examples: Sequence[Example], held_out: Iterable[str]) -> Finding | None:
    held = {normalise(text) for text in held_out}
    bad = [example for example in examples if normalise(example.question) in held]
    return _share("leakage", bad, examples, 0.0, "have a question of the dev or test split")


def _style(examples: Sequence[Example], settings: CheckSettings) -> Finding | None:
    if not settings.style:
        return None
    try:
        pattern = re.compile(settings.style, re.DOTALL)
    except re.error as error:
        raise DataError(f"checks.style: '{settings.style}' is no regular expression: {error}") from None
    bad = [example for example in examples if not pattern.fullmatch(example.completion.strip())]
    return _share("style", bad, examples, settings.max_off_style, "do not match the style of answers")


def _balance(examples: Sequence[Example], settings: CheckSettings) -> Finding | None:
    count = sum(example.kind == "abstain" for example in examples)
    share = count / len(examples)
    if settings.min_abstain <= share <= settings.max_abstain:
        return None
    if count == len(examples):
        text = "every example abstains, so nothing but that can be learnt: give train questions answers and evidence"
        return Finding(check="balance", severity="error", count=count, share=share, message=text)
    usual = f"between {settings.min_abstain:.0%} and {settings.max_abstain:.0%}"
    text = f"{share:.1%} of the examples abstain; {usual} is usual"
    return Finding(check="balance", severity="warning", count=count, share=share, message=text)


def _lengths(examples: Sequence[Example], encoder: Encoder, max_length: int) -> tuple[TokenLengths, list[Example]]:
    rows = encoder.encode_all(examples)
    lengths = [len(row.input_ids) for row in rows]
    ordered = sorted(lengths)
    report = TokenLengths(
        window=max_length,
        median=ordered[(len(ordered) - 1) // 2],
        p95=ordered[-(-95 * len(ordered) // 100) - 1],
        longest=ordered[-1],
        longest_completion=max(len(row.input_ids) - row.prompt_tokens for row in rows),
        total=sum(length for length in lengths if length <= max_length),
    )
    too_long = [example for example, length in zip(examples, lengths, strict=True) if length > max_length]
    return report, too_long
