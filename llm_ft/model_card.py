"""The README of an adapter: what it is, what it was made from, and what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.files import write_atomic
from .checks import DataReport
from .settings import LoraSettings
from .train import LoraResult

__all__ = ["model_card", "write_model_card"]


def model_card(
    base: str,
    result: LoraResult,
    settings: LoraSettings,
    data: DataReport | None = None,
    dev_figures: Mapping[str, float] | None = None,
) -> str:
    """Writes the text of a model card.

    Args:
        base: Name of the base model as readers know it, not a path of this machine.
        result: What training returned.
        settings: What it was trained with.
        data: The report on the training data.
        dev_figures: Metrics on the dev questions, by name, as the evaluation gave them.

    Returns:
        Markdown with the front matter that the Hugging Face hub reads.
    """
    parts = [
        f"---\nbase_model: {base}\nlibrary_name: peft\ntags: [lora, rag, ragladder]\n---",
        f"# LoRA adapter for {base}",
        "Answers questions from retrieved passages. Trained by ragladder on the completions alone; prompts that lack "
        "the evidence are answered by abstaining.",
        "## Training",
        _table(_training(result)),
        "## Data",
        _table({"train examples": str(result.examples)} if data is None else _data(result, data)),
        "## Dev figures",
        _table({name: f"{value:.4f}" for name, value in dev_figures.items()})
        if dev_figures
        else "None were given besides the dev loss.",
        "## Settings",
        _table({name: str(value) for name, value in settings.model_dump(mode="json").items()}),
        "## Use",
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base}")\n'
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n```',
    ]
    if result.notes:
        parts[4:4] = ["\n".join(f"- {note}" for note in result.notes)]
    return "\n\n".join(parts) + "\n"


def write_model_card(
    base: str,
    result: LoraResult,
    settings: LoraSettings,
    data: DataReport | None = None,
    dev_figures: Mapping[str, float] | None = None,
) -> Path:
    """Writes the card as `README.md` into the adapter's folder, and returns its path; see `model_card`."""
    path = result.adapter / "README.md"
    write_atomic(path, model_card(base, result, settings, data, dev_figures).encode())
    return path


def _training(result: LoraResult) -> dict[str, str]:
    return {
        "dev loss of the base": _number(result.base_dev_loss),
        "dev loss of the adapter": _number(result.best_dev_loss),
        "steps (kept: the adapter of step)": f"{result.steps} ({result.best_step})",
        "trainable parameters": f"{result.trainable_parameters:,} of {result.total_parameters:,}",
        "tokens": f"{result.tokens:,}",
        "time": f"{result.seconds:.0f} s on {result.device}, {result.dtype}",
    }


def _data(result: LoraResult, data: DataReport) -> dict[str, str]:
    rows = {
        "train examples": f"{result.examples} of {data.questions} questions",
        **{f"examples of kind {kind}": str(count) for kind, count in data.kinds.items()},
        "left out as too long (train and dev)": str(result.too_long),
    }
    if data.tokens is not None:
        rows["tokens of an example"] = f"median {data.tokens.median}, longest {data.tokens.longest}"
    for finding in data.findings:
        rows[f"{finding.severity}: {finding.check}"] = finding.message
    return rows


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {value.replace('|', '&#124;')} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
