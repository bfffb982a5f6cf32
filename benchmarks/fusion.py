"""How long fusion settings take once a search is done: 11 weights, 300 questions, 100 chunks fetched a channel.

    python benchmarks/fusion.py
"""

from __future__ import annotations

import time

import numpy as np
from ragladder.rag.retrieve import RetrieveSettings, align, fuse

WEIGHTS, QUESTIONS, FETCHED, CHUNKS = 11, 300, 100, 5000


def main() -> None:
    """Prints the seconds of fusing all weights, best of five."""
    rng = np.random.default_rng(0)
    positions = np.stack([rng.permutation(CHUNKS)[:FETCHED] for _ in range(2 * QUESTIONS)])
    scores = -np.sort(-rng.random((2 * QUESTIONS, FETCHED)), axis=1)
    found = align((scores[:QUESTIONS], positions[:QUESTIONS]), (scores[QUESTIONS:], positions[QUESTIONS:]))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        for step in range(WEIGHTS):
            settings = RetrieveSettings(mode="hybrid", fusion="weighted", weight=step / 10, fetch_k=FETCHED)
            fuse(found, settings)
        seconds.append(time.perf_counter() - started)
    print(f"{WEIGHTS} weights x {QUESTIONS} questions: {min(seconds):.3f} s")


if __name__ == "__main__":
    main()
