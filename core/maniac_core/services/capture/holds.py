"""A running request's reservations from budgets; closed when its record takes them over."""

from __future__ import annotations

from maniac_core.domain.budgets import Hold
from maniac_core.services.routing.planner import Step


class Holds:
    """The reservations of one request: one before its first call, more when a further attempt may cost more."""

    __slots__ = ("covered", "is_open", "taken", "worst_nano_usd")

    def __init__(self) -> None:
        self.taken: list[Hold] = []
        self.covered: Step | None = None
        """The step that what is reserved was last found to cover."""
        self.worst_nano_usd = 0
        """The most that an attempt of that step costs."""
        self.is_open = True
        """Whether the request still runs, so that its reservations are to be renewed."""

    @property
    def total_nano_usd(self) -> int:
        """The sum of the reservations."""
        return sum(hold.amount_nano_usd for hold in self.taken)

    def add(self, hold: Hold) -> None:
        """That is reserved too."""
        self.taken.append(hold)

    def cover(self, step: Step, worst_nano_usd: int) -> None:
        """What is reserved covers an attempt of that step, which costs that at most."""
        self.covered = step
        self.worst_nano_usd = worst_nano_usd

    def close(self) -> tuple[Hold, ...]:
        """Return what is reserved, for the record."""
        self.is_open = False
        return tuple(self.taken)
