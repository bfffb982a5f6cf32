"""A Hugging Face causal language model in this process, with an optional LoRA adapter."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..components import Resources, Settings
from ..errors import DataError, StageError
from ..memory import out_of_memory
from ..quiet import quiet_libraries
from ._decoding import gumbel_sampler, stopper
from .adapters import check_base, merged
from .types import ChatRequest, Completion, Message, Probe
from .weights import resolve_adapter, resolve_model, weights_fingerprint

__all__ = ["LocalChat", "LocalChatSettings"]

_log = logging.getLogger(__name__)


class LocalChatSettings(Settings):
    """A Hugging Face causal language model on this machine."""

    cost: ClassVar[str] = "no calls; time by model size, and memory for its weights"

    kind: Literal["local"] = "local"
    model: str
    """Folder of the model, or its name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None takes the newest. Not used for a folder."""
    adapter: str | None = None
    """Folder of a LoRA adapter (peft); it is merged into the weights at loading, so it costs no speed. One that was
    trained on another base is refused."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number type of the weights; `auto` takes that of the files. float32 needs twice the memory of 16-bit types."""
    max_length: int | None = Field(default=None, ge=16)
    """Most tokens of prompt and completion together; None takes the model's own limit. Longer requests are not cut:
    they get the status `generation_error`."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts decoded together, of like length. More needs more memory; a CPU is fastest at about 8."""

    def build(self, resources: Resources) -> LocalChat:
        """Makes the model handle; weights are loaded at its first use.

        Raises:
            DataError: There is no such model or adapter, or the adapter is of another base.
        """
        return LocalChat(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The weights' fingerprint in place of paths; not the batch size."""
        folder = resolve_model(self.model, resources, "llm.model", self.revision)
        found: dict[str, Any] = {
            "kind": self.kind,
            "weights": weights_fingerprint(folder, resources),
            "adapter": None,
            "dtype": self.dtype,
            "max_length": self.max_length,
            "version": self.version,
        }
        if self.adapter is not None:
            adapter = resolve_adapter(self.adapter, resources, "llm.adapter")
            found["adapter"] = weights_fingerprint(adapter, resources)
        return found


@dataclass(frozen=True, slots=True)
class _Job:
    """A tokenised request and its place in the result."""

    place: int
    request: ChatRequest
    ids: list[int]

    def group(self) -> tuple[Any, ...]:
        """Requests of one group can be decoded together."""
        return (self.request.max_tokens, self.request.stop, self.request.temperature > 0)


class LocalChat:
    """A loaded model; one at a time uses it.

    Decoding is greedy at temperature 0. Above it, each request draws with its own generator (seed + repeat) by the
    Gumbel-max trick, so its result does not depend on which other requests share its batch, save for rounding.
    """

    def __init__(self, settings: LocalChatSettings, resources: Resources) -> None:
        """Finds the files; see `LocalChatSettings.build`."""
        self.settings = settings
        self._device = resources.device
        self._folder = resolve_model(settings.model, resources, "llm.model", settings.revision)
        self._adapter = None
        if settings.adapter is not None:
            self._adapter = resolve_adapter(settings.adapter, resources, "llm.adapter")
            doubt = check_base(self._folder, self._adapter, "llm.adapter", resources)
            if doubt:
                _log.warning("%s", doubt)
        self._lock = threading.Lock()
        self._model: Any = None
        self._tokenizer: Any = None
        self._warned: set[str] = set()
        self._read = self._wrote = 0

    @property
    def spent(self) -> tuple[int, int, float]:
        """Prompt tokens, completion tokens and money so far; it costs none."""
        return self._read, self._wrote, 0.0

    def probe(self) -> Probe:
        """Whether the tokenizer and the config can be read; the weights are not loaded."""
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self._folder)
            self._load_tokenizer()
        except Exception as error:  # transformers raises errors of many kinds for a broken model
            return Probe(False, f"{self._folder} cannot be read as a model: {error}")
        return Probe(True, f"{self._folder} holds a {config.model_type} model")

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        return len(self._load_tokenizer()(text, add_special_tokens=False)["input_ids"])

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        """Completes each request, longest prompts first, in batches of like length.

        Raises:
            DataError: The files are no usable model.
            StageError: The device is out of memory.
        """
        done: dict[int, Completion] = {}
        jobs: list[_Job] = []
        with self._lock:
            self._load_model()
            limit = self._limit()
            for place, request in enumerate(requests):
                if request.json_schema is not None:
                    self._warn("a local model does not enforce json_schema; its text is returned as written")
                job = _Job(place, request, self._encode(request.messages))
                needed = len(job.ids) + request.max_tokens
                if needed > limit:
                    detail = f"{len(job.ids)} prompt tokens and {request.max_tokens} to write exceed {limit}"
                    done[place] = Completion("", "generation_error", detail, prompt_tokens=len(job.ids))
                else:
                    jobs.append(job)
            for batch in _batches(jobs, self.settings.batch_size):
                made = self._decode(batch)
                self._read += sum(one.prompt_tokens for one in made.values())
                self._wrote += sum(one.completion_tokens for one in made.values())
                done.update(made)
        return [done[place] for place in range(len(requests))]

    def _decode(self, batch: list[_Job]) -> dict[int, Completion]:
        import torch

        started = time.perf_counter()
        width = max(len(job.ids) for job in batch)
        pad = self._tokenizer.pad_token_id
        ids = torch.full((len(batch), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, job in enumerate(batch):  # padded on the left, so that all prompts end at one place
            ids[row, width - len(job.ids) :] = torch.tensor(job.ids, dtype=torch.long)
            mask[row, width - len(job.ids) :] = 1
        try:
            with torch.inference_mode():
                out = self._model.generate(
                    input_ids=ids.to(self._device),
                    attention_mask=mask.to(self._device),
                    max_new_tokens=batch[0].request.max_tokens,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=pad,
                    **self._extras(batch, width),
                )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise StageError(
                f"out of memory on {self._device} with {len(batch)} prompts of {width} tokens: lower llm.batch_size, "
                "or take a smaller model or dtype"
            ) from None
        seconds = (time.perf_counter() - started) / len(batch)
        written = out[:, width:].cpu().tolist()
        return {job.place: self._finish(job, row, seconds) for job, row in zip(batch, written, strict=True)}

    def _extras(self, batch: list[_Job], width: int) -> dict[str, Any]:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        extras: dict[str, Any] = {}
        request = batch[0].request
        if request.temperature > 0:
            sampler: Any = gumbel_sampler([job.request for job in batch])
            extras["logits_processor"] = LogitsProcessorList([sampler])
        if request.stop:
            criterion: Any = stopper(self._tokenizer, request.stop, width)
            extras["stopping_criteria"] = StoppingCriteriaList([criterion])
        return extras

    def _finish(self, job: _Job, written: list[int], seconds: float) -> Completion:
        ends = self._end_ids()
        length = next((place for place, token in enumerate(written) if token in ends), len(written))
        text = self._tokenizer.decode(written[:length], skip_special_tokens=True)
        cuts = [place for place in (text.find(stop) for stop in job.request.stop) if place >= 0]
        if cuts:
            text = text[: min(cuts)]
        detail = "cut at max_tokens" if length >= job.request.max_tokens and not cuts else ""
        return Completion(
            text=text.strip(),
            detail=detail,
            prompt_tokens=len(job.ids),
            completion_tokens=min(length + 1, len(written)),
            seconds=seconds,
        )

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            turns = [{"role": message.role, "content": message.content} for message in messages]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])
        self._warn("the model has no chat template: messages are joined by blank lines and continued as plain text")
        ids = list(tokenizer("\n\n".join(message.content for message in messages))["input_ids"])
        # some tokenizers end every text with "end of sequence", after which nothing would be written
        return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids

    def _end_ids(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        found = set(ends) if isinstance(ends, list) else set() if ends is None else {ends}
        return found | {self._tokenizer.eos_token_id, self._tokenizer.pad_token_id}

    def _limit(self) -> int:
        config = self._model.config.get_text_config()  # of a model that reads pictures too, the part for text
        own = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1 << 30
        return min(own, self.settings.max_length or own)

    def _load_tokenizer(self) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            try:
                tokenizer = AutoTokenizer.from_pretrained(self._folder, padding_side="left")
            except Exception as error:  # transformers raises errors of many kinds for a broken model
                raise DataError(f"llm.model: no tokenizer could be read from {self._folder}: {error}") from None
            if tokenizer.pad_token_id is None:
                if tokenizer.eos_token_id is None:
                    raise DataError(f"llm.model: the tokenizer in {self._folder} has neither a pad nor an eos token")
                tokenizer.pad_token = tokenizer.eos_token
            self._tokenizer = tokenizer
        return self._tokenizer

    def _load_model(self) -> None:
        if self._model is not None:
            return
        from transformers import AutoModelForCausalLM

        self._load_tokenizer()
        try:
            with quiet_libraries():
                model: Any = AutoModelForCausalLM.from_pretrained(self._folder, dtype=self.settings.dtype)
                if self._adapter is not None:
                    model = merged(model, self._adapter, "llm.adapter")
        except DataError:
            raise
        except Exception as error:  # as above
            raise DataError(f"llm.model: {self._folder} cannot be loaded as a causal language model: {error}") from None
        config = model.generation_config  # a model's sampling defaults do not apply: requests say what they want
        config.do_sample, config.temperature, config.top_p, config.top_k = False, None, None, None
        config.max_length = None
        self._model = model.to(self._device).eval()

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s: %s", self._folder.name, text)


def _batches(jobs: Sequence[_Job], size: int) -> Iterator[list[_Job]]:
    """Jobs that can be decoded together, of like length; longest first, so that memory runs out at once."""
    groups: dict[tuple[Any, ...], list[_Job]] = {}
    for job in sorted(jobs, key=lambda job: (-len(job.ids), job.place)):
        groups.setdefault(job.group(), []).append(job)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
