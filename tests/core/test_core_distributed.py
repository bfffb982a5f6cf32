"""Several processes: who leads, and what each takes of a batch. Two real processes: tests/llm_ft, marked slow."""

from __future__ import annotations

import pytest
from ragladder.core.distributed import is_main, leading, local_rank, rank, share_of_batch, together, world_size
from ragladder.core.errors import ConfigError, StageError


def started(monkeypatch: pytest.MonkeyPatch, world: str, place: str = "0") -> None:
    """As torchrun sets a process's environment."""
    for name, value in (("WORLD_SIZE", world), ("RANK", place), ("LOCAL_RANK", place)):
        monkeypatch.setenv(name, value)


def test_a_process_alone_leads_and_calls_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (world_size(), rank(), local_rank(), is_main()) == (1, 0, 0, True)
    with leading():
        assert together(max, 3, 7) == 7
    # What a cluster leaves in the environment makes no helper of it.
    started(monkeypatch, "", "3")
    assert (world_size(), rank(), local_rank(), is_main()) == (1, 0, 0, True)


def test_only_the_first_of_several_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, "4", "3")
    assert (world_size(), rank(), local_rank(), is_main()) == (4, 3, 3, False)
    with pytest.raises(StageError, match="only the leading process"):
        together(max, 3, 7)


@pytest.mark.parametrize(
    ("batch", "accumulation", "world", "share"),
    [(4, 1, "2", (2, 1)), (8, 2, "4", (2, 2)), (3, 4, "2", (3, 2)), (5, 3, "1", (5, 3))],
)
def test_an_update_sees_as_many_examples_however_many_processes(
    batch: int, accumulation: int, world: str, share: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    started(monkeypatch, world)
    assert share_of_batch(batch, accumulation, "train.batch_size") == share
    assert share[0] * share[1] * int(world) == batch * accumulation


def test_a_batch_that_cannot_be_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, "4")
    with pytest.raises(ConfigError, match=r"train\.batch_size of 6 cannot be split over 4 processes.*multiple of 4"):
        share_of_batch(6, 1, "train.batch_size")
