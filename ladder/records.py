"""What a run writes: the contract for other programs is `ladder.json`, whose JSON schema is configs/ladder.schema.json.

<runs>/<id>/
    config.yaml        the experiment, overrides applied
    env.json           versions, device, git revision
    ladder.json        LadderRecord: the ladder with its decisions
    questions.jsonl    the questions of dev and test
    scores.parquet     one row an arm, split, question and metric: value or status
    answers.jsonl      one row an arm, split and question: answer, contexts, cause
    verdicts.jsonl     one row a claim that the judge held true or not; empty where nothing was judged
    trials.parquet     one row a trial of the sweep
    best.yaml          the pipeline that the climb ended with
    report.html        made from the files above alone, as are report.json, scores.csv and questions.csv beside it
    run.log            what was printed, with times
"""

from __future__ import annotations

from typing import Any, Literal

from ..core.components import Model
from .gate import Decision

__all__ = [
    "SCHEMA_VERSION",
    "ArmRecord",
    "Ceiling",
    "CostRecord",
    "DataRecord",
    "Diagnosis",
    "EstimateRecord",
    "FaultRecord",
    "ForgoneRecord",
    "LadderRecord",
    "RungRecord",
]

SCHEMA_VERSION = 1


class EstimateRecord(Model):
    """A mean with its 95% interval."""

    mean: float | None
    """None where no question has a value."""
    low: float | None
    """Lower end; None below two groups of questions."""
    high: float | None
    """Upper end."""
    n_ok: int
    """Questions with a value."""
    n: int
    """Questions that the metric applies to; `n - n_ok` failed."""


class CostRecord(Model):
    """What something cost, as measured when it was first computed."""

    seconds: float = 0.0
    """Computing time."""
    prompt_tokens: int = 0
    """Read by LLMs."""
    completion_tokens: int = 0
    """Written by LLMs."""
    money: float = 0.0
    """In the currency of the configured prices."""


class ArmRecord(Model):
    """One pipeline, scored."""

    arm: str
    """`baseline`, or the rung's name."""
    pipeline: dict[str, Any]
    """Its settings."""
    scores: dict[Literal["dev", "test"], dict[str, EstimateRecord]]
    """Metric by split; test only where it was looked at."""
    seconds_per_question: float
    """Retrieval, reranking and generation, mean over dev."""
    context_tokens: float
    """Prompt tokens a question, mean over dev."""
    causes: dict[str, int]
    """Dev questions by cause of loss."""


class Ceiling(Model):
    """What a perfect part would give, measured on dev."""

    name: str
    """`extractive_reader`, `closed_book` or `gold_context`."""
    meaning: str
    """In words."""
    metric: str
    """The answer metric."""
    estimate: EstimateRecord
    """Its mean."""


class FaultRecord(Model):
    """The dev questions that one part of the pipeline lost."""

    questions: int
    """How many."""
    share: EstimateRecord
    """Of all dev questions, with its 95% interval."""
    asked_again: int
    """Those asked again with their evidence first in the context."""
    repaired: int
    """Those of them that were answered well enough then."""


class Diagnosis(Model):
    """Where the baseline loses questions and which rung can pay."""

    causes: dict[str, int]
    """Dev questions by cause."""
    faults: dict[str, FaultRecord] = {}
    """Lost dev questions by part: `parse`, `retrieve`, `rank`, `context_budget`, `generate`, `judge`."""
    reach: dict[str, EstimateRecord] = {}
    """Rung: the answer metric on dev if the parts that the rung mends lost nothing."""
    ceilings: tuple[Ceiling, ...]
    """Counterfactual runs."""
    can_pay: dict[str, str]
    """Rung: what it could win at most, in words."""


class ForgoneRecord(Model):
    """What a rung that was not tried would cost, and could win at most, from the pipeline that the climb ended with."""

    questions: int
    """Dev questions lost by the parts that the rung mends."""
    of: int
    """All dev questions."""
    gain: EstimateRecord | None
    """The answer metric on dev that those questions are worth; None where it was not measured."""
    gain_note: str
    """What the gain supposes, or why it was not measured."""
    seconds: float | None
    """Of the training, scaled up from a few steps that were really made; None where it was not measured."""
    cost_note: str
    """How the time was measured and what it leaves out, or why it was not measured."""
    device: str
    """`cpu`, `cuda` or `mps`: where the steps were made."""


class RungRecord(Model):
    """One rung of the ladder."""

    name: Literal["retrieval", "embedding", "prompt", "llm"]
    """Which; `prompt` (the best prompt, before the LLM is trained) unless `rungs.llm.prompts` is empty."""
    decision: Decision
    """The verdict and why."""
    metric: str
    """What the gate looked at."""
    changes: dict[str, tuple[Any, Any]]
    """Setting: incumbent and candidate values."""
    dev: dict[str, Any]
    """The comparison on dev that chose the candidate (a Comparison), for the winner's curse; empty where none was."""
    candidate: ArmRecord | None
    """None where nothing was made; scored on dev alone where it lost there."""
    cost: CostRecord
    """Of the whole rung."""
    details: dict[str, Any]
    """What the rung found out: trials, training curve, data checks, warnings."""
    forgone: ForgoneRecord | None = None
    """Where the rung was not tried (`skip`, `stop`): what it would have cost, and won at most."""


class DataRecord(Model):
    """The data of the run."""

    documents: int
    """Parsed ones."""
    failures: dict[str, str]
    """Documents that could not be parsed: why."""
    questions: dict[str, int]
    """By split."""
    unanswerable: dict[str, int]
    """By split."""
    evidence_lost: dict[str, int]
    """Questions whose evidence the baseline's parser lost, by split."""
    documents_sha256: str
    """Over names and contents."""
    questions_sha256: str
    """Over names and contents."""


class LadderRecord(Model):
    """The whole climb. Equal inputs give an equal record but for `run_id`, `created` and every `seconds*`."""

    schema_version: Literal[1] = 1
    """Raised when a field changes its meaning or goes."""
    status: Literal["running", "finished", "failed"]
    """`running` also after a kill: the same command resumes."""
    run_id: str
    """Name of the run folder."""
    name: str
    """Of the experiment."""
    created: str
    """ISO 8601, UTC."""
    ragladder: str
    """Version."""
    config_sha256: str
    """Over the settings that change results."""
    seed: int
    """Of everything random."""
    data: DataRecord
    """What was measured on."""
    answer_metric: str
    """The end-to-end metric."""
    judges: dict[str, str] = {}
    """Metric that an LLM or a function of the user scored: who scored it. Scores of unlike judges are not compared."""
    metrics: dict[str, str] = {}
    """Metric: version of its code, with the settings that change its scores. Unlike ones are not compared."""
    baseline: ArmRecord
    """The starting pipeline."""
    diagnosis: Diagnosis
    """Of the baseline."""
    rungs: tuple[RungRecord, ...]
    """In climbing order."""
    final: ArmRecord
    """What the climb ended with."""
    summary: str
    """The answer in one sentence."""
    next_step: str
    """What to do now."""
    seconds: float
    """Wall-clock time of the run that finished it."""
