"""Writes an adapter for where it will serve: vLLM, Ollama, or plain transformers, with the command for each.

vLLM loads the adapter beside its base (`--enable-lora`); where it cannot (DoRA), it gets the merged model. Ollama gets
a Modelfile, over GGUF where llama.cpp's converter is there, else over the merged weights, which it imports itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ..core.components import Model
from ..core.errors import DataError, StageError
from ..core.files import whole_folder
from .model import check_adapter, merge_adapter
from .tokens import Encoder

__all__ = ["EXPORT_FORMATS", "AdapterExport", "ExportFormat", "export_adapter", "modelfile"]

ExportFormat = Literal["vllm", "ollama", "transformers"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
_CONVERTER = "convert_hf_to_gguf.py"
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_REFUSALS = {
    "BPE pre-tokenizer was not recognized": "this model's tokenizer (it knows byte-level BPE tokenizers by name)",
    "is not supported": "this model's architecture",
}
"""What the converter says of models that it does not know: what that means."""
_TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)

_TRANSFORMERS = """from transformers import pipeline
print(pipeline('text-generation', 'merged')([{'role': 'user', 'content': 'your prompt'}]))"""


class AdapterExport(Model):
    """What was written, and how it is served."""

    folder: Path
    """Holds all of it."""
    commands: dict[str, str]
    """Format: command or code, to be run inside the folder."""
    notes: tuple[str, ...]
    """What had to be decided, as sentences."""


def export_adapter(
    base_folder: Path,
    adapter: Path,
    out_dir: Path,
    formats: Sequence[ExportFormat] = EXPORT_FORMATS,
    base_name: str = "",
    name: str = "ragladder",
    env: Mapping[str, str] | None = None,
) -> AdapterExport:
    """Writes `adapter/`, and what each format needs, into a new folder; it is there whole or not at all.

    Args:
        base_folder: The base model; not changed.
        adapter: An adapter of it.
        out_dir: A new folder.
        formats: Which servers.
        base_name: How the base is named in commands (a hub name); its folder where empty.
        name: Of the served model.
        env: Environment, for `LLAMA_CPP` (the folder of llama.cpp) and `PATH`; the process's own where None.

    Raises:
        DataError: The adapter is of another base, or `out_dir` is there and not empty.
        StageError: llama.cpp's converter failed.
    """
    out_dir = Path(out_dir).absolute()
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise DataError(f"export: {out_dir} is there already and not empty; name a new folder")
    check_adapter(base_folder, adapter)
    settings = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    named, notes = base_name or str(Path(base_folder).absolute()), list[str]()
    with whole_folder(out_dir) as temporary:
        shutil.copytree(adapter, temporary / "adapter", ignore=shutil.ignore_patterns("optimizer*", "checkpoint*"))
        _name_base(temporary / "adapter", named)
        if set(formats) & {"ollama", "transformers"} or settings.get("use_dora"):
            _keep_tokenizer(base_folder, merge_adapter(base_folder, adapter, temporary / "merged"))
        commands: dict[str, str] = {}
        if "vllm" in formats:
            commands["vllm"] = _vllm(settings, named, name, notes)
        if "ollama" in formats:
            commands["ollama"] = _ollama(base_folder, temporary, name, os.environ if env is None else env, notes)
        if "transformers" in formats:
            commands["transformers"] = _TRANSFORMERS
        (temporary / "README.md").write_text(_readme(name, commands, notes), encoding="utf-8")
    return AdapterExport(folder=out_dir, commands=commands, notes=tuple(notes))


def _name_base(adapter: Path, base: str) -> None:
    """The adapter names the base as the commands do, not a folder of the machine that trained it."""
    path = adapter / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "base_model_name_or_path": base}, indent=2, sort_keys=True), "utf-8")


def _keep_tokenizer(base: Path, merged: Path) -> None:
    """Gives the merged model its base's own tokenizer files.

    transformers writes them anew in a form of its own, without sentencepiece's `tokenizer.model` and the table of added
    tokens; llama.cpp's converter reads these, and without them makes a GGUF that splits words otherwise.
    """
    for name in _TOKENIZER_FILES:
        if (Path(base) / name).is_file():
            shutil.copyfile(Path(base) / name, merged / name)


def _vllm(settings: Mapping[str, Any], base: str, name: str, notes: list[str]) -> str:
    if settings.get("use_dora"):
        notes.append("vLLM does not load DoRA adapters: it gets the merged model")
        return f"vllm serve merged --served-model-name {name}"
    rank = settings["r"]
    room = next((size for size in _VLLM_RANKS if size >= rank), None)
    if room is None:
        raise DataError(f"export: vLLM takes adapters up to rank {_VLLM_RANKS[-1]}, and this one has {rank}")
    return f"vllm serve {base} --enable-lora --max-lora-rank {room} --lora-modules {name}=adapter"


def _ollama(base: Path, folder: Path, name: str, env: Mapping[str, str], notes: list[str]) -> str:
    weights = "./merged"
    converter = _find_converter(env)
    if converter is None:
        notes.append(
            f"llama.cpp's {_CONVERTER} was not found (set LLAMA_CPP to its folder), so the Modelfile names the merged "
            "weights: Ollama imports them itself for the architectures that it knows"
        )
    else:
        weights = "./model.gguf"
        command = [sys.executable, str(converter), "merged", "--outfile", "model.gguf", "--outtype", "f16"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not (folder / "model.gguf").is_file():
            raise StageError(f"export: {_refusal(converter, (done.stderr or done.stdout).strip())}")
    (folder / "Modelfile").write_text(modelfile(Encoder.from_folder(Path(base)), weights, notes), encoding="utf-8")
    return f"ollama create {name} -f Modelfile && ollama run {name}"


def _refusal(converter: Path, said: str) -> str:
    """Why the converter failed, from the end of what it said."""
    others = "without 'ollama' among the formats the rest is exported"
    missing = _MISSING.search(said)
    if missing:
        needs = converter.parent / "requirements" / "requirements-convert_hf_to_gguf.txt"
        return f"llama.cpp's converter needs the package '{missing[1]}': pip install -r {needs}; {others}"
    for words, why in _REFUSALS.items():
        if words in said:
            return f"llama.cpp does not know {why}, so there is no GGUF of it, and Ollama cannot serve it; {others}"
    end = "\n".join(said.splitlines()[-5:])
    return f"{converter} failed on the merged model; {others}. It said:\n{end}"


def _find_converter(env: Mapping[str, str]) -> Path | None:
    given = env.get("LLAMA_CPP")
    if given:
        path = Path(given) / _CONVERTER
        if not path.is_file():
            raise DataError(f"export: LLAMA_CPP is {given}, but {_CONVERTER} is not in it")
        return path
    found = shutil.which(_CONVERTER, path=env.get("PATH"))
    return Path(found) if found else None


def modelfile(encoder: Encoder, weights: str, notes: list[str]) -> str:
    """The text of an Ollama Modelfile, whose template writes what the model's own chat template does.

    Args:
        encoder: Of the base.
        weights: Path of GGUF or safetensors, as written after FROM.
        notes: Gets what had to be decided.
    """
    template = _go_template(encoder.tokenizer, notes)
    ends = dict.fromkeys(encoder.tokenizer.convert_ids_to_tokens(sorted(encoder.end_ids)))
    lines = [f"FROM {weights}", f'TEMPLATE """{template}"""', "PARAMETER temperature 0"]
    lines += [f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}" for token in ends if token]
    return "\n".join(lines) + "\n"


def _go_template(tokenizer: Any, notes: list[str]) -> str:
    """The prompt of one user turn, with and without a system turn, as a Go template."""
    if not tokenizer.chat_template:
        notes.append("the model has no chat template: the prompt is given to it as plain text")
        return "{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}{{ .Response }}"

    def render(turns: list[dict[str, str]]) -> str:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        # the server puts the token that begins a text there itself
        return text.removeprefix(tokenizer.bos_token or "")

    user = {"role": "user", "content": "{{ .Prompt }}"}
    alone = render([user])
    try:
        both = render([{"role": "system", "content": "{{ .System }}"}, user])
    except Exception:  # what a template raises for a turn that it does not know
        both = ""
    if "{{ .System }}" not in both:
        notes.append("the chat template takes no system turn: the Modelfile's leaves it out")
        return alone + "{{ .Response }}"
    return "{{ if .System }}" + both + "{{ else }}" + alone + "{{ end }}{{ .Response }}"


def _readme(name: str, commands: Mapping[str, str], notes: Sequence[str]) -> str:
    titles = {"vllm": "vLLM", "ollama": "Ollama", "transformers": "transformers"}
    parts = [f"# {name}: a finetuned model, exported by ragladder", "Run the commands inside this folder."]
    for format_, command in commands.items():
        language = "python" if format_ == "transformers" else "sh"
        parts.append(f"## {titles[format_]}\n\n```{language}\n{command}\n```")
    if notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"
