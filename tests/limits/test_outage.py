"""A slow or dead Redis lets requests through at once, says so, and is used again when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from maniac_core.config.core import ConfigError
from maniac_core.services.limits import redis_windows
from maniac_core.services.limits.rate_limiter import Charge
from maniac_core.services.limits.redis_windows import RedisWindows
from redis.asyncio.client import Pipeline

Make = Callable[..., RedisWindows]
CHARGES = [Charge("o", 1, 1)]


async def _until_counted(windows: RedisWindows, window: int) -> None:
    deadline = time.monotonic() + 60
    while await windows.add(window, CHARGES) is None:
        assert time.monotonic() < deadline
        # It is asked again after a pause; there is no event to wait for.
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", ["silent", "broken"])
async def test_an_outage_lets_requests_through_and_ends_by_itself(
    make_redis: Make,
    wire: Any,
    mode: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waits when it fails waits no longer than the deadline, whoever comes then not at all."""
    windows = make_redis(wire.port, timeout_s=0.5)
    assert await windows.add(1, CHARGES) == (True, [1])
    wire.mode = mode
    if mode == "broken":
        wire.cut()
    started = time.monotonic()
    results = await asyncio.gather(*(windows.add(1, CHARGES) for _ in range(50)))
    assert results == [None] * 50
    assert time.monotonic() - started < 10, "one after the other they would have waited for longer"
    assert windows.is_paused
    connections = wire.connections
    # The pause is not to end while a busy machine looks elsewhere.
    with monkeypatch.context() as patch:
        patch.setattr(redis_windows, "time", SimpleNamespace(monotonic=lambda: 0.0))
        for _ in range(1000):
            asked = windows.add(1, CHARGES)
            with pytest.raises(StopIteration) as answered:
                asked.send(None)
            assert answered.value.value is None, "nobody waits for what is known to be down"
    assert wire.connections == connections
    assert windows.uncounted == 1050
    assert [record.levelname for record in caplog.records] == ["WARNING"]

    wire.mode = "open"
    await _until_counted(windows, 2)
    assert not windows.is_paused
    assert await windows.add(2, CHARGES) == (False, [1]), "limits hold again"
    assert "enforced again" in caplog.records[-1].getMessage()


async def test_a_long_outage_is_logged_once_and_asked_about_rarely(
    make_redis: Make, wire: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One request at a time tries whether it is back."""
    wire.mode = "broken"
    windows = make_redis(wire.port, timeout_s=0.5)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert await windows.add(1, CHARGES) is None
        await asyncio.sleep(0)
    assert 1 <= wire.connections <= 4
    assert len(caplog.records) == 1


async def test_nobody_listens(make_redis: Make, wire: Any) -> None:
    """A Redis that never was there is no different."""
    await wire.close()
    windows = make_redis(wire.port, timeout_s=600)
    assert await windows.add(1, CHARGES) is None
    windows.adjust(1, "o", 1)


def test_an_address_that_is_none_is_a_configuration_error() -> None:
    """It is told at the start, by the name of its key."""
    with pytest.raises(ConfigError, match="redis_url"):
        RedisWindows("http://127.0.0.1", window_s=60, timeout_s=0.05)


async def test_a_mistake_lets_nobody_wait_for_ever(
    make_redis: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits passes as in an outage, the log says what happened, and limits hold again after a pause."""
    windows = make_redis()

    async def odd(*_: object, **__: object) -> None:
        raise AttributeError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "execute", odd)
        async with asyncio.timeout(60):
            results = await asyncio.gather(*(windows.add(1, CHARGES) for _ in range(3)))
        assert results == [None] * 3
    assert "could not be counted" in caplog.text
    await _until_counted(windows, 2)
    assert await windows.add(2, CHARGES) == (False, [1])
