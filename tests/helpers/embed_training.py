"""A training of the tiny model in a second or two: twelve pairs, and how far it tells them apart."""

from __future__ import annotations

import numpy as np
from ragladder.core.components import Resources
from ragladder.embeddings.encode import SentenceTransformerSettings
from ragladder.embeddings.pairs import Pair
from ragladder.embeddings.train import EmbedTrainSettings, Encode

NAMES = "locker depot parcel battery robot invoice door code button lamp courier van"
PAIRS = [Pair(f"q{n}", f"how long {word}", f"the amber {word} is on", f"c{n}") for n, word in enumerate(NAMES.split())]
QUICK = {"epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "dtype": "fp32", "patience": None, "freeze_layers": 0}


def margin(encode: Encode) -> float:
    """How much nearer the right text is than the mean of all."""
    scores = encode([p.query for p in PAIRS], "query") @ encode([p.positive for p in PAIRS], "document").T
    return float(np.mean(np.diag(scores)) - np.mean(scores))


def settings(**values: object) -> EmbedTrainSettings:
    return EmbedTrainSettings.model_validate({**QUICK, **values})


def vectors(folder: str) -> np.ndarray:
    embedder = SentenceTransformerSettings(model=folder).build(Resources())
    return embedder.encode([p.query for p in PAIRS], "query")
