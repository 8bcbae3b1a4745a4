"""A raw HTTP/1.1 client for load: keep-alive, one request after another, next to no cost per response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httptools

from bench.mock_upstream import DELTA

_DELTA = DELTA.encode()
_DONE = b"data: [DONE]"
_TAIL = max(len(_DELTA), len(_DONE)) - 1


class Exchange:
    """One request and what came back; times are `time.perf_counter` seconds."""

    __slots__ = ("body", "deltas", "ended", "first_delta", "is_done", "sent", "status", "tail")

    def __init__(self, sent: float) -> None:
        self.sent = sent
        self.status = 0
        self.ended = 0.0
        self.first_delta: float | None = None
        self.deltas = 0
        self.is_done = False
        self.tail = b""
        self.body = b""
        """The start of the body, to say what was wrong."""


class Connection(asyncio.Protocol):
    """Sends a request whenever `after` says so, and opens itself again when the server closes.

    `after` gets each finished exchange and returns the next request, or None to stop; it is called with None first.
    """

    def __init__(
        self,
        address: tuple[str, int],
        after: Callable[[Exchange | None], bytes | None],
        *,
        is_stream: bool,
    ) -> None:
        self._address = address
        self._after = after
        self._is_stream = is_stream
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._next: bytes | None = None
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self.cuts = 0
        """Answers that ended with the connection, not with their end."""

    async def run(self) -> None:
        """Send and receive until stopped.

        Raises:
            OSError: the server does not take connections.
        """
        self._next = self._after(None)
        try:
            while self._next is not None:
                self._finished = self._loop.create_future()
                await self._loop.create_connection(lambda: self, *self._address)
                await self._finished
        finally:
            if self._transport is not None:
                self._transport.close()

    def connection_made(self, transport: Any) -> None:
        """Send the request that waits."""
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # Fixed by asyncio.
        """Count an answer that was cut; `run` opens the next connection."""
        self._transport = None
        if self._exchange is not None:
            self.cuts += 1
            self._end()
        if not self._finished.done():
            self._finished.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Parse; what is not HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._transport is not None
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        """Count deltas in a piece of a body."""
        exchange = self._exchange
        assert exchange is not None
        if len(exchange.body) < 500:
            exchange.body += body[:500]
        if not self._is_stream:
            return
        # A delta may be cut by the end of a segment: the last bytes are looked at again.
        seen = exchange.tail + body
        found = seen.count(_DELTA)
        if found and exchange.first_delta is None:
            exchange.first_delta = time.perf_counter()
        exchange.deltas += found
        exchange.is_done = exchange.is_done or _DONE in seen
        # What was counted must not be counted again.
        end = seen.rfind(_DELTA)
        rest = seen[end + len(_DELTA) :] if end >= 0 else seen
        exchange.tail = rest[-_TAIL:]

    def on_message_complete(self) -> None:
        """End the exchange and begin the next."""
        assert self._exchange is not None
        self._exchange.status = self._parser.get_status_code()
        self._end()
        if self._transport is not None and not self._transport.is_closing():
            if self._parser.should_keep_alive():
                self._send()
            else:
                self._transport.close()

    def _end(self) -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.ended = time.perf_counter()
        self._next = self._after(exchange)

    def _send(self) -> None:
        assert self._transport is not None
        if self._next is None:
            self._transport.close()
            return
        self._exchange = Exchange(time.perf_counter())
        self._transport.write(self._next)
