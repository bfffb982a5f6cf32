"""Which offline metric agrees best with people: human verdicts on five systems' answers to TriviaQA questions.

    python benchmarks/offline_metrics.py --data ../shared/data/evouna                      # all, without embeddings
    python benchmarks/offline_metrics.py --data ../shared/data/evouna --embed all-MiniLM-L6-v2

Data: EVOUNA (Wang et al., "Evaluating Open-QA Evaluation", NeurIPS 2023). A reference is a list of aliases separated by
`/`; a metric's score is its best over them, as is usual for TriviaQA, or (`--first-alias`) that of the first, which is
what a team with one reference a question has. Questions marked improper are left out. Prints a Markdown table: area
under the ROC curve, best-threshold accuracy and kappa (threshold chosen on one half of the questions, scored on the
other), with 95% intervals over questions, and kappa at the threshold 0.5. Then two figures that agreement hides:
whether the metric's means put the five systems into people's order (Kendall's tau), and its mean for an answer that
nobody wants, a list of 100 questions' reference answers with the right one somewhere in it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ragladder.core.components import Resources
from ragladder.core.types import Answer, Embedder, Question
from ragladder.embeddings.encode import SentenceTransformerSettings
from ragladder.eval._agreement import Figure, agreement, auc, kappa
from ragladder.eval.answers import answer_scores
from ragladder.eval.ragas_metrics import ragas_scores

LISTED = 100
"""Reference answers in an answer that lists everything."""
SYSTEMS = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
OWN = ("exact_match", "token_f1", "answer_recall", "answer_contained")
RAGAS = (
    "exact_match",
    "string_present",
    "rouge_score",
    "bleu_score",
    "chrf_score",
    "non_llm_string_similarity",
)


def load(
    folder: Path, rows: int | None, first_alias: bool
) -> tuple[list[Question], list[Answer], list[int], list[bool]]:
    """One question and answer for each alias; for each the number of its row, and people's verdict of each row.

    Args:
        folder: Holds `TQ.json`.
        rows: Answers to keep, drawn by question; None for all.
        first_alias: Keeps one alias.
    """
    entries = [entry for entry in json.loads((folder / "TQ.json").read_text()) if not entry["improper"]]
    if rows is not None:
        entries = random.Random(0).sample(entries, min(len(entries), max(rows // len(SYSTEMS), 2)))
    questions, answers, owners, human = [], [], [], []
    for number, entry in enumerate(entries):
        aliases = list(dict.fromkeys(a.strip() for a in entry["golden_answer"].split("/") if a.strip()))
        for system in SYSTEMS:
            for place, alias in enumerate(aliases[:1] if first_alias else aliases):
                name = f"{number}/{system}/{place}"
                questions.append(Question(name, entry["question"], alias))
                answers.append(Answer(name, entry[f"answer_{system}"].replace("\xa0", " ")))
                owners.append(len(human))
            human.append(bool(entry[f"judge_{system}"]))
    return questions, answers, owners, human


def best_scores(
    questions: Sequence[Question], answers: Sequence[Answer], owners: Sequence[int], embedder: Embedder | None
) -> dict[str, np.ndarray]:
    """Metric: best score over the aliases, one a row.

    Raises:
        RuntimeError: A metric failed on some row.
    """
    names = [*RAGAS, "semantic_similarity"] if embedder is not None else list(RAGAS)
    found = [score for score in answer_scores(questions, answers, "") if score.metric in OWN]
    found += ragas_scores(questions, [[] for _ in questions], answers, embedder=embedder, metrics=names)
    row_of = {question.id: owner for question, owner in zip(questions, owners, strict=True)}
    table = {metric: np.full(max(owners) + 1, -np.inf) for metric in dict.fromkeys(score.metric for score in found)}
    for score in found:
        if score.value is None:
            raise RuntimeError(f"{score.metric} of {score.question_id}: {score.status}, {score.detail}")
        row = row_of[score.question_id]
        table[score.metric][row] = max(table[score.metric][row], score.value)
    return table


def listed(questions: Sequence[Question], owners: Sequence[int], sample: int) -> tuple[list[Question], list[Answer]]:
    """Some questions, answered by a list of LISTED reference answers, the right one in a random place.

    Args:
        questions: One a row and alias, as `load` gives them.
        owners: The row of each.
        sample: How many to draw.
    """
    draw = random.Random(1)
    first = [n for n, row in enumerate(owners) if row % len(SYSTEMS) == 0 and (n == 0 or owners[n - 1] != row)]
    chosen = draw.sample(first, min(sample, len(first)))
    answers = []
    for place in chosen:
        texts = [questions[other].answer for other in draw.sample(first, min(LISTED, len(first))) if other != place]
        texts.insert(draw.randrange(len(texts) + 1), questions[place].answer)
        answers.append(Answer(questions[place].id, ", ".join(texts)))
    return [questions[place] for place in chosen], answers


def best_threshold(scores: np.ndarray, human: np.ndarray) -> float:
    """Where accepting from a score on agrees most often with people; the midpoint between two scores met."""
    met = np.unique(scores)
    cuts = np.concatenate([met[:1], (met[1:] + met[:-1]) / 2, [np.inf]])
    ordered = np.sort(scores[human]), np.sort(scores[~human])
    accepted = len(ordered[0]) - np.searchsorted(ordered[0], cuts)
    rejected = np.searchsorted(ordered[1], cuts)
    return float(cuts[np.argmax(accepted + rejected)])


def crossed_verdicts(scores: np.ndarray, human: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, float]:
    """Verdicts by thresholds chosen on the other half of the questions; and the threshold of all, to be used."""
    passed = np.empty(len(scores), dtype=bool)
    for half in (0, 1):
        here = groups % 2 == half
        passed[here] = scores[here] >= best_threshold(scores[~here], human[~here])
    return passed, best_threshold(scores, human)


def table(scores: dict[str, np.ndarray], verdicts: Sequence[bool], lists: dict[str, np.ndarray]) -> str:
    """The Markdown table, best area first; `lists` are the scores of the answers that `listed` makes."""
    from scipy.stats import kendalltau

    human = np.array(verdicts)
    groups = np.arange(len(human)) // len(SYSTEMS)
    labels = groups.tolist()
    lines = []
    for metric, values in scores.items():
        area = auc(values, human, labels)
        passed, threshold = crossed_verdicts(values, human, groups)
        figures = (area, agreement(passed, human, labels), kappa(passed, human, labels))
        cells = [shown(figure) for figure in figures] + [f"{threshold:.2f}", shown(kappa(values >= 0.5, human, labels))]
        by_system = [(values[n :: len(SYSTEMS)].mean(), human[n :: len(SYSTEMS)].mean()) for n in range(len(SYSTEMS))]
        cells += [f"{kendalltau(*zip(*by_system, strict=True)).statistic:+.1f}", f"{lists[metric].mean():.2f}"]
        lines.append((area.value or 0.0, f"| `{metric}` | " + " | ".join(cells) + " |"))
    head = (
        "| metric | ROC-AUC | accuracy, best threshold | kappa, best threshold | best threshold | kappa at 0.5 "
        "| systems' order | mean of a list |"
    )
    ranked = [line for _, line in sorted(lines, key=lambda line: -line[0])]
    return "\n".join([head, "|" + "---|" * 8, *ranked])


def shown(figure: Figure) -> str:
    """A figure with its interval."""
    if figure.value is None:
        return "none"
    interval = "" if figure.low is None or figure.high is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.value:.3f}{interval}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with TQ.json")
    parser.add_argument("--rows", type=int, help="answers to look at; all by default")
    parser.add_argument("--embed", help="embedding model for ragas/semantic_similarity; left out without")
    parser.add_argument("--first-alias", action="store_true", help="one reference a question")
    options = parser.parse_args()
    questions, answers, owners, human = load(options.data, options.rows, options.first_alias)
    embedder = SentenceTransformerSettings(model=options.embed).build(Resources()) if options.embed else None
    scores = best_scores(questions, answers, owners, embedder)
    asked, lists = listed(questions, owners, 200)
    of_lists = best_scores(asked, lists, range(len(asked)), embedder)
    share = sum(human) / len(human)
    print(f"{len(human)} answers to {len(human) // len(SYSTEMS)} questions, {share:.1%} right by people\n")
    print(table(scores, human, of_lists))


if __name__ == "__main__":
    main()
