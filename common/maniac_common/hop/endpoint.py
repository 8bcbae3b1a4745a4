"""Endpoint: a connection on a socket of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from maniac_common.hop.connection import Connection
from maniac_common.hop.watch import TICK_S

# What the socket has not taken yet, above which nothing more is given to it.
_HIGH_WATER_BYTES = 256 * 1024
# A peer that does not take the last bytes in this time does not get them.
_LINGER_S = 2.0


def _nothing(_endpoint: Endpoint) -> None:
    """Nobody wants to know."""


class Endpoint(asyncio.Protocol):
    """Reads and writes; what is received and sent within one turn of the loop is one write."""

    def __init__(
        self,
        connection: Connection,
        on_made: Callable[[Endpoint], None] = _nothing,
        on_lost: Callable[[Endpoint], None] = _nothing,
    ) -> None:
        """`on_made` and `on_lost` are called once each, when the socket is open and when it is closed."""
        self.connection = connection
        connection.flush = self.flush
        self._on_made = on_made
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)
        self._timer: asyncio.TimerHandle | None = None
        self._is_receiving = False
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self._on_made(self)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._is_receiving = True
        try:
            self.connection.receive(data)
        finally:
            self._is_receiving = False
            if self.connection.out or self.connection.is_closed:
                self.flush()

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self.connection.is_writable = False

    def resume_writing(self) -> None:
        """The socket takes more again."""
        self.connection.is_writable = True
        self.connection.resume()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_closing = True
        self.connection.lost(f"the connection broke: {exc}" if exc else "the connection was closed")
        self._on_lost(self)

    def flush(self) -> None:
        """Write what is to be sent, unless that is done when what came was handled."""
        if self._is_receiving or self._is_closing:
            return
        if self.connection.out:
            self._transport.write(self.connection.take())
        if self.connection.is_closed:
            self.close()

    def close(self) -> None:
        """Close, after what was written."""
        if not self._is_closing:
            self._is_closing = True
            if self.connection.out:
                self._transport.write(self.connection.take())
            self._transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(_LINGER_S, self.abort)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self.connection.tick()
        self.flush()
