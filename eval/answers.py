"""Simple measures of answers that need no LLM: exact match, token F1, recall, abstention, citation.

Normalisation, exact match and token F1 follow the SQuAD evaluation script (Rajpurkar et al., 2016): lower case,
punctuation and articles removed. One difference: punctuation separates tokens here where SQuAD deletes it, so that
`1.25` does not equal `125`, and `E-417` has two tokens. Recall of the reference's tokens is what Adlakha et al. found
nearest to people's verdicts of long answers ("Evaluating Correctness and Faithfulness of Instruction-Following Models
for Question Answering", 2023).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from ..core.types import Answer, Question, Score

__all__ = ["ANSWER_METRICS", "READ", "answer_recall", "answer_scores", "exact_match", "normalise_answer", "token_f1"]

ANSWER_METRICS = (
    "exact_match",
    "token_f1",
    "answer_recall",
    "answer_contained",
    "abstention_correct",
    "citation_correct",
)
"""What `answer_scores` gives for each question."""
READ = 100
"""Tokens of an answer, beyond the reference's length, in which `answer_recall` and `answer_contained` look for it:
without a limit the whole context would be the best answer."""
_PUNCTUATION = str.maketrans({c: " " for c in string.punctuation})
_CITATION = re.compile(r"\[([^\[\]]+)\]")


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation and the articles a, an, the; whitespace collapsed."""
    words = text.lower().translate(_PUNCTUATION).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def exact_match(answer: str, reference: str) -> float:
    """1 where both normalise to the same text, else 0 (SQuAD's exact match, Rajpurkar et al. 2016).

    Args:
        answer: As it was given.
        reference: As it should be.
    """
    return float(normalise_answer(answer) == normalise_answer(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised tokens, 0 to 1 (SQuAD's F1, Rajpurkar et al. 2016).

    Args:
        answer: As it was given.
        reference: As it should be.
    """
    got, wanted = normalise_answer(answer).split(), normalise_answer(reference).split()
    if not got or not wanted:
        return float(got == wanted)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 2 * common / (len(got) + len(wanted))


def answer_recall(answer: str, reference: str) -> float:
    """Share of the reference's normalised tokens that stand early in the answer, 0 to 1.

    Args:
        answer: Of it the first `READ` tokens more than the reference has are looked at.
        reference: Citations in brackets are taken out.
    """
    got, wanted = _read(answer, reference)
    if not got or not wanted:
        return float(got == wanted)
    return sum((Counter(got) & Counter(wanted)).values()) / len(wanted)


def answer_scores(questions: Sequence[Question], answers: Sequence[Answer], abstention: str) -> list[Score]:
    """Scores answers against references.

    Args:
        questions: N questions.
        answers: Their answers, in the same order; one that failed scores with its status, on every metric.
        abstention: How an answer begins that says "the documents do not tell", for instance `Not documented`.

    Returns:
        For each question the metrics of `ANSWER_METRICS`. `answer_recall`: share of the reference's tokens in the
        answer; `answer_contained`: the reference stands in it word for word; both take citations out of the reference
        and look at the first `READ` tokens more than it has. `citation_correct`: the bracketed references are those of
        the reference answer (not applicable where that has none). Without a reference answer only `abstention_correct`
        is applicable.
    """
    scores: list[Score] = []
    for question, answer in zip(questions, answers, strict=True):
        if answer.status != "ok":
            scores += [Score(question.id, name, None, answer.status, answer.detail) for name in ANSWER_METRICS]
            continue
        scores += _text_scores(question, answer)
        declined = abstains(answer.text, abstention)
        scores.append(Score(question.id, "abstention_correct", float(declined != question.answerable)))
        scores.append(_citation(question, answer))
    return scores


def _text_scores(question: Question, answer: Answer) -> list[Score]:
    measures = {
        "exact_match": exact_match,
        "token_f1": token_f1,
        "answer_recall": answer_recall,
        "answer_contained": _contained,
    }
    if not question.answer.strip():
        why = "the question has no reference answer"
        return [Score(question.id, name, None, "not_applicable", why) for name in measures]
    return [Score(question.id, name, measure(answer.text, question.answer)) for name, measure in measures.items()]


def abstains(answer: str, abstention: str) -> bool:
    """True where an answer says that the documents do not tell, or says nothing."""
    text, phrase = normalise_answer(answer), normalise_answer(abstention)
    return not text or (bool(phrase) and f"{text} ".startswith(f"{phrase} "))


def _contained(answer: str, reference: str) -> float:
    got, wanted = _read(answer, reference)
    return float(f" {' '.join(wanted)} " in f" {' '.join(got)} ")


def _read(answer: str, reference: str) -> tuple[list[str], list[str]]:
    """Tokens of the beginning of an answer, and of the reference without its citations (unless it is nothing else)."""
    wanted = (normalise_answer(_CITATION.sub(" ", reference)) or normalise_answer(reference)).split()
    return normalise_answer(answer).split()[: len(wanted) + READ], wanted


def _citation(question: Question, answer: Answer) -> Score:
    wanted = _citations(question.answer)
    if not wanted:
        return Score(question.id, "citation_correct", None, "not_applicable", "the reference answer cites nothing")
    return Score(question.id, "citation_correct", float(_citations(answer.text) == wanted))


def _citations(text: str) -> set[str]:
    return {part.strip().lower() for group in _CITATION.findall(text) for part in group.split(",")}
