"""Reservations: taken from an advance, or from the database, together when several wait; renewed while requests run.

A reservation that is not renewed for two minutes is taken for spent: its core is gone, and nobody knows whether its
request was paid for. A core that was only held up renews it, or settles it with the request's record.
"""

from __future__ import annotations

import asyncio
import logging
import time

from maniac_common.supervised import supervised

from maniac_core.domain.budgets import Hold
from maniac_core.domain.callers import Caller, Spender
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.services.billing.advances import REQUESTS, ROOM, Advances
from maniac_core.services.capture.holds import Holds
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.budgets import BudgetStore, Claim

_log = logging.getLogger(__name__)
_LEASE_S = 120
_RENEW_S = 30.0
_TICK_S = 1.0
_MAX_BATCH = 256
_MAX_UNUSED = 10_000
_Waiting = tuple[Claim, "asyncio.Future[Hold | None]"]


class Reservations:
    """Takes and keeps reservations, one transaction at a time: what comes meanwhile shares the next one."""

    def __init__(self, store: BudgetStore, holder: str = "") -> None:
        """`holder`: the name of this process, by which another one finds what it left behind."""
        self._store = store
        self._holder = holder
        self._advances = Advances()
        self._waiting: list[_Waiting] = []
        self._unused: list[Hold] = []
        """The reservations to release with the next transaction."""
        self._returning = 0
        """How many are given back by the transactions that run."""
        self._generation = 0
        self._open: dict[Holds, float] = {}
        self._taking: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def take(self, caller: Caller, amount_nano_usd: int) -> Hold | None:
        """Reserve from all budgets of a caller; None: it does not fit.

        Raises:
            StorageError: the database cannot be reached; nothing is reserved.
        """
        hold = self._advances.take(caller, amount_nano_usd, now_s())
        if hold is not None:
            if self._advances.are_wanted:
                self._start_taking()
            return hold
        claim = Claim(id=uuid_id(), caller=caller, amount_nano_usd=amount_nano_usd)
        future: asyncio.Future[Hold | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((claim, future))
        self._start_taking()
        try:
            return await future
        except asyncio.CancelledError:
            # The caller may have left after the reservation and before its notification.
            if not future.cancelled() and (hold := _reserved(future)) is not None:
                self._unused.append(hold)
                self._watch()
            raise

    def keep(self, holds: Holds) -> None:
        """Renew these until they are closed."""
        self._open.setdefault(holds, time.monotonic())
        self._watch()

    def recall(self) -> None:
        """End all advances: budgets were changed, and what was reserved ahead was so by the old ones."""
        self._generation += 1
        self._give_back(self._advances.remove_all())

    def recall_of(self, caller: Caller) -> bool:
        """End the advances that may hold what a caller lacks: those of its organization.

        Returns whether anything comes back with the next transaction, or with one that runs.
        """
        self._give_back(self._advances.remove_of(caller.organization))
        return bool(self._unused or self._returning)

    async def close(self) -> None:
        """Give back what was reserved ahead, and stop renewing; what running requests hold their records settle."""
        if self._taking is not None:
            # Cancelled, it would not know what was reserved, and nobody could use that before it ends by itself.
            await asyncio.wait([self._taking])
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        self._unused += self._advances.remove_all()
        if self._unused:
            await self._renew([])

    def _start_taking(self) -> None:
        if self._taking is None:
            self._taking = asyncio.create_task(self._take_all())

    async def _take_all(self) -> None:
        try:
            while self._waiting or self._advances.are_wanted:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                try:
                    await self._take(batch)
                except Exception as err:  # noqa: BLE001 - told to whoever waits; the others are served
                    _log.exception("budget reservations could not be taken")
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(StorageError(f"{type(err).__name__}: {err}"))
        finally:
            self._taking = None

    async def _take(self, batch: list[_Waiting]) -> None:
        now, generation = now_s(), self._generation
        # The transaction before this one may have brought an advance.
        batch = [waiting for waiting in batch if not self._serve_from_advance(*waiting, now)]
        largest: dict[Spender, Claim] = {}
        for claim, _ in batch:
            other = largest.get(claim.caller.spender)
            if other is None or other.amount_nano_usd < claim.amount_nano_usd:
                largest[claim.caller.spender] = claim
        self._unused += self._advances.remove(largest)
        # After what is wanted now, so that none of it is refused for what is wanted later.
        ahead = [_ahead(one.caller, REQUESTS * one.amount_nano_usd) for one in largest.values()]
        ahead += [_ahead(caller, amount) for caller, amount in self._advances.take_wanted()]
        if not batch and not ahead:
            return
        unused, self._unused = self._unused, []
        self._returning += len(unused)
        try:
            holds = await self._store.reserve(
                [claim for claim, _ in batch] + ahead,
                now=now,
                lease_s=_LEASE_S,
                holder=self._holder,
                unused=unused,
            )
        except Exception as err:  # noqa: BLE001 - passed to the waiters
            self._keep_for_later(unused)
            # It may have taken place all the same, and nobody would use what it reserved.
            self._keep_for_later(
                [
                    Hold(id=claim.id, amount_nano_usd=claim.amount_nano_usd, windows=())
                    for claim in (*(claim for claim, _ in batch), *ahead)
                ]
            )
            for _, future in batch:
                if not future.done():
                    future.set_exception(err)
            if not batch:
                _log.warning("budgets: nothing could be reserved ahead: %s", err)
            return
        finally:
            self._returning -= len(unused)
        for (_, future), hold in zip(batch, holds, strict=False):
            if not future.done():
                future.set_result(hold)
            elif hold is not None:
                # Its caller went away meanwhile.
                self._unused.append(hold)
        for claim, hold in zip(ahead, holds[len(batch) :], strict=True):
            if hold is None:
                self._advances.refuse(claim.caller)
            elif generation == self._generation:
                self._unused += self._advances.add(claim.caller, hold, now)
            else:
                # Reserved by budgets that were changed meanwhile.
                self._unused.append(hold)
        self._watch()

    def _serve_from_advance(
        self, claim: Claim, future: asyncio.Future[Hold | None], now: int
    ) -> bool:
        if future.done():
            return True
        hold = self._advances.take(claim.caller, claim.amount_nano_usd, now)
        if hold is not None:
            future.set_result(hold)
        return hold is not None

    def _keep_for_later(self, unused: list[Hold]) -> None:
        # Nobody knows whether the transaction took place. To give back a request's part twice would free what others
        # hold: it stays charged.
        self._unused += [hold for hold in unused if hold.is_rest or not hold.is_part]
        # A long outage is not to fill the memory; what is forgotten stays charged.
        del self._unused[:-_MAX_UNUSED]
        self._watch()

    def _give_back(self, unused: list[Hold]) -> None:
        self._unused += unused
        if unused:
            self._watch()

    def _watch(self) -> None:
        if self._keeping is None:
            self._keeping = asyncio.create_task(
                supervised("keeping budget reservations", self._keep)
            )
            self._keeping.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        if self._keeping is task:
            self._keeping = None

    async def _keep(self) -> None:
        """Give back what is idle every second, renew what is in use every half minute; ends when there is nothing."""
        renewed = time.monotonic()
        while self._open or self._advances or self._unused:
            await asyncio.sleep(_TICK_S)
            self._unused += self._advances.remove_idle(now_s())
            self._open = {holds: since for holds, since in self._open.items() if holds.is_open}
            ids: set[str] = set()
            if time.monotonic() - renewed >= _RENEW_S:
                renewed = time.monotonic()
                ids = self._to_renew(renewed - _RENEW_S / 2)
            if ids or self._unused:
                await self._renew(sorted(ids))
        # Not only when the task is done: what is to be kept from now on needs a new one.
        self._keeping = None

    def _to_renew(self, older_than: float) -> set[str]:
        """Return what is to last longer: advances, and the reservations of requests that run for a while."""
        ids = set(self._advances.ids())
        for holds, since in self._open.items():
            if since < older_than:
                ids.update(hold.id for hold in holds.taken)
        return ids

    async def _renew(self, ids: list[str]) -> None:
        unused, self._unused = self._unused, []
        self._returning += len(unused)
        try:
            await self._store.renew(ids, lease_s=_LEASE_S, unused=unused)
        except StorageError as err:
            # Tried again in half a minute.
            self._keep_for_later(unused)
            _log.warning("budget reservations could not be renewed: %s", err)
        except Exception:
            self._keep_for_later(unused)
            raise
        finally:
            self._returning -= len(unused)


def _reserved(future: asyncio.Future[Hold | None]) -> Hold | None:
    return future.result() if future.done() and future.exception() is None else None


def _ahead(caller: Caller, amount_nano_usd: int) -> Claim:
    return Claim(
        id=uuid_id(),
        caller=caller,
        amount_nano_usd=amount_nano_usd,
        room_nano_usd=ROOM * amount_nano_usd,
        is_ahead=True,
    )
