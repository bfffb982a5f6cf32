"""LoRA finetuning of the LLM: instruction data through the tuned retriever, checks, cost, training, merging."""

from __future__ import annotations

from .checks import CheckSettings, DataReport, Finding, check_examples
from .estimate import CostEstimate, EstimateSettings, estimate_training
from .examples import Example, ExampleSet, ExampleSettings, build_examples, load_examples, save_examples
from .model import merge_adapter
from .model_card import model_card, write_model_card
from .settings import LoraSettings
from .tokens import Encoder, fits_window
from .train import HistoryRow, LoraResult, train_lora

__all__ = [
    "CheckSettings",
    "CostEstimate",
    "DataReport",
    "Encoder",
    "EstimateSettings",
    "Example",
    "ExampleSet",
    "ExampleSettings",
    "Finding",
    "HistoryRow",
    "LoraResult",
    "LoraSettings",
    "build_examples",
    "check_examples",
    "estimate_training",
    "fits_window",
    "load_examples",
    "merge_adapter",
    "model_card",
    "save_examples",
    "train_lora",
    "write_model_card",
]
