"""LoRA finetuning of the LLM: instruction data through the tuned retriever, checks, cost, training, merging, export."""

from __future__ import annotations

from .checks import CheckSettings, DataReport, Finding, check_examples
from .curator import Curated, TeacherSettings, curate
from .curve import CurveSettings
from .estimate import CostEstimate, EstimateSettings, estimate_training
from .examples import Example, ExampleSet, ExampleSettings, build_examples, load_examples, save_examples
from .export import AdapterExport, export_adapter
from .forgetting import Forgetting, ForgettingSettings, measure_forgetting
from .model import check_adapter, merge_adapter
from .model_card import model_card, write_model_card
from .preference import PreferenceResult, train_preferences
from .preference_data import Preference, PreferenceSettings, load_preferences
from .search import SearchSettings
from .settings import LoraSettings
from .tokens import Encoder, fits_window
from .train import HistoryRow, LoraResult, train_lora

__all__ = [
    "AdapterExport",
    "CheckSettings",
    "CostEstimate",
    "Curated",
    "CurveSettings",
    "DataReport",
    "Encoder",
    "EstimateSettings",
    "Example",
    "ExampleSet",
    "ExampleSettings",
    "Finding",
    "Forgetting",
    "ForgettingSettings",
    "HistoryRow",
    "LoraResult",
    "LoraSettings",
    "Preference",
    "PreferenceResult",
    "PreferenceSettings",
    "SearchSettings",
    "TeacherSettings",
    "build_examples",
    "check_adapter",
    "check_examples",
    "curate",
    "estimate_training",
    "export_adapter",
    "fits_window",
    "load_examples",
    "load_preferences",
    "measure_forgetting",
    "merge_adapter",
    "model_card",
    "save_examples",
    "train_lora",
    "train_preferences",
    "write_model_card",
]
