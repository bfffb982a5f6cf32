"""What each command prints with `--json`: a model's fields, or the keys named here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pydantic import BaseModel

__all__ = ["JsonOutput", "json_outputs"]

JsonOutput = type[BaseModel] | Mapping[str, str]

_COUNTS = {
    "questions": "how many",
    "unanswerable": "those that the documents do not answer",
    "splits": "questions by split; empty where there are none yet",
}


@cache
def json_outputs() -> Mapping[str, tuple[JsonOutput, bool]]:
    """Command: what is printed, and whether as a list of such."""
    from ..embeddings.export import ExportedModel
    from ..embeddings.probe import EmbedEstimate
    from ..eval.audit import AuditReport
    from ..eval.calibrate import Calibration
    from ..llm_ft.export import AdapterExport
    from .compare import RunComparison
    from .evaluate import EvalResult
    from .finetune import compare_llm, embedding, embedding_curve, embedding_search, llm
    from .records import LadderRecord
    from .sweep.results import SweepRecord
    from .synth import SynthOutcome

    models: dict[str, type[BaseModel]] = {
        "climb": LadderRecord,
        "runs show": LadderRecord,
        "sweep": SweepRecord,
        "eval": EvalResult,
        "compare": RunComparison,
        "data audit": AuditReport,
        "data synth": SynthOutcome,
        "judge calibrate": Calibration,
        "embed pairs": embedding.PairsReport,
        "embed estimate": EmbedEstimate,
        "embed train": embedding.EmbedTraining,
        "embed curve": embedding_curve.LearningCurve,
        "embed search": embedding_search.SearchResult,
        "embed export": ExportedModel,
        "llm prompts": llm.PromptReport,
        "llm data": llm.LLMData,
        "llm train": llm.LLMTraining,
        "llm curve": llm.CurveReport,
        "llm compare": compare_llm.LLMComparison,
        "llm export": AdapterExport,
    }
    lists = {name: (keys, True) for name, keys in _LISTS.items()}
    return {**{name: (one, False) for name, one in {**models, **_PLAIN}.items()}, **lists}


_PLAIN: dict[str, Mapping[str, str]] = {
    "init": {"config": "the file to climb from", "notes": "what was found in your documents and questions, in words"},
    "check": {"ok": "false where an endpoint does not answer (exit code 4)", "plan": "what would run, a line each"},
    "ask": {
        "answer": "text",
        "status": "`ok`, or how it failed",
        "detail": "why it failed",
        "contexts": "passages that were read: `doc_id`, `start`, `end`, `score`, `text`",
    },
    "report": {"report": "the page", "tables": "files beside it"},
    "export": {"run_id": "of the run", "folder": "that was written"},
    "runs track": {"logged": "where, a line each"},
    "configs show": {"name": "of the config", "purpose": "in a sentence", "text": "the YAML"},
    "configs copy": {"config": "the file that was written"},
    "data import": {
        "folder": "that was written",
        "documents": "how many",
        **_COUNTS,
        "notes": "what was left out, in words",
    },
    "data split": {
        "file": "that was written",
        **_COUNTS,
        "groups": "groups of questions by split",
        "largest": "questions of the largest group",
        "moved": "questions that had another split before",
    },
}
_LISTS: dict[str, Mapping[str, str]] = {
    "runs ls": {
        "run_id": "newest first",
        "status": "as in ladder.json",
        "name": "of the experiment",
        "created": "when",
        "summary": "the answer in a sentence",
    },
    "configs ls": {"name": "of a shipped config", "purpose": "in a sentence"},
    "components": {
        "name": "of the role",
        "paths": "keys of a config where it stands",
        "components": "the built-in ones: `kind`, `summary`, `cost`, `settings` (`name`, `type`, `default`, `meaning`)",
    },
    "doctor": {"name": "what was looked at", "ok": "found", "detail": "in words", "enables": "what it is for"},
}
