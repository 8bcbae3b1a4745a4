"""The claim of one Idempotency-Key by one request: a lease in the database, renewed while the request runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from maniac_common.supervised import supervised

from maniac_core.domain.chat import Choice
from maniac_core.domain.completions import CompletionRecord, KeyClaim
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import elapsed_s, now_s, uuid_id
from maniac_core.services.capture.capture import Call
from maniac_core.storage.base import ClaimLostError, StorageError
from maniac_core.storage.stores.idempotency import IdempotencyStore, KeyState

_log = logging.getLogger(__name__)
_KEPT_S = 24 * 3600
_LEASE_S = 30
_RENEW_S = 10
_MARGIN_S = 2
"""The database counts whole seconds, and clocks need not run at the same speed."""
_MAX_KEY_LENGTH = 256
_SUPERSEDED = "This request was held up, and a repetition of it has its Idempotency-Key; that one's answer counts."


class KeyLease:
    """The claim of one key by one request.

    As a context it is renewed, and released at the end unless the request was completed. Nobody who is cancelled waits
    for that: it is done in tasks that `start` begins.
    """

    def __init__(
        self,
        keys: IdempotencyStore,
        call: Call,
        key: str,
        fingerprint: bytes,
        *,
        is_optional: bool,
        remember: Callable[[CompletionRecord, list[Choice]], None],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        running: dict[tuple[int, str], KeyLease],
    ) -> None:
        if len(key) > _MAX_KEY_LENGTH:
            raise GatewayError(
                Reason.ERROR_REASON_INVALID_VALUE,
                f"The Idempotency-Key is longer than {_MAX_KEY_LENGTH} characters.",
            )
        self.fingerprint = fingerprint
        self.place = (call.caller.project, key)
        """The key, among those of all projects."""
        self.ended = asyncio.Event()
        """Set once this core has done with the key."""
        self._keys = keys
        self._key = key
        self._owner = uuid_id()
        self._is_optional = is_optional
        self._remember = remember
        self._start = start
        self._running = running
        self._is_taken = False
        self._is_lost = False
        self._sure_until = 0.0
        """Until then nobody can have taken the key over, in `elapsed_s`."""
        self._recorded: asyncio.Future[None] | None = None

    @property
    def given(self) -> KeyClaim | None:
        """The claim that the record of the request carries."""
        if not self._is_taken:
            return None
        return KeyClaim(key=self._key, owner=self._owner, until=now_s() + _KEPT_S)

    def answered(
        self, record: CompletionRecord, choices: list[Choice], pending: asyncio.Future[None]
    ) -> None:
        """The request is completed; its key is not to be released unless the record cannot be kept."""
        self._recorded = pending
        if not record.store:
            # Set before the commit: a waiter may read the row before this task is resumed.
            self._remember(record, choices)

    @property
    def is_doubtful(self) -> bool:
        """Whether another request may have the key by now."""
        return self._is_taken and (self._is_lost or elapsed_s() > self._sure_until)

    async def confirm(self) -> None:
        """Return if the key is still this request's.

        Raises:
            GatewayError: CONFLICT: another request has taken it over; DEPENDENCY_UNAVAILABLE.
        """
        await self._renew_once()
        if self._is_lost:
            lost = ClaimLostError("another request has the key")
            raise GatewayError(Reason.ERROR_REASON_CONFLICT, _SUPERSEDED) from lost

    async def take(self) -> bool:
        """Try to claim the key; also True if it cannot be claimed and the request runs without it."""
        self._running[self.place] = self
        started = elapsed_s()
        claiming = asyncio.ensure_future(
            self._keys.claim(
                *self.place, fingerprint=self.fingerprint, owner=self._owner, lease_s=_LEASE_S
            )
        )
        try:
            self._is_taken = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The database takes the claim all the same.
            self._start(self._give_up(claiming))
            raise
        except StorageError as err:
            if not self._is_optional:
                self._end()
                raise
            _log.warning(
                "a request is answered although its idempotency key is not claimed: %s", err
            )
            return True
        if not self._is_taken:
            self._end()
        self._sure_until = started + _LEASE_S - _MARGIN_S
        return self._is_taken

    async def find(self) -> KeyState | None:
        """Return what the key stands for."""
        try:
            return await self._keys.find(*self.place, lease_s=_LEASE_S)
        except StorageError:
            if self._is_optional:
                return None
            raise

    async def __aenter__(self) -> None:
        """Renew the claim from now on."""
        self._renewer = asyncio.create_task(supervised("renewing a key's lease", self._renew))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Free the key unless its request was answered."""
        settling = self._start(self._settle())
        if kind is None or issubclass(kind, Exception):
            # The caller may repeat the request as soon as it has received the failure.
            await asyncio.shield(settling)

    async def _renew(self) -> None:
        while self._is_taken and not self._is_lost:
            await asyncio.sleep(_RENEW_S)
            # A database that is away is asked again; the record finds out whether the key was taken over.
            with contextlib.suppress(StorageError):
                await self._renew_once()

    async def _renew_once(self) -> None:
        started = elapsed_s()
        if await self._keys.renew(*self.place, owner=self._owner, lease_s=_LEASE_S):
            self._sure_until = started + _LEASE_S - _MARGIN_S
        else:
            self._is_lost = True

    async def _settle(self) -> None:
        try:
            if not await self._is_recorded() and self._is_taken:
                await self._release()
        finally:
            self._renewer.cancel()
            self._end()

    def _end(self) -> None:
        del self._running[self.place]
        self.ended.set()

    async def _is_recorded(self) -> bool:
        if self._recorded is None:
            return False
        await asyncio.wait([self._recorded])
        return not self._recorded.cancelled() and self._recorded.exception() is None

    async def _give_up(self, claiming: asyncio.Future[bool]) -> None:
        try:
            await asyncio.wait([claiming])
            if claiming.exception() is None and claiming.result():
                await self._release()
        finally:
            self._end()

    async def _release(self) -> None:
        try:
            await self._keys.release(*self.place, owner=self._owner)
        except StorageError as err:
            # The claim runs out by itself.
            _log.warning("an idempotency key could not be released: %s", err)


def is_superseded(error: GatewayError) -> bool:
    """Whether a request got no answer because another one has taken its key over."""
    return isinstance(error.__cause__, ClaimLostError)
