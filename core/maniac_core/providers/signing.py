"""Credentials that expire: got and renewed away from requests, and added to what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from maniac_core.providers.base import HttpCall

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
# Renewed so long before they expire, or after half of their time if that is short.
_MARGIN_S = 225.0
# After a failure the next one who asks is told the same for so long, and the background tries again.
_SULK_S = 5.0
_PAUSE_S = 30.0
# Those that are younger are not the reason for a refusal.
_YOUNG_S = 10.0


class CredentialsError(Exception):
    """There are no credentials. The text is for the operator and for callers: it holds nothing secret."""


class Signer(Protocol):
    """Adds a provider's credentials to requests."""

    async def sign(self, call: HttpCall) -> HttpCall:
        """Return a request with the credentials in its headers; waits only where there are none that are valid.

        Raises:
            CredentialsError: there are none.
        """

    async def keep_fresh(self) -> None:
        """Renew the credentials before they expire, for ever."""

    def refused(self) -> None:
        """Tell that the provider refused the credentials, so that others are got."""


class Renewed(Generic[_T]):
    """A value that expires, got by a blocking function in a thread: by one at a time, whoever asks."""

    def __init__(self, provider: str, fetch: Callable[[], tuple[_T, float]]) -> None:
        """`fetch` returns the value and for how many seconds it is valid, or raises CredentialsError."""
        self._provider = provider
        self._fetch = fetch
        self._value: _T | None = None
        self._got_at = 0.0
        self._good_until = 0.0
        self._error: CredentialsError | None = None
        self._task: asyncio.Task[_T] | None = None

    async def get(self) -> _T:
        """Return a value that is valid.

        Raises:
            CredentialsError: there is none.
        """
        now = time.monotonic()
        if self._value is not None and now < self._good_until:
            return self._value
        if self._error is not None and now < self._got_at + _SULK_S:
            raise CredentialsError(str(self._error))
        return await self._renew()

    async def keep_fresh(self) -> None:
        """Renew the value before it expires, for ever."""
        told = ""
        while True:
            try:
                await self._renew()
            except CredentialsError as err:
                if told != str(err):
                    _log.warning("provider %s has no credentials: %s", self._provider, err)
                told = str(err)
                await asyncio.sleep(_PAUSE_S)
            else:
                told = ""
                left_s = self._good_until - time.monotonic()
                await asyncio.sleep(max(1.0, left_s - min(_MARGIN_S, left_s / 2)))

    def forget(self) -> None:
        """Get another value for the next one who asks, unless this one has just come."""
        if time.monotonic() > self._got_at + _YOUNG_S:
            self._value = None

    async def _renew(self) -> _T:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
            # All who wait may have gone when it fails.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._task)

    async def _run(self) -> _T:
        try:
            value, valid_s = await _in_thread(self._fetch)
        except CredentialsError as err:
            self._error = err
            raise
        except Exception:  # noqa: BLE001 - told to whoever waits
            # What a library for credentials raises is not always what it says.
            _log.exception("getting the credentials of provider %s failed", self._provider)
            self._error = CredentialsError("they could not be got: see the log")
            raise self._error from None
        else:
            self._value, self._error = value, None
            self._good_until = time.monotonic() + valid_s
            return value
        finally:
            self._got_at = time.monotonic()


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Do what blocks in a thread of its own, which keeps no process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def tell(how: Callable[[], None]) -> None:
        # The loop may have ended, and with it whoever waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if done.done() else how())

    def run() -> None:
        try:
            result = work()
        except Exception as err:  # noqa: BLE001 - whatever it is, it is for who waits
            error = err
            tell(lambda: done.set_exception(error))
        else:
            tell(lambda: done.set_result(result))

    threading.Thread(target=run, name="credentials", daemon=True).start()
    return await done
