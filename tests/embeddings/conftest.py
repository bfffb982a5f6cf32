"""A tiny sentence transformer with random weights, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXT = (
    "locker depot parcel battery robot invoice door code reset hold button amber lamp seconds courier van route "
    "the a is of to how long what where when do i my for in on press wait until turns"
)
WORDS = TEXT.split()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT of two layers and width 32, mean pooling and normalisation."""
    import torch
    from ragladder.core.quiet import quiet_libraries
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("tiny")
    letters = [chr(c) for c in range(97, 123)] + [str(n) for n in range(10)]
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokens += [t for t in letters if t not in tokens] + [f"##{t}" for t in letters]
    bert = root / "bert"
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join(tokens))
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(0)
        BertTokenizerFast(vocab={token: n for n, token in enumerate(tokens)}, model_max_length=64).save_pretrained(bert)
        config = BertConfig(
            vocab_size=len(tokens),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(bert)
        transformer = Transformer(str(bert))
        model = SentenceTransformer(modules=[transformer, Pooling(32, "mean"), Normalize()], device="cpu")
        model.save_pretrained(str(root / "st"), create_model_card=False)
    return root / "st"
