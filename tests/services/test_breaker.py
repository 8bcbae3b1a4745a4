"""The circuit breaker by the clock."""

from __future__ import annotations

import pytest
from maniac_core.services.chat import breaker as module
from maniac_core.services.chat.breaker import Breaker
from maniac_core.services.chat.breakers import ProviderBreakers


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


def test_pauses_double_up_to_ten_seconds(clock: Clock) -> None:
    """Each failed probe doubles the pause; success closes it and makes the next pause short again."""
    breaker = opened()
    pauses = []
    for _ in range(7):
        pauses.append(breaker.retry_after_s)
        clock.now += pauses[-1]
        breaker.failed(permit_of(breaker))
    assert pauses == [1, 2, 4, 8, 10, 10, 10]

    clock.now += 10
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


def test_a_probe_that_hangs_holds_up_no_other(clock: Clock) -> None:
    """After 10 s another one may go; whichever succeeds ends the pause, and what the old one failed with is no news."""
    breaker = opened()
    clock.now += 1
    hanging = permit_of(breaker)
    clock.now += 10
    other = permit_of(breaker)
    breaker.failed(hanging)
    assert breaker.enter() is None

    breaker.succeeded(hanging)

    assert breaker.state == "closed"
    breaker.failed(other)
    assert breaker.enter() is not None


def test_a_repeat_counts_for_a_probe_only(clock: Clock) -> None:
    """The retries of one request count once, but the end of a probe is always told."""
    breaker = Breaker("demo")
    for number in range(20):
        breaker.failed(permit_of(breaker), is_repeat=number % 5 > 0)
        assert breaker.state == "closed" or number > 14
    breaker = opened()
    clock.now += 1

    breaker.failed(permit_of(breaker), is_repeat=True)

    assert breaker.retry_after_s == 2.0


def fail(breakers: ProviderBreakers, model: str, times: int) -> None:
    for _ in range(times):
        permit = breakers.enter(model)
        assert permit is not None
        permit.failed()


@pytest.mark.usefixtures("clock")
def test_a_dead_model_pauses_itself_alone() -> None:
    """A healthy model of the provider neither suffers nor hides that another one is dead."""
    breakers = ProviderBreakers("demo")
    for _ in range(5):
        fail(breakers, "dead", 1)
        healthy = breakers.enter("healthy")
        assert healthy is not None
        healthy.succeeded()

    assert breakers.enter("dead") is None
    assert breakers.is_reachable()
    assert breakers.enter("healthy") is not None


def test_a_provider_that_cannot_be_reached_is_paused_as_a_whole(clock: Clock) -> None:
    """Connections that fail say nothing about a model; one that is made ends the pause for all."""
    breakers = ProviderBreakers("demo")
    for model in "abcde":
        permit = breakers.enter(model)
        assert permit is not None
        permit.unreachable(is_repeat=False)

    assert breakers.enter("f") is None
    assert not breakers.is_reachable()
    clock.now += 1
    probe = breakers.enter("a")
    assert probe is not None
    assert breakers.enter("b") is None
    probe.failed()
    assert breakers.enter("b") is not None


@pytest.mark.usefixtures("clock")
def test_names_that_callers_invent_are_forgotten_again() -> None:
    """What is kept is bounded, and models that are paused are kept longest."""
    breakers = ProviderBreakers("demo")
    fail(breakers, "dead", 5)
    for number in range(3000):
        fail(breakers, f"invented-{number}", 1)

    assert len(dict(breakers.states())) == 1001
    assert breakers.enter("dead") is None
