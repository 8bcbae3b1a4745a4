"""The circuit breaker by the clock."""

from __future__ import annotations

import pytest
from maniac_core.services import breaker as module
from maniac_core.services.breaker import Breaker


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def permit_of(breaker: Breaker) -> int:
    permit = breaker.enter()
    assert permit is not None
    return permit


def opened() -> Breaker:
    breaker = Breaker("demo")
    for _ in range(5):
        breaker.failed(permit_of(breaker))
    return breaker


def test_it_opens_after_five_failures_in_a_row(clock: Clock) -> None:
    """A success in between starts the count anew."""
    breaker = Breaker("demo")
    for _ in range(4):
        breaker.failed(permit_of(breaker))
    breaker.succeeded(permit_of(breaker))
    for _ in range(4):
        breaker.failed(permit_of(breaker))
    last = permit_of(breaker)

    breaker.failed(last)

    assert breaker.enter() is None
    assert breaker.retry_after_s == 1.0
    clock.now += 1.0
    assert breaker.retry_after_s == 0.0


def test_pauses_double_up_to_half_a_minute(clock: Clock) -> None:
    """Each failed probe doubles the pause; success closes it and makes the next pause short again."""
    breaker = opened()
    pauses = []
    for _ in range(7):
        pauses.append(breaker.retry_after_s)
        clock.now += pauses[-1]
        breaker.failed(permit_of(breaker))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]

    clock.now += 30
    breaker.succeeded(permit_of(breaker))
    for _ in range(5):
        breaker.failed(permit_of(breaker))
    assert breaker.retry_after_s == 1.0


def test_one_probe_at_a_time(clock: Clock) -> None:
    """Nobody else is let in until the probe has reported."""
    breaker = opened()
    clock.now += 1
    probe = permit_of(breaker)

    assert breaker.enter() is None
    breaker.succeeded(probe)
    assert breaker.enter() is not None


def test_an_abandoned_probe_is_repeated_after_a_pause(clock: Clock) -> None:
    """A caller in a hurry says nothing about the upstream: the pause is made again, and not doubled."""
    breaker = opened()
    clock.now += 1
    breaker.abandoned(permit_of(breaker))

    assert breaker.enter() is None
    assert breaker.retry_after_s == 1.0


def test_old_news_is_ignored(clock: Clock) -> None:
    """Calls from before the pause neither end it nor count as its probe."""
    breaker = Breaker("demo")
    early = [permit_of(breaker) for _ in range(8)]
    for permit in early[:5]:
        breaker.failed(permit)

    breaker.succeeded(early[5])
    assert breaker.enter() is None
    clock.now += 1
    probe = permit_of(breaker)
    breaker.failed(early[6])
    breaker.abandoned(early[7])
    assert breaker.enter() is None
    breaker.succeeded(probe)
    assert breaker.enter() is not None
