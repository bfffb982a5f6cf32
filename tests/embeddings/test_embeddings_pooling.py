"""Models without pooling: a plain transformer gets one, which is said; what gives no text vector is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embed_training import PAIRS, margin, settings
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.progress import Reporter
from ragladder.embeddings.encode import SentenceTransformerSettings, StaticSettings
from ragladder.embeddings.probe import estimate_embedding
from ragladder.embeddings.train import train_embedder


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a transformer alone."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("plain")
    transformer: Any = SentenceTransformer(str(tiny_model), device="cpu")[0]
    transformer.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def bare(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a SentenceTransformer whose only module is a transformer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    folder = tmp_path_factory.mktemp("bare")
    model = SentenceTransformer(modules=[Transformer(str(plain))], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def test_a_model_without_pooling_is_refused_wherever_it_is_used(bare: Path, tmp_path: Path) -> None:
    here = Resources(cache_dir=tmp_path)
    with pytest.raises(DataError, match="has no pooling"):
        train_embedder(bare, PAIRS, margin, settings(), tmp_path / "a", here)
    with pytest.raises(DataError, match="has no pooling"):
        estimate_embedding(bare, PAIRS, settings(), here)
    with pytest.raises(DataError, match="has no pooling"):
        SentenceTransformerSettings(model=str(bare)).build(here)
    with pytest.raises(DataError, match="has no pooling"):
        StaticSettings(model=str(bare), dimension=8).build(here)


def test_mean_pooling_of_a_plain_transformer_is_said(plain: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert "mean pooling is taken" in SentenceTransformerSettings(model=str(plain)).build(Resources()).note
    assert SentenceTransformerSettings(model=str(tiny_model)).build(Resources()).note == ""
    log = tmp_path / "log"
    wanted = settings(epochs=1, wise_ft=[])
    train_embedder(plain, PAIRS, margin, wanted, tmp_path / "b", Resources(), Reporter(quiet=True, log=log))
    assert "mean pooling is taken" in log.read_text()


def test_a_module_of_ones_own_may_pool(tiny_model: Path, tmp_path: Path) -> None:
    """What comes out of the last module counts, not what it is called."""
    import torch
    from ragladder.embeddings.models import load_model
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer

    first: Any = SentenceTransformer(str(tiny_model), device="cpu")[0]
    first.save(str(tmp_path / "plain"))
    tokens = Dense(32, 32, module_input_name="token_embeddings", module_output_name="sentence_embedding")
    model = SentenceTransformer(modules=[Transformer(str(tmp_path / "plain")), tokens], device="cpu")
    model.save_pretrained(str(tmp_path / "own"), create_model_card=False)
    with torch.inference_mode():
        found = load_model(tmp_path / "own")
    assert [type(module).__name__ for module in found] == ["Transformer", "Dense"]
