"""Tokens of an example: the prompt exactly as the model reads it when it answers, and the completion that is learnt."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.chat.types import Message
from ..core.errors import DataError
from .examples import Example

__all__ = ["Encoded", "Encoder", "fits_window"]

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of an example.

    Attributes:
        input_ids: Prompt and completion.
        labels: -100 for each token of the prompt, which so carries no loss; the token itself for the completion.
    """

    input_ids: list[int]
    labels: list[int]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.labels.count(IGNORED)


class Encoder:
    """Turns messages into tokens with a model's tokenizer and chat template.

    The prompt's tokens are those that the model sees when it answers: the template's text up to the point where the
    assistant starts, tokenised alone. The completion ends with a token that ends generation. A model without a chat
    template reads the messages joined by blank lines, as plain text to continue.

    Attributes:
        tokenizer: The model's tokenizer; it has a pad token.
        end_ids: Tokens that end an answer.
        notes: What had to be decided for this tokenizer, as sentences.
    """

    def __init__(self, tokenizer: Any, end_ids: Collection[int] = (), window: int | None = None) -> None:
        """Takes a tokenizer.

        Args:
            tokenizer: A Hugging Face tokenizer. Without a pad token it is given its end-of-sequence token.
            end_ids: Further tokens that end generation (from the model's generation config).
            window: Most tokens that the model was made for; None where it has no limit.

        Raises:
            DataError: It has no token that ends a sequence.
        """
        if tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no end-of-sequence token: set eos_token in its tokenizer_config.json")
        self.notes: list[str] = []
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
            self._note(f"the tokenizer has no pad token: its end-of-sequence token {tokenizer.eos_token!r} is used")
        self.tokenizer = tokenizer
        self._window = window
        self.end_ids = frozenset({tokenizer.eos_token_id, *end_ids})

    @classmethod
    def from_folder(cls, folder: Path) -> Encoder:
        """Loads the tokenizer of a model folder.

        Raises:
            DataError: There is none, or it cannot be used.
        """
        from transformers import AutoTokenizer, GenerationConfig

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises errors of many kinds for a broken model
            raise DataError(f"base model: no tokenizer could be read from {folder}: {error}") from None
        ends: Any = None
        if (Path(folder) / "generation_config.json").is_file():
            ends = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
        ends = ends if isinstance(ends, list) else () if ends is None else (ends,)
        try:
            return cls(tokenizer, ends, _window(Path(folder)))
        except DataError as error:
            raise DataError(f"base model {folder}: {error}") from None

    def limit(self, max_length: int) -> int:
        """The most tokens of an example: `max_length`, or the model's own window where that is shorter."""
        return max_length if self._window is None else min(max_length, self._window)

    def limit_words(self, max_length: int) -> str:
        """The same in words."""
        if self.limit(max_length) < max_length:
            return f"the model's own window of {self._window} tokens (max_length {max_length} is beyond it)"
        return f"max_length {max_length}"

    def encode(self, messages: Sequence[Message], completion: str) -> Encoded:
        """Tokens of one example.

        Args:
            messages: The prompt; the last turn is the user's.
            completion: The assistant's answer.
        """
        if self.tokenizer.chat_template:
            prompt, answer = self._with_template(messages, completion)
        else:
            prompt, answer = self._plain(messages, completion)
        ends = [place for place, token in enumerate(answer) if token in self.end_ids]
        if ends:
            answer = answer[: ends[0] + 1]  # what a template puts after the end is never generated
        else:
            answer = [*answer, self.tokenizer.eos_token_id]
            if self.tokenizer.chat_template:
                self._note(
                    "the chat template ends an answer with no token that ends generation: "
                    f"{self.tokenizer.eos_token!r} is added"
                )
        return Encoded(prompt + answer, [IGNORED] * len(prompt) + answer)

    def encode_all(self, examples: Sequence[Example]) -> list[Encoded]:
        """Tokens of each example."""
        return [self.encode(example.messages, example.completion) for example in examples]

    def _with_template(self, messages: Sequence[Message], completion: str) -> tuple[list[int], list[int]]:
        answer = completion.strip()  # many templates strip it too
        turns = [{"role": message.role, "content": message.content} for message in messages]
        done = [*turns, {"role": "assistant", "content": answer}]
        try:
            prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            whole = self.tokenizer.apply_chat_template(done, tokenize=False)
        except Exception as error:  # jinja errors, and what templates raise themselves
            raise DataError(f"the model's chat template cannot render a prompt: {error}") from None
        if whole.startswith(prompt):
            rest = whole[len(prompt) :]
        else:
            self._note(
                "the chat template renders an answered turn unlike an open one: training uses the open one, as "
                "the model reads it when it answers"
            )
            place = whole.rfind(answer)
            rest = answer + (whole[place + len(answer) :] if place >= 0 else "")
        return self._ids(prompt), self._ids(rest)

    def _plain(self, messages: Sequence[Message], completion: str) -> tuple[list[int], list[int]]:
        self._note(
            "the model has no chat template: messages are joined by blank lines and the answer follows as plain text"
        )
        prompt = list(self.tokenizer("\n\n".join(message.content for message in messages))["input_ids"])
        if len(prompt) > 1 and prompt[-1] == self.tokenizer.eos_token_id:
            prompt = prompt[:-1]
        return prompt, self._ids(" " + completion.strip())

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _window(folder: Path) -> int | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # loading the model says what is wrong with it
    for part in (config, config.get("text_config") or {}):  # of a model that reads pictures too, the part for text
        found = part.get("max_position_embeddings") or part.get("n_positions")
        if isinstance(found, int) and found > 0:
            return found
    return None


def fits_window(encoder: Encoder, max_length: int) -> Callable[[tuple[Message, ...], str], bool]:
    """Whether prompt and completion fit into `max_length` and the model's own window, for `build_examples`."""
    most = encoder.limit(max_length)

    def fits(messages: tuple[Message, ...], completion: str) -> bool:
        return len(encoder.encode(messages, completion).input_ids) <= most

    return fits
