"""Work on large bodies is done in turns."""

from __future__ import annotations

import asyncio
import itertools

from maniac_common.turns import large_turn


async def test_between_two_large_steps_the_small_ones_are_done() -> None:
    """However many wait: each turn of the loop lets one of them go on."""
    done: list[str] = []

    async def large(name: str) -> None:
        for step in range(2):
            await large_turn()
            done.append(f"{name}{step}")

    async def small() -> None:
        for _ in range(40):
            done.append("small")
            await asyncio.sleep(0)

    await asyncio.gather(small(), *(large(name) for name in "abcd"))

    large_ones = [position for position, name in enumerate(done) if name != "small"]
    assert len(large_ones) == 8
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(large_ones))
