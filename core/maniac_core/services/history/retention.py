"""Retention: deletes requests and answers that the operator keeps no longer, bit by bit beside the work."""

from __future__ import annotations

import asyncio
import logging

from maniac_core.domain.ids import now_s
from maniac_core.services.history.pacing import Pace
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.retention import RetentionStore

_log = logging.getLogger(__name__)
_DAY_S = 24 * 3600
_ROUND_S = 6 * 3600
_RETRY_S = 300
_WINDOW = 1000
"""How many positions of the ledger one read looks at, so that others get to read between."""
_CHUNK = 50
"""How many bodies one transaction deletes: a millisecond or two for which captures wait."""
_PAUSE = 5.0
"""How long retention stays away, as a share of what a piece of it took: captures have five sixths of the writer."""


class Retention:
    """Deletes bodies that are older than so many days, but for what datasets have taken; the ledger stays."""

    def __init__(self, store: RetentionStore, days: int) -> None:
        """`days`: 0 keeps everything."""
        self._store = store
        self._days = days

    async def run(self) -> None:
        """Do a round at once, and then one every six hours, until cancelled."""
        while self._days:
            pause_s = _ROUND_S
            try:
                await self.round(now_s())
            except StorageError as err:
                _log.warning("retention: bodies could not be deleted, tried again later: %s", err)
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def round(self, now: int) -> int:
        """Delete what is too old at `now` (Unix seconds), unless another core is at it; returns how many bodies.

        What goes in whole parts is not counted.

        Raises:
            StorageError: the rest is for another round.
        """
        if not await self._store.take_turn():
            return 0
        try:
            return await self._delete(now - self._days * _DAY_S)
        finally:
            await self._store.end_turn()

    async def _delete(self, before: int) -> int:
        try:
            await self._store.drop(before)
        except StorageError as err:
            # Long readers hold its tables; it all goes row by row as well.
            _log.warning("retention: months could not be dropped: %s", err)
        total = 0
        pace = Pace(_PAUSE)
        last = await self._store.last_position()
        for first in range(1, last + 1, _WINDOW):
            pace.begin()
            seqs = await self._store.find_expired(
                before=before, first=first, last=first + _WINDOW - 1
            )
            await pace.rest()
            for start in range(0, len(seqs), _CHUNK):
                pace.begin()
                total += await self._store.delete(before=before, seqs=seqs[start : start + _CHUNK])
                await pace.rest()
        if total:
            _log.info("retention: %d bodies are deleted", total)
        return total
