"""Settings of the LLM rung."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from ..core.chat import ChatSection
from ..core.components import Model
from ..llm_ft.checks import CheckSettings
from ..llm_ft.curator import TeacherSettings
from ..llm_ft.curve import CurveSettings
from ..llm_ft.examples import ExampleSettings
from ..llm_ft.forgetting import ForgettingSettings
from ..llm_ft.preference_data import PreferenceSettings
from ..llm_ft.search import SearchSettings
from ..llm_ft.settings import LoraSettings

__all__ = ["BARE_TEMPLATE", "LLMRungSettings"]

BARE_TEMPLATE = "{contexts}\n\nQuestion: {question}\nAnswer:"


class LLMRungSettings(Model):
    """Rung 3: LoRA finetuning of the LLM on the train questions, through the tuned retriever.

    Prompts come first: the gate looks at the best of them by itself, and the adapter has to beat it on test.
    """

    metric: str | None = None
    """What the gate looks at; the answer metric where not set."""
    prompts: dict[str, list[Any]] = {
        "generate.prompt.template": ["plain", "cited", "reasoned"],
        "generate.prompt.demonstrations": [3],
        "generate.prompt.chain": ["extract"],
    }
    """Axes tried on dev before any training: a key path below `pipeline.generate` or `retrieve.top_k`, and its values.
    One axis at a time, the best value kept. Each value costs the answers to the dev questions, up to twice; the best
    prompt is one more look at test, for which the gate divides its alpha once more. `{}` tries none."""
    reference: ChatSection | None = None  # pyright: ignore[reportInvalidTypeForm]
    """A stronger LLM, asked the dev questions with the best prompt: what money would buy without training. It is never
    proposed. Costs the answers to the dev questions."""
    data: ExampleSettings = ExampleSettings()
    """How the training examples are made; `top_k` is the pipeline's where it is not set."""
    edge_copies: int = Field(default=0, ge=0)
    """Further examples of each train question that the best prompt answers wrongly with its evidence at hand: aims the
    training at the edge cases. Above 0 it costs the answers to the train questions."""
    teacher: TeacherSettings | None = None
    """An LLM that grades, rejects and rewrites the training answers; none trains on the references as they are."""
    checks: CheckSettings = CheckSettings()
    """What must hold of the examples before training."""
    bake_prompt: bool = False
    """Trains, and then answers, with `baked_template` and no worked examples: the instructions go into the weights.
    Saves their tokens in every call; how many is reported."""
    baked_template: str = BARE_TEMPLATE
    """The short prompt: the name of a built-in template, or a text with {contexts} and {question}."""
    train: LoraSettings = LoraSettings()
    """How it is trained."""
    search: SearchSettings | None = None
    """Looks for better epochs and learning rates from `train` on; none trains once."""
    sizes: tuple[str, ...] = ()
    """Base models to try instead of the pipeline's, smallest first by the size of their weights, until one meets the
    target with its adapter: how small can it be? Each costs a training and the answers to the dev questions."""
    size_target: float | None = None
    """Dev mean of the rung's metric that is small enough to stop at; `gate.target` where not set. Without either every
    size is tried, and the best on dev is taken."""
    curve: CurveSettings | None = None
    """Trains on shares of the data too and predicts what doubling it would bring; none does not."""
    preference: PreferenceSettings | None = None
    """Tunes the trained adapter to thumbs up and down; none does not."""
    forgetting: ForgettingSettings | None = None
    """Measures what the adapter forgets on general prompts; none does not."""

    @field_validator("prompts")
    @classmethod
    def _answers_only(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for axis, values in value.items():
            if not axis.startswith("generate.") and axis != "retrieve.top_k":
                raise ValueError(
                    f"'{axis}' is no prompt setting: use generate.prompt..., generate... or retrieve.top_k"
                )
            if axis.startswith("generate.llm"):
                raise ValueError(
                    f"'{axis}' changes the model: name other bases in `sizes`, a stronger LLM in `reference`"
                )
            if not values:
                raise ValueError(f"'{axis}' has no values")
        return value

    @model_validator(mode="after")
    def _template_fits(self) -> LLMRungSettings:
        if self.bake_prompt:
            from ..rag.prompt import PromptSettings

            PromptSettings(template=self.baked_template)
        return self
