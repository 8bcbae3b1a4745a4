"""Reservations: taken from the database, together when several wait, and renewed while their requests run.

A reservation lasts two minutes, so that what a dead core held comes back by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time

from maniac_core.domain.budgets import Hold
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.records import Caller
from maniac_core.services.holds import Holds
from maniac_core.storage.base import StorageError
from maniac_core.storage.budgets import BudgetStore, Claim

_log = logging.getLogger(__name__)
_LEASE_S = 120
_RENEW_S = 30.0
_MAX_BATCH = 256
_Waiting = tuple[Claim, "asyncio.Future[Hold | None]"]


class Reservations:
    """Takes and keeps reservations, one transaction at a time: what comes meanwhile shares the next one."""

    def __init__(self, store: BudgetStore) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._abandoned: list[str] = []
        self._open: dict[Holds, float] = {}
        self._taking: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, caller: Caller, amount_nano_usd: int) -> Hold | None:
        """Reserve from all budgets of a caller; None: it does not fit.

        Raises:
            StorageError: the database cannot be reached; nothing is reserved.
        """
        claim = Claim(id=uuid_id(), caller=caller, amount_nano_usd=amount_nano_usd)
        future: asyncio.Future[Hold | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((claim, future))
        if self._taking is None:
            self._taking = asyncio.create_task(self._take_all())
        return await future

    def keep(self, holds: Holds) -> None:
        """Renew these until they are closed."""
        self._open.setdefault(holds, time.monotonic())
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    async def close(self) -> None:
        """Stop renewing; what is still reserved ends by itself."""
        tasks = [task for task in (self._taking, self._renewing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                await self._take(batch)
        finally:
            self._taking = None

    async def _take(self, batch: list[_Waiting]) -> None:
        abandoned, self._abandoned = self._abandoned, []
        now = now_s()
        try:
            holds = await self._store.reserve(
                [claim for claim, _ in batch], now=now, until=now + _LEASE_S, abandoned=abandoned
            )
        except Exception as err:  # noqa: BLE001 - told to whoever waits
            for _, future in batch:
                if not future.done():
                    future.set_exception(err)
            return
        for (claim, future), hold in zip(batch, holds, strict=True):
            if not future.done():
                future.set_result(hold)
            elif hold is not None:
                # Its caller went away meanwhile.
                self._abandoned.append(claim.id)

    async def _renew(self) -> None:
        try:
            while self._open:
                await asyncio.sleep(_RENEW_S)
                self._open = {holds: since for holds, since in self._open.items() if holds.is_open}
                old = time.monotonic() - _RENEW_S / 2
                ids = [
                    hold.id
                    for holds, since in self._open.items()
                    if since < old
                    for hold in holds.taken
                ]
                if ids or self._abandoned:
                    await self._keep(ids)
        finally:
            self._renewing = None

    async def _keep(self, ids: list[str]) -> None:
        abandoned, self._abandoned = self._abandoned, []
        try:
            await self._store.renew(ids, until=now_s() + _LEASE_S, abandoned=abandoned)
        except StorageError as err:
            # Tried again long before they end.
            _log.warning("budget reservations could not be renewed: %s", err)
