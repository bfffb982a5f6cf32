"""Splits questions into train, dev and test by group, never by row, and stable when data is added.

A group is what must not stand in two splits: at least the documents that questions share. Where a group goes is decided
by a hash of the seed and of one of its members, so a group that does not change stays where it was, whatever is added.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..core.errors import ConfigError, DataError
from ..core.types import SPLITS, Question, Split
from ..core.words import counted
from ._near import near_duplicates, normal_form

__all__ = ["SplitBy", "SplitResult", "balanced_seed", "group_questions", "split_questions"]

SplitBy = Literal["document", "cluster", "tag"]
"""What must not stand in two splits, see `split_questions`."""
NEAR = 90.0
"""Similarity (0 to 100) from which questions or passages belong to one cluster."""
_SEEDS_TRIED = 100
_ENOUGH = 0.5  # of its share that each split should hold


@dataclass(frozen=True)
class SplitResult:
    """Questions with their splits.

    Attributes:
        questions: In their order, each with a split.
        groups: Number of groups in each split.
        largest: Questions in the largest group.
        moved: Questions that had another split before.
        thin: Splits with less than half of their share of the questions that the documents answer.
    """

    questions: tuple[Question, ...]
    groups: Mapping[Split, int]
    largest: int
    moved: int
    thin: tuple[Split, ...] = ()

    @property
    def counts(self) -> dict[Split, int]:
        """Questions in each split."""
        found = Counter(question.split for question in self.questions)
        return {split: found[split] for split in SPLITS}


def split_questions(
    questions: Sequence[Question],
    by: SplitBy = "document",
    shares: Sequence[float] = (0.5, 0.2, 0.3),
    seed: int = 0,
    tag: str | None = None,
    known: Sequence[Question] = (),
    complete: bool = True,
) -> SplitResult:
    """Gives each question a split.

    Args:
        questions: Splits that they have are replaced.
        by: `document`: questions that share a document, directly or through other questions, stay together; `cluster`:
            near-duplicate questions and passages as well; `tag`: questions with the same value of `tag` as well.
        shares: Of train, dev and test, expected in groups; with few groups the outcome is coarser.
        seed: Another one gives another split.
        tag: Its name, for `tag`.
        known: Questions whose splits stand. A group that holds some goes where most of them are.
        complete: Whether a split with a share and no question is an error.

    Raises:
        ConfigError: Shares that are not three numbers from 0 up with sum 1, or no tag for `tag`.
        DataError: A question lacks the tag, or a split with a share gets no question.
    """
    if len(shares) != len(SPLITS) or any(not 0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"shares must be three numbers (train, dev, test) with sum 1, got {list(shares)}")
    every = group_questions([*questions, *known], by, tag)
    groups = every[: len(questions)]
    chosen: dict[tuple[str, ...], Split] = {
        group: _place(f"{seed}:place:{_representative(group, seed)}", shares) for group in set(groups)
    }
    chosen |= _standing(every[len(questions) :], known, chosen)
    result = tuple(replace(q, split=chosen[group]) for q, group in zip(questions, groups, strict=True))
    moved = sum(old.split not in (None, new.split) for old, new in zip(questions, result, strict=True))
    where = Counter(chosen.values())
    answerable = Counter[Split | None](question.split for question in result if question.answerable)
    made = SplitResult(
        questions=result,
        groups={split: where[split] for split in SPLITS},
        largest=max(Counter(groups).values(), default=0),
        moved=moved,
        thin=tuple(split for split, met in _met(answerable, shares).items() if met < _ENOUGH),
    )
    bare = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0 and not made.counts[split]]
    if bare and complete:
        raise DataError(
            f"no question falls into {' and '.join(bare)}: of {counted(len(chosen), 'group')} the largest has "
            f"{made.largest} of {len(questions)} questions; "
            + ("try another seed, " if len(chosen) >= len(SPLITS) else "")
            + "add questions on other documents, "
            + ("" if by == "document" else "split by document, ")
            + "or give the splits yourself (key or column 'split')"
        )
    return made


def balanced_seed(
    questions: Sequence[Question],
    shares: Sequence[float] = (0.5, 0.2, 0.3),
    by: SplitBy = "document",
    enough: float = _ENOUGH,
) -> int:
    """The first seed, from 0, that leaves no split with less than enough of its share; else the one that comes nearest.

    With few groups the split of any one seed may leave dev or test next to empty. Only the questions with evidence are
    counted, as only they measure retrieval. No score is looked at, so this chooses nothing that a gate relies on.

    Args:
        questions: All of them; the seed holds for these alone, another set may want another.
        shares: Of train, dev and test.
        by: See `split_questions`; `document` or `cluster`.
        enough: Part of its share, 0 to 1, that each split should hold.
    """
    groups = group_questions(questions, by)
    sizes = Counter(group for group, question in zip(groups, questions, strict=True) if question.answerable)
    furthest = [-1.0] * _SEEDS_TRIED
    for seed in range(_SEEDS_TRIED):
        found = Counter[Split | None]()
        for group, size in sizes.items():
            found[_place(f"{seed}:place:{_representative(group, seed)}", shares)] += size
        furthest[seed] = min(_met(found, shares).values(), default=1.0)
        if furthest[seed] >= enough:
            return seed
    return max(range(_SEEDS_TRIED), key=lambda seed: furthest[seed])


def group_questions(
    questions: Sequence[Question], by: SplitBy = "document", tag: str | None = None
) -> list[tuple[str, ...]]:
    """The group of each question: the sorted keys of all that is connected with it.

    Args:
        questions: Any number.
        by: See `split_questions`.
        tag: Its name, for `tag`.

    Raises:
        ConfigError: No tag for `tag`.
        DataError: A question lacks the tag.
    """
    union = _Union()
    keys = [_keys(question) for question in questions]
    for members in keys:
        for member in members:
            union.join(members[0], member)
    if by == "tag":
        _join_tags(questions, keys, tag, union)
    elif by == "cluster":
        _join_near([question.text for question in questions], keys, union)
        passages = [(e.text, members) for q, members in zip(questions, keys, strict=True) for e in q.evidence]
        _join_near([text for text, _ in passages], [members for _, members in passages], union)
    components: dict[str, list[str]] = {}
    for key in union.parents:
        components.setdefault(union.root(key), []).append(key)
    names = {root: tuple(sorted(members)) for root, members in components.items()}
    return [names[union.root(members[0])] for members in keys]


def _met(counts: Counter[Split | None], shares: Sequence[float]) -> dict[Split, float]:
    """What each split with a share holds, in shares: 1 is what it should have."""
    total = sum(counts.values())
    return {s: counts[s] / (share * total) for s, share in zip(SPLITS, shares, strict=True) if share * total}


def _standing(
    groups: Sequence[tuple[str, ...]], known: Sequence[Question], wanted: Mapping[tuple[str, ...], Split]
) -> dict[tuple[str, ...], Split]:
    """The splits that known questions give their groups; of equally many the last one, so that test stays clean."""
    votes: dict[tuple[str, ...], Counter[Split]] = {}
    for group, question in zip(groups, known, strict=True):
        if question.split is not None and group in wanted:
            votes.setdefault(group, Counter())[question.split] += 1
    return {group: max(SPLITS, key=lambda s: (found[s], SPLITS.index(s))) for group, found in votes.items()}


def _keys(question: Question) -> list[str]:
    """What connects a question with others: its documents; its own words where it has none."""
    documents = dict.fromkeys(f"document:{evidence.doc_id}" for evidence in question.evidence)
    return list(documents) or [f"question:{normal_form(question.text) or question.id}"]


def _join_tags(questions: Sequence[Question], keys: Sequence[list[str]], tag: str | None, union: _Union) -> None:
    if not tag:
        raise ConfigError("to split by tag, say which tag")
    without = [question.id for question in questions if not question.tags.get(tag)]
    if without:
        known = sorted({name for question in questions for name in question.tags})
        raise DataError(
            f"{len(without)} of {len(questions)} questions have no tag '{tag}', the first is '{without[0]}'; "
            f"there are the tags: {', '.join(known) or 'none'}"
        )
    for question, members in zip(questions, keys, strict=True):
        union.join(f"tag:{question.tags[tag]}", members[0])


def _join_near(texts: Sequence[str], keys: Sequence[list[str]], union: _Union) -> None:
    for first, second, _ in near_duplicates(texts, NEAR):
        union.join(keys[first][0], keys[second][0])


class _Union:
    """Union-find (disjoint sets)."""

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}

    def root(self, key: str) -> str:
        self.parents.setdefault(key, key)
        while self.parents[key] != key:
            self.parents[key] = self.parents[self.parents[key]]
            key = self.parents[key]
        return key

    def join(self, first: str, second: str) -> None:
        self.parents[self.root(first)] = self.root(second)


def _representative(group: tuple[str, ...], seed: int) -> str:
    """The member that speaks for a group: with one more of k + 1 members it changes with chance 1 / (k + 1) only."""
    return min(group, key=lambda member: _hash(f"{seed}:member:{member}"))


def _place(text: str, shares: Sequence[float]) -> Split:
    position, reached = _hash(text) / 2**64, 0.0
    for split, share in zip(SPLITS, shares, strict=True):
        reached += share
        if position < reached:
            return split
    return next(split for split, share in reversed(list(zip(SPLITS, shares, strict=True))) if share > 0)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
