"""Refusals: requests of known callers that leave no record are counted by reason, in memory, and added up now and then.

That is what a rate limit refuses, and what cannot be read: whoever floods the gateway must not fill the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from maniac_core.domain.budgets import SECONDS_PER_DAY
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import is_code
from maniac_core.domain.usage import Refused
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.usage import UsageStore

_log = logging.getLogger(__name__)
_FLUSH_S = 2.0
_OTHER = "other"
_MAX_KEPT = 100_000
"""Sums; in an outage of the database nothing beyond them is counted."""


class Refusals:
    """Counts what is refused after authentication."""

    def __init__(self, store: UsageStore) -> None:
        self._store = store
        self._counts: dict[tuple[int, int, int, int, str], int] = {}
        self._lock = asyncio.Lock()

    def count(self, caller: Caller, code: str) -> None:
        """Count one request by its `error.code`."""
        if not is_code(code):
            code = _OTHER
        day = int(time.time()) // SECONDS_PER_DAY
        key = (day, caller.organization, caller.project, caller.key or 0, code)
        if key in self._counts or len(self._counts) < _MAX_KEPT:
            self._counts[key] = self._counts.get(key, 0) + 1

    async def run(self) -> None:
        """Write the counts every two seconds, forever."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                await self.flush()
            except StorageError as err:
                _log.debug("refusals are counted and not yet written: %s", err)

    async def close(self) -> None:
        """Write what was counted, if the database takes it."""
        with contextlib.suppress(StorageError):
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted so far.

        Raises:
            StorageError: it is kept for the next time.
        """
        async with self._lock:
            counts, self._counts = self._counts, {}
            if not counts:
                return
            try:
                await self._store.add_refusals(
                    [
                        Refused(
                            day=day,
                            organization=organization,
                            project=project,
                            key=key,
                            code=code,
                            requests=requests,
                        )
                        for (day, organization, project, key, code), requests in counts.items()
                    ]
                )
            except StorageError:
                for one, requests in counts.items():
                    self._counts[one] = self._counts.get(one, 0) + requests
                raise
