"""A local causal language model, on tiny models that the tests make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ragladder.core.chat import ChatRequest, LocalChatSettings, Message
from ragladder.core.chat.adapters import note_base
from ragladder.core.components import Resources
from ragladder.core.devices import fingerprint
from ragladder.core.errors import DataError
from ragladder.core.quiet import quiet_libraries

WORDS = [f"w{number}" for number in range(60)]


def make_tokenizer(folder: Path, pad: bool = True) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<unk>", "</s>", "<pad>", "<bos>", "\n", *WORDS])}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special: dict[str, str] = {"unk_token": "<unk>", "eos_token": "</s>", "bos_token": "<bos>"}
    if pad:
        special["pad_token"] = "<pad>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(folder: Path, seed: int = 0, pad: bool = True, hidden: int = 32) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(folder, pad)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.8,
        bos_token_id=3,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_rng_state(state)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(cache_dir=tmp_path / "cache")


def ask(text: str, **others: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **{"max_tokens": 8, **others})


def prompts(count: int) -> list[ChatRequest]:
    return [ask(" ".join(WORDS[(number * 7 + i) % 60] for i in range(3 + number % 5))) for number in range(count)]


def test_answers_do_not_depend_on_the_batch(model: Path, resources: Resources) -> None:
    requests = prompts(11)
    alone = LocalChatSettings(model=str(model), batch_size=1).build(resources).complete(requests)
    together = LocalChatSettings(model=str(model), batch_size=8).build(resources).complete(requests)
    assert [one.text for one in alone] == [one.text for one in together]
    assert len({one.text for one in alone}) > 5, "the tiny model must tell prompts apart for this test to mean anything"
    assert all(one.status == "ok" and one.prompt_tokens in range(3, 8) and one.seconds > 0 for one in together)


def test_greedy_decoding_is_what_the_model_says_token_by_token(model: Path, resources: Resources) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    ids = tokenizer("w1 w2 w3", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        for _ in range(8):
            following = network(input_ids=ids).logits[0, -1].argmax()
            ids = torch.cat([ids, following[None, None]], dim=1)
    written = ids[0, 3:].tolist()
    written = written[: written.index(1)] if 1 in written else written
    expected = tokenizer.decode([token for token in written if token > 3])
    got = LocalChatSettings(model=str(model)).build(resources).complete([ask("w1 w2 w3"), ask(" ".join(WORDS[:20]))])
    assert got[0].text == expected.strip()


def test_sampling_repeats_by_seed_and_not_by_batch(model: Path, resources: Resources) -> None:
    chat = LocalChatSettings(model=str(model), batch_size=4).build(resources)
    one = [ask("w1 w2", temperature=1.5, seed=3, repeat=n) for n in range(4)]
    first = [c.text for c in chat.complete(one)]
    alone = [chat.complete([request])[0].text for request in one]
    assert first == alone
    assert len(set(first)) > 1
    greedy = chat.complete([ask("w1 w2")])[0].text
    assert chat.complete([ask("w1 w2", temperature=1e-4, seed=3)])[0].text == greedy


def test_too_long_a_prompt_is_a_status_and_spoils_no_other(model: Path, resources: Resources) -> None:
    long = ask(" ".join(WORDS * 3))
    chat = LocalChatSettings(model=str(model)).build(resources)
    done = chat.complete([ask("w1"), long, ask("w2")])
    assert [one.status for one in done] == ["ok", "generation_error", "ok"]
    assert "180" in done[1].detail and "128" in done[1].detail and done[1].prompt_tokens == 180
    short = LocalChatSettings(model=str(model), max_length=16).build(resources)
    assert short.complete([ask(" ".join(WORDS[:9]))])[0].status == "generation_error"
    assert short.complete([ask(" ".join(WORDS[:8]))])[0].status == "ok"
    assert short.complete([]) == []


def test_stop_texts_cut_the_answer(model: Path, resources: Resources) -> None:
    chat = LocalChatSettings(model=str(model)).build(resources)
    whole = next(one.text for one in chat.complete(prompts(11)) if len(one.text.split()) >= 3)
    request = next(r for r in prompts(11) if chat.complete([r])[0].text == whole)
    stop = whole.split()[1]
    cut = chat.complete([ask(request.messages[0].content, stop=(stop,))])[0]
    assert cut.text == whole[: whole.index(stop)].strip()
    assert cut.completion_tokens < 8


def test_no_chat_template_is_said_and_a_template_is_used(
    model: Path, resources: Resources, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = LocalChatSettings(model=str(model)).build(resources).complete([ask("w1 w2"), ask("w5")])
    assert caplog.text.count("no chat template") == 1
    templated = tmp_path / "templated"
    shutil.copytree(model, templated)
    (templated / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} w9 w9{% endfor %}")
    done = LocalChatSettings(model=str(templated)).build(resources).complete([ask("w1 w2")])
    joined = LocalChatSettings(model=str(model)).build(resources).complete([ask("w1 w2 w9 w9")])
    assert done[0].prompt_tokens == 4 and plain[0].prompt_tokens == 2
    assert done[0].text == joined[0].text
    one, other = (LocalChatSettings(model=str(folder)).identity(resources) for folder in (model, templated))
    assert one["weights"] != other["weights"], "the template determines the prompt, so it is part of the identity"


def test_a_missing_pad_token_becomes_eos(tmp_path: Path, resources: Resources) -> None:
    folder = make_model(tmp_path / "nopad", pad=False)
    done = LocalChatSettings(model=str(folder)).build(resources).complete(prompts(5))
    assert all(one.status == "ok" for one in done)


def test_identity_follows_the_weights_not_the_place(model: Path, resources: Resources, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    one = LocalChatSettings(model=str(model), batch_size=1).identity(resources)
    assert one == LocalChatSettings(model=str(moved), batch_size=9).identity(resources)
    other = make_model(tmp_path / "other", seed=1)
    assert one != LocalChatSettings(model=str(other)).identity(resources)
    make_model(moved, seed=2)
    assert one != LocalChatSettings(model=str(moved)).identity(resources), "a remembered hash must not outlive the file"


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft on this transformers
def test_an_adapter_changes_answers_and_identity(model: Path, resources: Resources, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    state = torch.get_rng_state()
    torch.manual_seed(5)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(tmp_path / "lora")
    torch.set_rng_state(state)
    plain, tuned = (LocalChatSettings(model=str(model), adapter=adapter) for adapter in (None, str(tmp_path / "lora")))
    assert plain.identity(resources) != tuned.identity(resources)
    before, after = (s.build(resources).complete(prompts(6)) for s in (plain, tuned))
    assert [one.text for one in before] != [one.text for one in after]


def test_what_is_no_model_says_what_was_looked_for(tmp_path: Path, resources: Resources) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"config\.json"):
        LocalChatSettings(model=str(tmp_path / "empty")).build(resources)
    (tmp_path / "empty/config.json").write_text("{}")
    with pytest.raises(DataError, match="safetensors"):
        LocalChatSettings(model=str(tmp_path / "empty")).identity(resources)
    with pytest.raises(DataError, match=r"llm\.model.*nowhere"):
        LocalChatSettings(model="./nowhere").build(resources)
    with pytest.raises(DataError, match=r"adapter_config\.json"):
        (tmp_path / "empty/model.safetensors").write_bytes(b"")
        LocalChatSettings(model=str(tmp_path / "empty"), adapter=str(tmp_path / "empty")).build(resources)


def test_broken_files_are_a_data_error_and_a_probe_says_no(model: Path, tmp_path: Path, resources: Resources) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    chat = LocalChatSettings(model=str(broken)).build(resources)
    with pytest.raises(DataError, match="cannot be loaded"):
        chat.complete([ask("w1")])
    (broken / "config.json").write_text("{")
    assert not chat.probe().ok
    good = LocalChatSettings(model=str(model)).build(resources)
    assert good.probe().ok and good.count_tokens("w1 w2 w3") == 3


def make_adapter(model: Path, folder: Path, **others: Any) -> Path:
    """A LoRA adapter of a model, as peft alone writes it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(5)
        settings = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM"}
        config = LoraConfig(**{**settings, **others})
        get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


def test_an_adapter_of_another_base_is_refused_before_anything_is_loaded(
    model: Path, resources: Resources, tmp_path: Path
) -> None:
    adapter = make_adapter(model, tmp_path / "lora")
    note_base(adapter, model)
    settings = LocalChatSettings(model=str(model), adapter=str(adapter))
    assert settings.build(resources).complete([ask("w1")])[0].status == "ok"
    # A template may be added to a base later, and the base may be moved.
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    (moved / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    LocalChatSettings(model=str(moved), adapter=str(adapter)).build(resources)
    other = make_model(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match=r"llm\.adapter: .* was trained on another base than .*other.*train an adapter"):
        LocalChatSettings(model=str(other), adapter=str(adapter)).build(resources)
    # Adapters of earlier versions noted all files of their base.
    (adapter / "base.json").write_text(json.dumps({"fingerprint": fingerprint(model)}))
    settings.build(resources)
    with pytest.raises(DataError, match="another base"):
        LocalChatSettings(model=str(other), adapter=str(adapter)).build(resources)
    for broken in ("{", "[]", "{}"):
        (adapter / "base.json").write_text(broken)
        with pytest.raises(DataError, match=r"base\.json is no note of a base"):
            settings.build(resources)


def test_an_adapter_of_other_tools_is_held_to_its_layers(
    model: Path, resources: Resources, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = make_adapter(model, tmp_path / "lora")
    LocalChatSettings(model=str(model), adapter=str(adapter)).build(resources)
    assert "names" not in caplog.text
    renamed = tmp_path / "renamed"
    shutil.copytree(model, renamed)
    LocalChatSettings(model=str(renamed), adapter=str(adapter)).build(resources)
    assert f"the adapter lora names '{model}' as its base" in caplog.text
    wide = make_model(tmp_path / "wide", hidden=48)
    with pytest.raises(DataError, match=r"llm\.adapter: .*lora does not fit the model.*another base") as error:
        LocalChatSettings(model=str(wide), adapter=str(adapter)).build(resources).complete([ask("w1")])
    assert "\n" not in str(error.value)
    # Fewer layers than the adapter's config says: peft would fill them with new weights and go on.
    few = make_adapter(model, tmp_path / "few", target_modules=["q_proj"])
    (few / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    with pytest.raises(DataError, match="does not fit the model.*missing adapter keys"):
        LocalChatSettings(model=str(model), adapter=str(few)).build(resources).complete([ask("w1")])
