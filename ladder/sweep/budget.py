"""What a sweep used, over all its commands, held against its limits."""

from __future__ import annotations

import time

from .evaluate import Outcome
from .settings import BudgetSettings

__all__ = ["Account", "OverBudget"]


class OverBudget(Exception):
    """Ends a search; never leaves the sweep."""


class Account:
    """Trials, time, tokens and money of a sweep.

    Attributes:
        trials: Configurations that were tried.
        tokens: That LLMs read and wrote, each call once.
        money: For them.
        ended: The limit that ended the sweep; empty where none did.
    """

    def __init__(self, budget: BudgetSettings, seconds_before: float) -> None:
        """Opens an account.

        Args:
            budget: The limits.
            seconds_before: Of earlier commands.
        """
        self._budget = budget
        self._before = seconds_before
        self._started = time.monotonic()
        self._stages: set[str] = set()
        self.trials = 0
        self.tokens = 0
        self.money = 0.0
        self.ended = ""

    @property
    def seconds(self) -> float:
        """Wall-clock time of all commands so far."""
        return self._before + time.monotonic() - self._started

    def take(self, outcome: Outcome) -> None:
        """Adds what an outcome cost; a stage that several share counts once."""
        read, wrote, money = outcome.paid
        self.tokens += int(read + wrote)
        self.money += money
        for stage, spent in outcome.tokens.items():
            if stage not in self._stages:
                self._stages.add(stage)
                self.tokens += sum(spent)

    def room(self, wanted: int) -> int:
        """How many more trials may start.

        Raises:
            OverBudget: A limit is reached.
        """
        most = self._budget.trials
        self._hold("trials", most, self.trials)
        self.check()
        return wanted if most is None else min(wanted, most - self.trials)

    def check(self) -> None:
        """Looks at all limits but that of trials.

        Raises:
            OverBudget: One is reached.
        """
        self._hold("minutes", self._budget.minutes, self.seconds / 60)
        self._hold("tokens", self._budget.tokens, self.tokens)
        self._hold("money", self._budget.money, self.money)

    def _hold(self, name: str, most: float | None, used: float) -> None:
        if most is not None and used >= most:
            self.ended = name
            raise OverBudget(f"sweep.budget.{name} ({most:g}) is used up")
