"""Turns of the event loop for work on large bodies, so that what is small is served in between."""

from __future__ import annotations

import asyncio
import weakref

LARGE_BYTES = 1024 * 1024
"""From this size on, decoding or encoding a body takes a millisecond or more."""
_locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
    weakref.WeakKeyDictionary()
)


async def large_turn() -> None:
    """Wait until everything else had its turn; of several who wait, each turn of the loop lets one go on.

    To be awaited before each step of work on a large body. A step is a call that cannot be cut, such as a decode.
    """
    lock = _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock:
        await asyncio.sleep(0)
