"""What reads or deletes much leaves the event loop and the database to others in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from maniac_core.services.history import pacing
from maniac_core.services.history.pacing import Pace


class _Clock:
    """A time that passes only while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    async def sleep(self, delay: float) -> None:
        """Let it pass."""
        self.slept.append(delay)
        self.now += delay


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(pacing, "time", clock)
    stand_in: Any = type("asyncio", (), {"sleep": staticmethod(clock.sleep)})
    monkeypatch.setattr(pacing, "asyncio", stand_in)
    return clock


async def test_rests_are_a_share_of_the_work(clock: _Clock) -> None:
    """Each rest is as long as the work before it, times the share; neither rests nor waiting readers count as work."""
    pace = Pace(5.0)
    clock.now += 2
    await pace.rest()
    clock.now += 1
    await pace.rest()
    clock.now += 100  # A reader takes its time.
    pace.begin()
    clock.now += 3
    await pace.rest()
    assert clock.slept == [10.0, 5.0, 15.0]


async def test_others_get_to_work_however_short_it_was() -> None:
    """A rest of no length still lets the event loop go on."""
    is_run = asyncio.Event()
    asyncio.get_running_loop().call_soon(is_run.set)
    await Pace(0.0).rest()
    assert is_run.is_set()
