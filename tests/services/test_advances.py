"""Advances: what requests take of them, and what goes back when, as a table."""

from __future__ import annotations

import pytest
from maniac_core.domain.budgets import Hold
from maniac_core.domain.callers import Caller
from maniac_core.services.billing.advances import Advances

NOON = 1_700_006_400 + 43_200
BEFORE_MIDNIGHT = 1_700_006_400 - 10


def _caller(organization: int = 1) -> Caller:
    return Caller(key=1, project=1, organization=organization, project_id="p", organization_id="o")


def _advance(amount: int) -> Hold:
    return Hold(id="a", amount_nano_usd=amount, windows=((1, 0),))


@pytest.mark.parametrize(
    ("start", "takes", "taken", "left"),
    [
        # (seconds after the start, amount)
        (NOON, [(0, 40), (0, 60), (0, 1)], [True, True, False], 0),
        (NOON, [(0, 101), (0, 100)], [False, True], 0),
        (NOON, [(0, 0), (59, 10), (60, 10)], [True, True, False], 90),
        # A period of its budgets may end with the day.
        (BEFORE_MIDNIGHT, [(9, 10), (10, 10)], [True, False], 90),
        # A clock that goes back gives nothing away.
        (NOON, [(-3600, 60), (-3600, 60)], [True, False], 40),
    ],
)
def test_parts_are_taken_while_there_is_enough(
    start: int, takes: list[tuple[int, int]], taken: list[bool], left: int
) -> None:
    """Never more than was reserved, and not beyond its time; the rest goes back once."""
    advances = Advances()
    advances.add(_caller(), _advance(100), start)
    parts = [advances.take(_caller(), amount, start + after) for after, amount in takes]
    assert [part is not None for part in parts] == taken
    assert all(part is None or (part.is_part and not part.is_rest) for part in parts)
    assert advances.take(_caller(2), 1, start) is None
    rest = advances.remove_all()
    assert [(one.amount_nano_usd, one.is_part, one.is_rest) for one in rest] == (
        [(left, True, True)] if left else []
    )
    assert advances.remove_all() == []


@pytest.mark.parametrize(
    ("is_used", "after", "goes"), [(True, 1, False), (False, 1, True), (True, 60, True)]
)
def test_what_pauses_or_is_old_goes_back(after: int, *, is_used: bool, goes: bool) -> None:
    """An advance that was used since the last look stays, for a minute at most."""
    advances = Advances()
    advances.add(_caller(), _advance(100), NOON)
    assert advances.remove_idle(NOON) == []
    if is_used:
        advances.take(_caller(), 1, NOON)
    assert bool(advances.remove_idle(NOON + after)) == goes
    assert bool(advances) != goes
