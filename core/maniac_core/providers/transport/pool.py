"""The connections to one origin: reused last in first out, bounded, queued for first come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from maniac_core.providers.transport.base import TransportError, TransportErrorKind
from maniac_core.providers.transport.connection import Connection


class OriginPool:
    """Connections and the slots they take, at most `max_connections` of them.

    A slot is taken before a connection is opened and given back when it is closed.
    A freed slot or connection goes straight to the first waiting caller, so nobody overtakes: while
    anyone waits, every slot is taken and no connection is idle.
    """

    def __init__(
        self,
        connect: Callable[[OriginPool], Awaitable[Connection]],
        *,
        origin: str,
        max_connections: int,
        idle_expiry_s: float,
    ) -> None:
        self._connect = connect
        self.origin = origin
        self._max_connections = max_connections
        self._idle_expiry_s = idle_expiry_s
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._slots_taken = 0
        # A waiter gets an idle connection, or None for a slot that is already counted as its own.
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._slot_holders: set[Connection] = set()
        self._unclosed: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._all_lost: asyncio.Event | None = None
        self._is_closed = False

    @property
    def slots_taken(self) -> int:
        """Connections that are open or being opened."""
        return self._slots_taken

    @property
    def idle_count(self) -> int:
        """Connections waiting to be reused."""
        return len(self._idle)

    def take_idle(self) -> Connection | None:
        """Return the connection that went idle last, None if there is none to reuse."""
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_until > self._loop.time():
                return connection
            connection.abort()
        return None

    async def acquire(self, *, fresh: bool) -> Connection:
        """Return a connection to start an exchange on, queueing while all slots are taken.

        With `fresh` it is a new one, and the caller, who has waited before, queues in front.

        Raises:
            TransportError: CLOSED, or what opening a connection failed with.

        """
        first = fresh
        while not self._is_closed:
            if not fresh and (idle := self.take_idle()) is not None:
                return idle
            if self._slots_taken < self._max_connections:
                self._slots_taken += 1
                return await self._open()
            offered = self._idle.pop(0) if fresh and self._idle else await self._queue(first=first)
            if offered is None:
                return await self._open()
            if offered.is_open:
                if not fresh:
                    return offered
                # Of this one only the slot is wanted.
                self._slot_holders.discard(offered)
                offered.abort()
                return await self._open()
            # It was closed on its way here; keep the place in the queue.
            first = True
        raise self._closed()

    def release(self, connection: Connection) -> None:
        """Keep a connection for reuse, or hand it to the first waiter."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
            return
        expiry_s = self._idle_expiry_s
        if connection.keep_alive_s is not None:
            expiry_s = min(expiry_s, connection.keep_alive_s)
        connection.idle_until = self._loop.time() + expiry_s
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_at(connection.idle_until, self._close_expired)

    def discard(self, connection: Connection) -> None:
        """Free the slot of a connection that is being closed."""
        if connection in self._slot_holders:
            self._slot_holders.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._free_slot()

    def lost(self, connection: Connection) -> None:
        """Note that the socket of a connection is closed."""
        self._unclosed.discard(connection)
        if self._all_lost is not None and not self._unclosed:
            self._all_lost.set()

    async def aclose(self) -> None:
        """Abort all connections and return when their sockets are closed; waiters get CLOSED."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(self._closed())
        for connection in list(self._unclosed):
            connection.fail(TransportErrorKind.CLOSED, "transport is closed")
        self._all_lost = asyncio.Event()
        if self._unclosed:
            await self._all_lost.wait()

    async def _open(self) -> Connection:
        """Open a connection in a slot that is already taken."""
        try:
            connection = await self._connect(self)
        except BaseException:
            self._free_slot()
            raise
        if not connection.is_open:
            self._free_slot()
            raise TransportError(
                TransportErrorKind.CONNECT,
                f"{self.origin}: connection closed as soon as it was open",
                sent=False,
            )
        self._slot_holders.add(connection)
        self._unclosed.add(connection)
        if self._is_closed:
            connection.abort()
            raise self._closed()
        return connection

    async def _queue(self, *, first: bool) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            # Cancelled after something was handed over, but before this task could take it.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                offered = waiter.result()
                if offered is None:
                    self._free_slot()
                elif offered.is_open:
                    self.release(offered)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _free_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._slots_taken -= 1

    def _close_expired(self) -> None:
        self._sweep = None
        now = self._loop.time()
        for connection in [idle for idle in self._idle if idle.idle_until <= now]:
            connection.abort()
        if self._idle:
            when = min(connection.idle_until for connection in self._idle)
            self._sweep = self._loop.call_at(when, self._close_expired)

    def _closed(self) -> TransportError:
        return TransportError(
            TransportErrorKind.CLOSED, f"{self.origin}: transport is closed", sent=False
        )
