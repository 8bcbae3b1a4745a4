"""Retention on PostgreSQL: a month of bodies that is over goes as one table, not row by row.

What datasets have taken of it is kept, in the partition of what is older than all months.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from maniac_core.storage.postgres.commits import WRITE_LOCK
from maniac_core.storage.postgres.connection import Connection
from maniac_core.storage.postgres.partitions import Month, drop_first_month, months_of

_log = logging.getLogger(__name__)
_TABLE = "completion_bodies"
_BATCH = 1000
"""How many rows of the ledger one transaction changes."""
_MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes that may be copied while captures wait. If datasets hold more of a month, it is deleted row by row."""
_KEPT = "EXISTS (SELECT 1 FROM dataset_items i WHERE i.seq = b.seq)"
_FORGET = """
WITH gone AS (
  SELECT c.seq, c.created FROM completions c
   WHERE c.created >= $1 AND c.created < $2 AND c.seq > $3 AND c.content_hash IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM dataset_items i WHERE i.seq = c.seq)
   ORDER BY c.seq LIMIT $4),
forgotten AS (
  UPDATE completions c SET content_hash = NULL FROM gone
   WHERE c.seq = gone.seq AND c.created = gone.created AND c.created >= $1 AND c.created < $2)
SELECT max(seq) FROM gone
"""

Acquire = Callable[[], AbstractAsyncContextManager[Connection]]


async def drop_expired_months(acquire: Acquire, before: int) -> int:
    """Drop the first months of bodies that end before a time (Unix seconds); returns how many.

    A connection is held for one transaction at a time. Captures go on, but for the moment in which the table changes.
    """
    async with acquire() as connection:
        months = await months_of(connection, _TABLE)
    dropped = 0
    for month in months:
        if month.plus(1).start > before or not await _drop(acquire, month):
            break
        _log.info("storage: the bodies of %04d-%02d are dropped", month.year, month.month)
        dropped += 1
    return dropped


async def _drop(acquire: Acquire, month: Month) -> bool:
    async with acquire() as connection:
        if await _kept_bytes(connection, month) > _MOST_KEPT_BYTES:
            return False
    last: int | None = 0
    while last is not None:
        async with acquire() as connection, connection.transaction():
            last = await _forget(connection, month, last, _BATCH)
    async with acquire() as connection, connection.transaction():
        # Bodies that a dataset has released since; no dataset can take new ones now.
        await _forget(connection, month, 0, None)
        return await drop_first_month(connection, _TABLE, month, _KEPT)


async def _kept_bytes(connection: Connection, month: Month) -> int:
    partition = f"{_TABLE}{month.suffix}"
    # Of a value that is stored apart, the length is known without reading it.
    size = "COALESCE(octet_length(b.input), 0) + COALESCE(octet_length(b.output), 0)"
    sql = f"SELECT COALESCE(SUM({size}), 0) FROM {partition} b WHERE {_KEPT}"  # noqa: S608 - our own names
    return int(await connection.fetchval(sql))


async def _forget(connection: Connection, month: Month, last: int, limit: int | None) -> int | None:
    """Say in the ledger that content of a month is gone, after a position; returns the last position, or None."""
    await connection.execute(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
    position: int | None = await connection.fetchval(
        _FORGET, month.start, month.plus(1).start, last, limit
    )
    return position
