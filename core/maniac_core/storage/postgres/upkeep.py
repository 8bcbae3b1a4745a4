"""Upkeep by a core: folds the sums of captures, makes partitions ahead and drops empty ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from maniac_common.supervised import supervised

from maniac_core.domain.ids import now_s
from maniac_core.storage.base import StorageError
from maniac_core.storage.postgres.connection import FAILURES, Connection, as_storage_error
from maniac_core.storage.postgres.partitions import drop_empty_months, make_partitions
from maniac_core.storage.queries import Queries

_log = logging.getLogger(__name__)
_INTERVAL_S = 2.0
_PARTITIONS_EVERY = 1800
"""Rounds; an hour."""
_LOCK = 0x6D67_0004
"""Advisory lock of the core that folds."""
FOLDS = (
    *("fold_completion_counts_deltas", "fold_facet_counts_deltas", "fold_usage_daily_deltas"),
    *("fold_usage_tags_daily_deltas", "fold_usage_tag_days_deltas", "fold_trace_counts_deltas"),
)

Acquire = Callable[[], AbstractAsyncContextManager[Connection]]


class Upkeep:
    """A task that works on a connection of the pool for a moment every two seconds."""

    def __init__(self, acquire: Acquire, queries: Queries) -> None:
        self._acquire = acquire
        self._folds = [queries.text(name) for name in FOLDS]
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(supervised("upkeep of the database", self._run))

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        rounds = 0
        while True:
            if rounds % _PARTITIONS_EVERY == 0:
                await self._attempt(_keep_partitions)
            await self._attempt(self._fold)
            rounds += 1
            await asyncio.sleep(_INTERVAL_S)

    async def _attempt(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        try:
            async with self._acquire() as connection:
                await work(connection)
        except (StorageError, *FAILURES) as err:
            # Retried in the next round; logged once.
            if not self._is_failing:
                _log.warning("storage: upkeep failed: %s", as_storage_error(err))
            self._is_failing = True
        else:
            self._is_failing = False

    async def _fold(self, connection: Connection) -> None:
        async with connection.transaction():
            if await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({_LOCK})"):
                for fold in self._folds:
                    await connection.execute(fold)


async def _keep_partitions(connection: Connection) -> None:
    now = now_s()
    made = await make_partitions(connection, now, now)
    dropped = await drop_empty_months(connection, now)
    if made or dropped:
        _log.info("storage: partitions made: %s; dropped: %s", made, dropped)
