"""A workspace that climbs in seconds: twelve small documents, fifty questions, random models of two layers."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DEVICES = (
    ("kettle", "lantern", "pump")  # train
    + ("drone", "scale", "printer")  # dev
    + ("gate", "heater", "camera", "loom", "mixer", "radio")  # test
)
SUFFIXES = (".md", ".html", ".txt")
PARTS = ("filter", "battery", "switch", "cable")
COLOURS = ("red", "green", "blue", "amber", "white")
CHAT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>\n{{ m['content'] }}<|end|>"
    "{% else %}<|user|>\n{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Workspace:
    """A folder with docs/, questions.jsonl and experiment.yaml; stages and runs go to cache/ beside them."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "experiment.yaml"

    @property
    def docs(self) -> Path:
        return self.root / "docs"

    @property
    def questions(self) -> Path:
        return self.root / "questions.jsonl"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def settings(self) -> dict[str, Any]:
        """The config as data."""
        return yaml.safe_load(self.config.read_text())

    def write(self, settings: dict[str, Any]) -> None:
        """Replaces the config."""
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False))

    def rows(self) -> list[dict[str, Any]]:
        """The questions as data."""
        return [json.loads(line) for line in self.questions.read_text().splitlines()]

    def write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replaces the questions."""
        self.questions.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def stages(self) -> dict[str, int]:
        """Finished stages and when each was written."""
        done = (self.cache / "stages").glob("[!.]*/stage.json")
        return {path.parent.name: path.stat().st_mtime_ns for path in done}

    def runs(self) -> list[Path]:
        """Run folders, oldest first."""
        return sorted((self.cache / "runs").glob("*"))

    def ladder(self) -> dict[str, Any]:
        """The newest run's ladder.json."""
        return json.loads((self.runs()[-1] / "ladder.json").read_text())


def sentences_of(number: int, device: str) -> list[str]:
    """Facts of one document: each names the device, so that words find it."""
    return [
        f"The {part} of the {device} is {COLOURS[(number + place) % 5]} and lasts {10 * number + place + 2} days."
        for place, part in enumerate(PARTS)
    ]


def document(suffix: str, device: str, sentences: Sequence[str]) -> str:
    """A document of a kind, a section a fact."""
    headings = [f"Care of the {part}" for part in PARTS]
    filler = "Ask the desk when in doubt, and write down what you did before you leave the room."
    title = f"{device.title()} handbook"
    if suffix == ".html":
        body = "".join(f"<h2>{h}</h2><p>{s} {filler}</p>" for h, s in zip(headings, sentences, strict=True))
        return f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{body}</body></html>"
    mark = "#" if suffix == ".md" else ""
    body = "\n".join(f"{mark * 2} {h}\n\n{s} {filler}\n".lstrip() for h, s in zip(headings, sentences, strict=True))
    return f"{mark} {title}\n\n{body}".lstrip()


def write_data(root: Path) -> None:
    """Documents, and questions split by document."""
    docs = root / "docs"
    docs.mkdir(parents=True)
    rows = []
    for number, device in enumerate(DEVICES):
        suffix = SUFFIXES[number % 3]
        name = f"DV-{number}_{device}{suffix}"
        sentences = sentences_of(number, device)
        (docs / name).write_text(document(suffix, device, sentences))
        split = "train" if number < 3 else "dev" if number < 6 else "test"
        for place, (part, sentence) in enumerate(zip(PARTS, sentences, strict=True)):
            rows.append(
                {
                    "id": f"q{number}-{place}",
                    "question": f"How long does the {part} of the {device} last?",
                    "answer": f"{10 * number + place + 2} days",
                    "evidence": [{"doc_id": name, "text": sentence}],
                    "tags": {"kind": "lookup"},
                    "split": split,
                }
            )
    for split in ("train", "dev", "test"):
        rows.append(
            {
                "id": f"no-{split}",
                "question": f"Who owns the {split} yacht?",
                "answer": "Not documented",
                "split": split,
            }
        )
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def experiment(embedder: Path) -> dict[str, Any]:
    """A config: random vectors first, words in the sweep, the embedding rung after it."""
    return {
        "name": "tiny",
        "seed": 3,
        "data": {"documents": "docs", "questions": "questions.jsonl"},
        "pipeline": {
            "parse": {"ref_pattern": "^([A-Z]+-[0-9]+)_"},
            "chunk": {"kind": "section", "size": 48},
            "embed": {"kind": "sentence_transformer", "model": str(embedder)},
            "retrieve": {"mode": "dense", "top_k": 2, "fetch_k": 10},
            "generate": "extractive",
        },
        "score": {"ks": [1, 3, 5], "budgets": [300], "ragas": False},
        "rungs": {
            "retrieval": {
                "metric": "ndcg@5",
                "passes": 1,
                "space": {
                    "context": ["heading"],
                    "retrieve": [
                        {"mode": "bm25", "top_k": 2, "fetch_k": 10},
                        {"mode": "hybrid", "top_k": 2, "fetch_k": 10},
                    ],
                },
            }
        },
        "gate": {"alpha": 0.1},
        "runtime": {"device": "cpu", "cache_dir": "cache"},
    }


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT with random weights: 2 layers, width 32, mean pooling."""
    import torch
    from ragladder.core.quiet import quiet_libraries
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("embedder")
    letters = [chr(c) for c in range(97, 123)] + [str(n) for n in range(10)]
    words = [*DEVICES, *PARTS, *COLOURS, "the", "of", "is", "and", "lasts", "last", "days", "how", "long", "does"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{t}" for t in letters)]
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = BertTokenizerFast(vocab={token: n for n, token in enumerate(tokens)}, model_max_length=64)
        tokenizer.save_pretrained(root / "bert")
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=64, **sizes)).save_pretrained(
            root / "bert"
        )
        modules = [Transformer(str(root / "bert")), Pooling(32, "mean"), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(root / "st"), create_model_card=False)
    return root / "st"


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama with random weights: 2 layers, width 32."""
    import torch
    from ragladder.core.quiet import quiet_libraries
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    texts = [sentence for number, device in enumerate(DEVICES) for sentence in sentences_of(number, device)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT
    folder = tmp_path_factory.mktemp("llm")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        **sizes,
    )
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A fresh workspace, which is the working directory."""
    root = tmp_path / "work"
    write_data(root)
    space = Workspace(root)
    space.write(experiment(tiny_embedder))
    monkeypatch.chdir(root)
    return space


@pytest.fixture
def words(workspace: Workspace) -> Workspace:
    """A fresh workspace that searches words only: no vectors, no threads, climbed in half a second."""
    settings = workspace.settings()
    # At this size headings are chunks of their own and rank above their sections: there is something to win.
    settings["pipeline"] |= {
        "retrieve": {"mode": "bm25", "top_k": 1, "fetch_k": 10},
        "chunk": {"kind": "section", "size": 32},
    }
    settings["rungs"]["retrieval"]["space"] = {
        "chunk": [{"kind": "section", "size": 96}, {"kind": "sentence", "size": 96, "overlap": 0}],
        "context": ["heading"],
        "retrieve.top_k": [2, 3],
    }
    workspace.write(settings)
    return workspace


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this process, through the entry point: `cli("climb", path, "--json")`."""
    from ragladder.ladder.cli import main

    # `main` sets them for its process; here they are to be as before afterwards.
    for name, value in (("RAGAS_DO_NOT_TRACK", "true"), ("HF_HUB_DISABLE_TELEMETRY", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["ragladder", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else int(done.code is not None)
        text = capfd.readouterr()
        return Ran(code, text.out, text.err)

    return run


@pytest.fixture(scope="session")
def comparable() -> Callable[[Workspace, dict[str, Any]], dict[str, Any]]:
    """A ladder.json without what may differ between equal climbs: run id, times, and where the workspace lies."""

    def stripped(value: Any, root: str) -> Any:
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if k not in ("run_id", "created") and not k.startswith("seconds")}
            return {name: stripped(child, root) for name, child in kept.items()}
        if isinstance(value, list):
            return [stripped(child, root) for child in value]
        return value.replace(root, "ROOT") if isinstance(value, str) else value

    return lambda space, ladder: stripped(ladder, str(space.root))


def _climb(root: Path, settings: dict[str, Any]) -> Workspace:
    from ragladder.ladder.climb import climb

    write_data(root)
    space = Workspace(root)
    space.write(settings)
    before = os.getcwd()
    os.chdir(root)
    try:
        climb(space.config)
    finally:
        os.chdir(before)
    return space


@pytest.fixture(scope="session")
def climbed_once(tmp_path_factory: pytest.TempPathFactory, tiny_embedder: Path) -> Workspace:
    """A workspace whose sweep is done; not to be changed."""
    return _climb(tmp_path_factory.mktemp("climbed") / "work", experiment(tiny_embedder))


@pytest.fixture
def climbed(climbed_once: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of a workspace whose sweep is done, with its cache and run; it is the working directory."""
    shutil.copytree(climbed_once.root, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return Workspace(tmp_path / "work")


def three_rungs(embedder: Path, llm: Path) -> dict[str, Any]:
    """A config with all rungs, answers by the tiny LLM."""
    settings = experiment(embedder)
    settings["name"] = "three rungs"
    # bm25 alone would leave the embedding rung nothing to do
    settings["rungs"]["retrieval"]["space"] = {"retrieve": [{"mode": "hybrid", "top_k": 2, "fetch_k": 10}]}
    settings["pipeline"]["generate"] = {
        "kind": "llm",
        "max_tokens": 4,
        "llm": {"kind": "local", "model": str(llm), "dtype": "float32"},
        "prompt": {"max_context_tokens": 300},
    }
    settings["rungs"]["embedding"] = {
        "metric": "ndcg@5",
        "train": {"epochs": 2, "batch_size": 12, "learning_rate": 3e-3, "wise_ft": [], "dtype": "fp32"},
    }
    settings["rungs"]["llm"] = {
        "prompts": {},
        "data": {"copies": 1, "top_k": 2},
        "train": {"epochs": 1, "max_length": 480, "learning_rate": 2e-2, "rank": 8, "dtype": "float32"},
    }
    return settings


@pytest.fixture(scope="session")
def all_rungs_once(tmp_path_factory: pytest.TempPathFactory, tiny_embedder: Path, tiny_llm: Path) -> Workspace:
    """A workspace that climbed all three rungs; not to be changed."""
    return _climb(tmp_path_factory.mktemp("rungs") / "work", three_rungs(tiny_embedder, tiny_llm))


@pytest.fixture
def all_rungs(all_rungs_once: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of a workspace that climbed all three rungs; it is the working directory."""
    shutil.copytree(all_rungs_once.root, tmp_path / "rungs")
    monkeypatch.chdir(tmp_path / "rungs")
    return Workspace(tmp_path / "rungs")


@pytest.fixture
def make_workspace(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, dict[str, Any]], Workspace]:
    """Makes a workspace with a config, and goes there."""

    def make(root: Path, settings: dict[str, Any]) -> Workspace:
        write_data(root)
        space = Workspace(root)
        space.write(settings)
        monkeypatch.chdir(root)
        return space

    return make
