"""A running request's reservations from budgets; closed when its record takes them over."""

from __future__ import annotations

from maniac_core.domain.budgets import Hold
from maniac_core.services.routing.planner import Step


class Holds:
    """The reservations of one request: one before its first call, more when a further attempt may cost more."""

    __slots__ = ("covered", "is_open", "taken")

    def __init__(self) -> None:
        self.taken: list[Hold] = []
        self.covered: Step | None = None
        """The step that what is reserved was last found to cover."""
        self.is_open = True
        """Whether the request still runs, so that its reservations are to be renewed."""

    @property
    def total_nano_usd(self) -> int:
        """The sum of the reservations."""
        return sum(hold.amount_nano_usd for hold in self.taken)

    def close(self) -> tuple[Hold, ...]:
        """Return what is reserved, for the record."""
        self.is_open = False
        return tuple(self.taken)
