"""Fills the index of texts behind the captures, a few completions at a time."""

from __future__ import annotations

import asyncio
import logging

from maniac_core.services.history.pacing import Pace
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.text_index import TextIndexStore

_log = logging.getLogger(__name__)
_CHUNK = 8
"""How many completions one transaction indexes: a few milliseconds for which captures wait."""
_PAUSE = 2.0
"""How long it stays away, as a share of what a piece of work took: captures have two thirds of the writer."""
_IDLE_S = 1.0
_RETRY_S = 30.0


class TextIndexer:
    """Indexes what is captured."""

    def __init__(self, store: TextIndexStore) -> None:
        self._store = store

    async def run(self) -> None:
        """Index what is there, and then what comes, until cancelled."""
        is_failing = False
        while True:
            pause_s = _IDLE_S
            try:
                await self.catch_up()
                is_failing = False
            except StorageError as err:
                if not is_failing:
                    _log.warning("texts could not be indexed, tried again later: %s", err)
                is_failing = True
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def catch_up(self) -> None:
        """Index all that is in the ledger and not in the index.

        Raises:
            StorageError: the rest is for another time.
        """
        pace = Pace(_PAUSE)
        while await self._store.advance(_CHUNK):
            await pace.rest()
            await self._store.merge()
            await pace.rest()
