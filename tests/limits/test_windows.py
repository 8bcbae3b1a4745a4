"""Windows: exact, all scopes or none, the same in memory and in Redis."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from maniac_core.services.limits.rate_limiter import Charge, Windows
from maniac_core.services.limits.redis_windows import RedisWindows


async def test_a_limit_is_reached_exactly(windows: Windows) -> None:
    """Units are counted up to the limit; what does not fit is not counted, and smaller ones still fit."""
    assert await windows.add(1, [Charge("o", 10, 6)]) == (True, [6])
    assert await windows.add(1, [Charge("o", 10, 5)]) == (False, [6])
    assert await windows.add(1, [Charge("o", 10, 4)]) == (True, [10])
    assert await windows.add(1, [Charge("o", 10, 1)]) == (False, [10])


async def test_several_scopes_are_counted_together_or_not_at_all(windows: Windows) -> None:
    """A key at its limit takes nothing from its organization."""
    assert await windows.add(1, [Charge("o", 10, 1), Charge("k", 1, 1)]) == (True, [1, 1])
    assert await windows.add(1, [Charge("o", 10, 1), Charge("k", 1, 1)]) == (False, [1, 1])
    assert await windows.add(1, [Charge("o", 10, 1)]) == (True, [2])


async def test_a_new_window_begins_at_nothing(windows: Windows) -> None:
    """Counts of the window before are gone."""
    assert await windows.add(1, [Charge("o", 1, 1)]) == (True, [1])
    assert await windows.add(2, [Charge("o", 1, 1)]) == (True, [1])


async def test_adjustments_count_whatever_the_limit(windows: Windows) -> None:
    """Given back or added afterwards, in order with what is asked next; of another window nothing changes."""
    assert await windows.add(1, [Charge("o", 10, 8)]) == (True, [8])
    windows.adjust(1, "o", -6)
    assert await windows.add(1, [Charge("o", 10, 8)]) == (True, [10])
    windows.adjust(1, "o", 5)
    assert await windows.add(1, [Charge("o", 10, 0)]) == (False, [15])
    windows.adjust(0, "o", -15)
    assert await windows.add(1, [Charge("o", 20, 0)]) == (True, [15])


async def test_cores_that_share_a_redis_share_the_limit(
    make_redis: Callable[..., RedisWindows],
) -> None:
    """1,000 requests at once over three cores against a limit of 100: exactly 100 pass, each with its own count."""
    cores = [make_redis() for _ in range(3)]
    results = await asyncio.gather(
        *(cores[n % 3].add(1, [Charge("o", 100, 1), Charge(f"k{n}", 1, 1)]) for n in range(1000))
    )
    passed = [result for result in results if result is not None and result[0]]
    assert sorted(used[0] for _, used in passed) == list(range(1, 101))
    assert Counter(result is None for result in results) == {False: 1000}


def _run_on_asyncio(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize("run", [_run_on_asyncio, uvloop.run])
@pytest.mark.parametrize("busy_s", [0.02, 0.4])
@pytest.mark.parametrize("limit", [50, 100])
def test_a_busy_core_lets_nobody_through_uncounted(
    redis_port: int, run: Callable[[Coroutine[Any, Any, None]], None], busy_s: float, limit: int
) -> None:
    """The deadline is for Redis: an answer that is there while the loop parses a large prompt is read afterwards."""

    async def burst() -> None:
        url = f"redis://127.0.0.1:{redis_port}/0"
        windows = RedisWindows(
            url, window_s=60, timeout_s=0.25, prefix=f"maniac-test-{uuid.uuid4().hex}"
        )
        asking = [asyncio.create_task(windows.add(1, [Charge("o", limit, 1)])) for _ in range(1000)]
        turns = iter((busy_s,) * 8)
        while not all(task.done() for task in asking):
            time.sleep(next(turns, 0))  # noqa: ASYNC251 - what a core does that does not look at its sockets
            await asyncio.sleep(0)
        passed = Counter(result is not None and result[0] for result in map(_result, asking))
        assert passed == {True: limit, False: 1000 - limit}
        assert windows.uncounted == 0
        await windows.aclose()

    run(burst())


def _result(task: asyncio.Task[Any]) -> Any:
    return task.result()
