"""What an engine says of its reads."""

from __future__ import annotations

import asyncio

from maniac_core.storage.base import Database


async def test_reads_that_run_or_wait_are_counted(database: Database) -> None:
    """More than can run at a time are counted as well, and none is left afterwards."""
    count = database.readers + 2
    reads = [asyncio.create_task(database.fetch_all("read_cache_versions")) for _ in range(count)]
    # Each gets as far as to its first wait.
    await asyncio.sleep(0)
    assert database.reads == count
    await asyncio.gather(*reads)
    assert database.reads == 0
