"""Losses: what each needs of the pairs, the rows it is trained on, and the making of it from sentence-transformers.

loss                 a row is                              other texts of the batch
multiple_negatives   query, positive, its negatives        are negatives
symmetric            the same                              are negatives, of the positive too
gist                 the same                              are negatives where the guide agrees
triplet              query, positive, one negative         say nothing
cosent, angle        query, passage, score                 are ordered against each other
margin_mse           query, positive, negatives, scores    say nothing
distill_kl           the same                              say nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import ConfigError, DataError
from .pairs import Pair
from .train_settings import DISTILLATION, GIST_NEGATIVES, IN_BATCH, NEEDS_NEGATIVES, SCORED, EmbedTrainSettings

__all__ = ["build_loss", "check_pairs", "teach", "training_rows", "usable"]

LABEL = "label"


def usable(pairs: Sequence[Pair], settings: EmbedTrainSettings) -> list[Pair]:
    """Pairs that the loss can learn from: all, or those with a negative where the loss needs one."""
    return [pair for pair in pairs if pair.negatives] if settings.loss in NEEDS_NEGATIVES else list(pairs)


def check_pairs(pairs: Sequence[Pair], settings: EmbedTrainSettings) -> None:
    """Checks that there is something to learn.

    Args:
        pairs: As they are trained on, mined negatives among them.
        settings: Whose loss.

    Raises:
        DataError: There are fewer than two usable pairs, all are alike, or what the loss needs is missing.
    """
    name = settings.loss
    found = usable(pairs, settings)
    if len(found) < 2:
        more = f", {len(found)} of them with a negative, which the loss {name} needs" if len(found) < len(pairs) else ""
        hint = "set hard_negatives, or give triplets" if more else "add train questions, or files of pairs"
        raise DataError(
            f"train embedder: {len(pairs)} training pairs{more}; a contrastive loss needs two at the least: {hint}"
        )
    if name not in SCORED and any(len(pair.scores) == 1 for pair in found):
        raise DataError(
            f"train embedder: there are scored pairs, but the loss {name} takes every pair as a good one; set loss to "
            "cosent or angle, or leave the scores out"
        )
    if name == "gist" and settings.mini_batch_size is None and any(len(pair.negatives) > 1 for pair in found):
        raise DataError(f"train embedder: there are pairs with several negatives, but {GIST_NEGATIVES}")
    if name in IN_BATCH and not any(pair.negatives for pair in found):
        same = "questions" if len({pair.query for pair in found}) < 2 else ""
        same = same or ("passages" if len({pair.positive for pair in found}) < 2 else "")
        if same:
            raise DataError(
                f"train embedder: the {same} of all {len(found)} pairs are the same text, so no pair can be a negative "
                "of another; check where the pairs come from, or set hard_negatives"
            )
    if name in SCORED and len({label for *_, label in _scored_rows(found)}) < 2:
        raise DataError(
            f"train embedder: the loss {name} learns an order of scores, but all pairs have the same; give scored "
            "pairs or set hard_negatives (a positive then counts 1, a negative 0)"
        )
    if name in DISTILLATION and settings.teacher is None and not all(_is_taught(pair) for pair in found):
        raise DataError(
            f"train embedder: the loss {name} learns a teacher's scores, but not every pair has them; name a "
            "cross-encoder as `teacher`"
        )


def teach(pairs: Sequence[Pair], teacher: Any, batch_size: int = 32) -> list[Pair]:
    """Pairs with the scores that a cross-encoder gives their texts; those that have scores already keep them.

    Args:
        pairs: With negatives.
        teacher: A `CrossEncoder`; its raw scores (logits) are taken.
        batch_size: Speed only.
    """
    import torch

    asked = [pair for pair in pairs if not _is_taught(pair)]
    inputs = [(pair.query, text) for pair in asked for text in (pair.positive, *pair.negatives)]
    if not inputs:
        return list(pairs)
    raw = teacher.predict(inputs, batch_size=batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    scores = iter([float(score) for score in raw])
    return [
        pair if _is_taught(pair) else replace(pair, scores=tuple(next(scores) for _ in range(len(pair.negatives) + 1)))
        for pair in pairs
    ]


def _is_taught(pair: Pair) -> bool:
    return len(pair.scores) == len(pair.negatives) + 1


def training_rows(pairs: Sequence[Pair], settings: EmbedTrainSettings) -> dict[str, Any]:
    """Datasets by name: one for each number of negatives, as the rows of one must have the same columns.

    Args:
        pairs: Usable ones, checked.
        settings: Whose loss.
    """
    from datasets import Dataset

    if settings.loss in SCORED:
        rows = _scored_rows(pairs)
        columns = {"anchor": [r[0] for r in rows], "positive": [r[1] for r in rows], LABEL: [r[2] for r in rows]}
        return {"scored": Dataset.from_dict(columns)}
    if settings.loss == "triplet":
        triples = [(pair.query, pair.positive, text) for pair in pairs for text in pair.negatives]
        names = ("anchor", "positive", "negative_1")
        return {"triplets": Dataset.from_dict({name: [t[n] for t in triples] for n, name in enumerate(names)})}
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(len(pair.negatives), []).append(pair)
    datasets = {}
    for count, group in sorted(groups.items()):
        columns: dict[str, list[Any]] = {
            "anchor": [pair.query for pair in group],
            "positive": [pair.positive for pair in group],
        }
        columns |= {f"negative_{n + 1}": [pair.negatives[n] for pair in group] for n in range(count)}
        if settings.loss in DISTILLATION:
            columns[LABEL] = [list(pair.scores) for pair in group]
        datasets[f"negatives_{count}"] = Dataset.from_dict(columns)
    return datasets


def _scored_rows(pairs: Sequence[Pair]) -> list[tuple[str, str, float]]:
    """Query, passage and score: as given, else 1 for a positive and 0 for a negative."""
    rows = []
    for pair in pairs:
        scores = pair.scores or (1.0, *(0.0 for _ in pair.negatives))
        texts = (pair.positive, *pair.negatives)
        rows += [(pair.query, text, float(score)) for text, score in zip(texts, scores, strict=False)]
    return rows


def build_loss(model: Any, settings: EmbedTrainSettings, guide: Any = None, gather: bool = False) -> Any:
    """The loss as a module of sentence-transformers.

    Args:
        model: The `SentenceTransformer` in training.
        settings: Which loss.
        guide: A `SentenceTransformer`; needed for gist.
        gather: Take the texts of all processes' batches as negatives (`IN_BATCH` losses; the others look at a
            process's own rows alone).

    Raises:
        ConfigError: The loss does not suit the model, or a Matryoshka dimension exceeds the model's.
    """
    from sentence_transformers.sentence_transformer import losses

    try:
        loss = _plain_loss(model, settings, guide, gather)
    except ValueError as error:  # a static model with gist or GradCache, say
        small = "" if settings.mini_batch_size is None else f" with mini_batch_size {settings.mini_batch_size}"
        raise ConfigError(f"the loss {settings.loss}{small} does not suit this model: {error}") from None
    dims = settings.matryoshka_dims
    if not dims:
        return loss
    full = int(model.get_embedding_dimension())
    if dims[0] > full:
        raise ConfigError(f"matryoshka_dims: {dims[0]} is more than the {full} dimensions of the model")
    return losses.MatryoshkaLoss(model, loss, matryoshka_dims=list(dict.fromkeys((full, *dims))))


def _plain_loss(model: Any, settings: EmbedTrainSettings, guide: Any, gather: bool) -> Any:
    from sentence_transformers.sentence_transformer import losses

    scale = settings.scale
    if settings.loss in ("multiple_negatives", "symmetric"):
        return _ranking_loss(model, settings, gather)
    if settings.loss == "gist":
        temperature, mini = 1 / scale, settings.mini_batch_size
        if mini is None:
            return losses.GISTEmbedLoss(model, guide, temperature=temperature, gather_across_devices=gather)
        return losses.CachedGISTEmbedLoss(
            model, guide, temperature=temperature, mini_batch_size=mini, gather_across_devices=gather
        )
    if settings.loss == "triplet":
        cosine = losses.TripletDistanceMetric.COSINE
        return losses.TripletLoss(model, distance_metric=cosine, triplet_margin=settings.triplet_margin)
    if settings.loss == "cosent":
        return losses.CoSENTLoss(model, scale=scale)
    if settings.loss == "angle":
        return losses.AnglELoss(model, scale=scale)
    if settings.loss == "margin_mse":
        return losses.MarginMSELoss(model, similarity_fct=_scaled_dot(scale))
    return losses.DistillKLDivLoss(model, student_temperature=1 / scale, teacher_temperature=1.0)


def _ranking_loss(model: Any, settings: EmbedTrainSettings, gather: bool) -> Any:
    from sentence_transformers.sentence_transformer import losses

    both = settings.loss == "symmetric"
    directions = ("query_to_doc", "doc_to_query") if both else ("query_to_doc",)
    partition = "per_direction" if both else "joint"
    if settings.mini_batch_size is None:
        return losses.MultipleNegativesRankingLoss(
            model,
            scale=settings.scale,
            gather_across_devices=gather,
            directions=directions,
            partition_mode=partition,
        )
    return losses.CachedMultipleNegativesRankingLoss(
        model,
        scale=settings.scale,
        mini_batch_size=settings.mini_batch_size,
        gather_across_devices=gather,
        directions=directions,
        partition_mode=partition,
    )


def _scaled_dot(scale: float) -> Any:
    """Cosines lie in [-1, 1], a teacher's logits do not."""
    from sentence_transformers.util import pairwise_dot_score

    return lambda a, b: scale * pairwise_dot_score(a, b)
