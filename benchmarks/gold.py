"""Prints how the time of finding gold evidence grows with the corpus.

    python benchmarks/gold.py --documents 1000 10000 100000

A synthetic corpus of documents of about 3,000 characters, one question a document; of each ten passages six stand there
exactly, three are looked up on letters and digits alone (other line breaks and quotes), one fuzzily (a letter changed).
`locate` knows each passage's document; `find` looks for the document as well, as an import of ragas or CSV data does;
`near` looks for near-duplicates among the questions, as the audit does. Where the time a document does not grow with
the number of documents, the cost is linear.
"""

from __future__ import annotations

import argparse
import random
import resource
import time

from ragladder.core.types import Document, Evidence, Question
from ragladder.eval._finder import PassageFinder
from ragladder.eval._near import near_duplicates
from ragladder.eval.gold import locate


def corpus(count: int) -> tuple[list[Document], list[Question]]:
    """Documents and a question on each."""
    generator = random.Random(count)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 10))) for _ in range(20_000)]
    documents, questions = [], []
    for number in range(count):
        sentences = [
            " ".join(generator.choices(words, k=14)).capitalize() + (" „so“." if n % 9 == 0 else ".") for n in range(33)
        ]
        passage = sentences[generator.randrange(33)]
        kind = number % 10
        if 6 <= kind < 9:
            passage = passage.replace(" ", "\n", 3).upper()
        elif kind == 9:
            passage = passage[:30] + "#x" + passage[31:]
        key = f"d{number}.txt"
        documents.append(Document(key, "\n\n".join(sentences), key, key))
        asked = "What about " + " ".join(generator.choices(words, k=8)) + "?"
        questions.append(Question(f"q{number}", asked, "", (Evidence(key, passage),)))
    return documents, questions


def main() -> None:
    """Measures and prints a row a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, nargs="+", default=[1000, 10_000])
    print(f"{'documents':>10} {'locate s':>9} {'lost':>5} {'find s':>9} {'missed':>6} {'near s':>9} {'peak MiB':>9}")
    for count in parser.parse_args().documents:
        documents, questions = corpus(count)
        started = time.perf_counter()
        gold = locate(questions, documents)
        located = time.perf_counter() - started
        lost = sum(not span.found for spans in gold.values() for span in spans)
        # a changed letter is found by likeness only, for which the document must be known
        passages = [q.evidence[0].text for n, q in enumerate(questions) if n % 10 != 9]
        started = time.perf_counter()
        finder = PassageFinder({document.id: document.text for document in documents}, passages)
        missed = sum(not finder.documents(passage) for passage in passages)
        found = time.perf_counter() - started
        started = time.perf_counter()
        near_duplicates([question.text for question in questions], 92)
        near = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{count:>10} {located:>9.2f} {lost:>5} {found:>9.2f} {missed:>6} {near:>9.2f} {peak:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
