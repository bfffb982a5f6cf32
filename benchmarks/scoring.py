"""Time to score questions with every retrieval metric, on made-up documents, chunks and evidence.

    python benchmarks/scoring.py                      # 10,000 questions, 10 retrieved chunks each
    python benchmarks/scoring.py --questions 1000

Prints a Markdown table, wall-clock and CPU seconds: the span metrics at k 1, 3, 5 and 10 with two budgets,
precision-omega over the whole chunking and tokens of the context; the document metrics; and the means with their
intervals. The best of `--repeats` runs, one process, one thread. A third of the questions have their evidence among the
retrieved chunks.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ragladder.core.types import Chunk, Evidence, Question
from ragladder.eval.gold import Gold, GoldSpan
from ragladder.eval.ir import document_scores
from ragladder.eval.retrieval import retrieval_scores
from ragladder.ladder.scoring import clusters, estimates
from ragladder.rag.chunk import token_counter

T = TypeVar("T")
KS = (1, 3, 5, 10)
BUDGETS = (2000, 8000)
DOCUMENTS = 500
CHUNKS = 40
LENGTH = 1000
"""Documents, chunks a document, characters a chunk."""


def made_up(count: int, retrieved: int, seed: int) -> tuple[list[Question], list[list[Chunk]], Gold, list[Chunk]]:
    """Questions, retrieved chunks, gold spans and the whole chunking.

    Args:
        count: Questions.
        retrieved: Chunks each.
        seed: Of all that is random.
    """
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]
    step = LENGTH * 4 // 5  # chunks overlap by a fifth
    chunks = [
        Chunk(f"d{d}", n * step, n * step + LENGTH, " ".join(draw.choices(words, k=200))[:LENGTH].ljust(LENGTH, "."))
        for d in range(DOCUMENTS)
        for n in range(CHUNKS)
    ]
    questions, hits, gold = [], [], {}
    for number in range(count):
        spans = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            start = draw.randrange(step * CHUNKS - 300)
            length = draw.randint(40, 300)
            spans.append(GoldSpan(f"d{draw.randrange(DOCUMENTS)}", start, start + length, 100.0, "exact", length))
        name = f"q{number}"
        gold[name] = tuple(spans)
        questions.append(Question(name, "?", "!", tuple(Evidence(span.doc_id, "text") for span in spans)))
        found = draw.sample(chunks, retrieved)
        if draw.random() < 1 / 3:
            place = int(spans[0].doc_id[1:]) * CHUNKS + min(spans[0].start // step, CHUNKS - 1)
            found[draw.randrange(retrieved)] = chunks[place]
        hits.append(found)
    return questions, hits, gold, chunks


def best_of(repeats: int, work: Callable[[], T]) -> tuple[float, float, T]:
    """Wall-clock and CPU seconds of the fastest runs, and what the last gave."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors), result


def rows(
    questions: Sequence[Question], hits: Sequence[Sequence[Chunk]], gold: Gold, chunks: Sequence[Chunk], repeats: int
) -> list[tuple[str, int, float, float]]:
    """What was done, how many metrics it gave, wall-clock and CPU seconds."""
    count = token_counter("words").count
    *spans, first = best_of(repeats, lambda: retrieval_scores(questions, hits, gold, KS, chunks, BUDGETS, count))
    *documents, second = best_of(repeats, lambda: document_scores(questions, hits, KS))
    scores = [*first, *second]
    *took, means = best_of(1, lambda: estimates(scores, clusters(questions), seed=0))
    metrics = [len(found) // len(questions) for found in (first, second)]
    return [
        ("spans, precision-omega, tokens", metrics[0], *spans),
        ("documents", metrics[1], *documents),
        ("scores of all questions together", sum(metrics), spans[0] + documents[0], spans[1] + documents[1]),
        ("means and intervals", len(means), *took),
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--retrieved", type=int, default=10, help="chunks a question")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    data = made_up(options.questions, options.retrieved, seed=0)
    print(f"{options.questions:,} questions, {options.retrieved} chunks each, {len(data[3]):,} chunks in all\n")
    print("| what | metrics | seconds | CPU seconds |\n|---|---|---|---|")
    for what, metrics, wall, processor in rows(*data, max(options.repeats, 1)):
        print(f"| {what} | {metrics} | {wall:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
