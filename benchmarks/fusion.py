"""How long settings past the search take: fusion weights, normalisations, MMR; one search serves them all.

    python benchmarks/fusion.py

300 questions, 100 chunks fetched a channel, of 5,000 chunks; each line is the best of five.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from ragladder.core.types import Chunk
from ragladder.rag.retrieve import Corpus, RetrieveSettings, align, finish, fuse, to_hits

WEIGHTS, QUESTIONS, FETCHED, CHUNKS, DIMENSION = 11, 300, 100, 5000, 384


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    """Prints seconds."""
    rng = np.random.default_rng(0)
    positions = np.stack([rng.permutation(CHUNKS)[:FETCHED] for _ in range(2 * QUESTIONS)])
    scores = -np.sort(-rng.random((2 * QUESTIONS, FETCHED)), axis=1)
    found = align((scores[:QUESTIONS], positions[:QUESTIONS]), (scores[QUESTIONS:], positions[QUESTIONS:]))
    vectors = rng.normal(size=(CHUNKS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    corpus = Corpus([Chunk(f"d{n // 10}", n, n + 1, "x") for n in range(CHUNKS)])

    def weighted(how: Sequence[str]) -> list[RetrieveSettings]:
        common = {"mode": "hybrid", "fusion": "weighted", "fetch_k": FETCHED}
        steps = [step / (WEIGHTS - 1) for step in range(WEIGHTS)]
        return [RetrieveSettings.model_validate({**common, "weight": w, "normalise": h}) for h in how for w in steps]

    for how in (["minmax"], ["zscore"], ["minmax", "zscore"]):
        chosen = weighted(how)
        seconds = best(lambda chosen=chosen: [fuse(found, one) for one in chosen])
        print(f"{WEIGHTS} weights x {QUESTIONS} questions x {' + '.join(how)}: {seconds:.3f} s")
    half = weighted(["minmax"])[5]
    hits = to_hits(*fuse(found, half, limit=50), corpus.chunks)
    diverse = half.model_copy(update={"mmr": 0.5})
    print(
        f"MMR over 50 hits x {QUESTIONS} questions: {best(lambda: finish(hits, diverse, corpus, None, vectors)):.3f} s"
    )


if __name__ == "__main__":
    main()
