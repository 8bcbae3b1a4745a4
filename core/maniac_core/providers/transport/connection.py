"""One HTTP/1.1 connection: an asyncio protocol that carries one exchange at a time.

The hot path is free of tasks, locks and timers: a wait costs one future, and a deadline is a number
which a timer, armed about once in a deadline's length, compares with the clock.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol, cast

from maniac_core.providers.transport.base import TransportError, TransportErrorKind
from maniac_core.providers.transport.parsing import ParsingError, ResponseParser
from maniac_core.providers.transport.response import HttpResponse

MAX_BUFFERED_BYTES = 262_144
"""Unread body bytes at which reading from the socket pauses."""

# A reused connection that is reset so soon after a request was written had been closed before: no server has worked on
# the request by then. Later, sending it again could pay for it twice.
STALE_WITHIN_S = 0.010

# Joining head and body copies the body; from this size on a second buffer is cheaper.
_JOIN_LIMIT_BYTES = 65_536


class ConnectionOwner(Protocol):
    """The keeper of connections between exchanges."""

    def release(self, connection: Connection) -> None:
        """Take back an open connection whose exchange is over."""

    def discard(self, connection: Connection) -> None:
        """Forget a connection which is being closed; called once."""

    def lost(self, connection: Connection) -> None:
        """Note that the socket is closed now; called once, after `discard`."""


class Connection(asyncio.Protocol):
    """A connection to one origin: `is_open`, and idle when it has no exchange."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: ConnectionOwner,
        origin: str,
        max_header_bytes: int,
    ) -> None:
        self.is_open = False
        self.idle_until = 0.0
        """Loop time after which the pool must not reuse it."""
        self._loop = loop
        self._owner = owner
        self.origin = origin
        self._parser = ResponseParser(max_header_bytes)
        self._transport = cast("asyncio.Transport", None)
        self._response: HttpResponse | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_reused = False
        self._is_paused = False
        self._write_paused = False
        self._unsent_bytes = 0
        self._started_at = 0.0
        self._headers_s: float | None = None
        self._deadline = math.inf
        self._is_poll = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def keep_alive_s(self) -> float | None:
        """How long the server said it keeps the idle connection, None if it did not say."""
        return self._parser.keep_alive_s

    def start(
        self, response: HttpResponse, head: bytes, body: bytes, headers_s: float | None
    ) -> asyncio.Future[None]:
        """Write a request; the future ends when `response` has its head or its error."""
        self._response = response
        self._parser.begin(response, is_head_method=head.startswith(b"HEAD "))
        self._headers_s = headers_s
        self._started_at = self._loop.time()
        waiter = self.wait(headers_s)
        if len(body) < _JOIN_LIMIT_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return waiter

    def wait(self, timeout_s: float | None, *, is_poll: bool = False) -> asyncio.Future[None]:
        """Return a future that ends at the next progress, failure or timeout of the exchange.

        The timeout of a poll leaves the exchange going, any other aborts it.
        """
        if self._waiter is not None:
            raise RuntimeError("another read() is waiting on this response")
        waiter = self._waiter = self._loop.create_future()
        self._is_poll = is_poll
        if timeout_s is None:
            self._deadline = math.inf
        else:
            deadline = self._deadline = self._loop.time() + timeout_s
            if deadline < self._timer_at:
                self._arm(deadline)
        return waiter

    def resume(self) -> None:
        """Go on reading if a full buffer had stopped it."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, waking every waiter; idempotent."""
        if not self.is_open:
            return
        self.is_open = False
        self._response = None
        self._wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()
        self._owner.discard(self)

    def fail(
        self, kind: TransportErrorKind, what: str, *, cause: BaseException | None = None
    ) -> None:
        """Close, and end the exchange, if there is one, with an error."""
        response = self._response
        if response is not None:
            response.error = TransportError(kind, f"{self.origin}: {what}", sent=True)
            response.error.__cause__ = cause
            # A server may close a kept-alive connection at any time, also while a request is on
            # its way; the request that finds it closed deserves another connection.
            response.is_stale = (
                kind is TransportErrorKind.RESET
                and self._is_reused
                and not self._parser.head_bytes
                and self._loop.time() - self._started_at <= STALE_WITHIN_S
            )
            response.source = None
        self.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as an idle connection."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Parse response bytes; those that belong to no exchange close the connection."""
        response = self._response
        if response is None:
            self.abort()
            return
        parser = self._parser
        was_in_head = parser.in_head
        try:
            parser.feed(data)
        except ParsingError as error:
            self.fail(error.kind, str(error), cause=error)
            return
        if parser.is_complete:
            self._finish(response)
            return
        if response.buffered > MAX_BUFFERED_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        if response.chunks or was_in_head is not parser.in_head:
            self._wake()

    def eof_received(self) -> None:
        """Take the end of the stream as the end of an unframed body, or as a failure."""
        response = self._response
        if response is not None and not self._parser.in_head and self._parser.is_until_close:
            self._finish(response)
        else:
            self._fail_lost("connection closed", None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was going on, unless this side closed."""
        if self.is_open:
            self._fail_lost("connection lost" if exc is None else f"connection lost: {exc}", exc)
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """Note that much of the request is still unsent."""
        self._write_paused = True
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._restart_head_deadline()

    def resume_writing(self) -> None:
        """Note that the request, however big, has been written."""
        self._write_paused = False
        self._restart_head_deadline()

    def _restart_head_deadline(self) -> None:
        """Count from now: copying or sending a big request has taken a while."""
        if self._waiter is not None and self._parser.in_head and self._headers_s is not None:
            self._deadline = self._loop.time() + self._headers_s

    def _finish(self, response: HttpResponse) -> None:
        """Detach a response that has arrived completely, and make the connection available."""
        response.ended = True
        response.source = None
        self._response = None
        self._wake()
        if (
            self._parser.may_be_reused
            and not self._transport.is_closing()
            # An answer that came before the request was sent leaves the rest of that in the way.
            and not self._transport.get_write_buffer_size()
        ):
            self._is_reused = True
            self.resume()
            self._owner.release(self)
        else:
            self.abort()

    def _fail_lost(self, what: str, cause: Exception | None) -> None:
        """Name the failure after how much of a response had come."""
        if self._parser.in_head:
            is_cut = self._parser.head_bytes > 0
            where = "inside the response head" if is_cut else "before a response"
        else:
            is_cut = not self._parser.is_until_close
            where = "inside the body"
        kind = TransportErrorKind.TRUNCATED if is_cut else TransportErrorKind.RESET
        self.fail(kind, f"{what} {where}", cause=cause)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)
        self._timer_at = when

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        response = self._response
        if self._waiter is None or response is None or self._deadline == math.inf:
            return
        now = self._loop.time()
        if now < self._deadline:
            # The timer was armed for an earlier wait, which ended in time.
            self._arm(self._deadline)
        elif not self._parser.in_head:
            if self._is_poll:
                response.timed_out = True
                self._wake()
            else:
                self.fail(TransportErrorKind.IDLE_TIMEOUT, "no body bytes within the idle timeout")
        elif self._headers_s is not None and self._is_still_sending():
            self._deadline = now + self._headers_s
            self._arm(self._deadline)
        else:
            self.fail(
                TransportErrorKind.HEADERS_TIMEOUT, f"no response head within {self._headers_s} s"
            )

    def _is_still_sending(self) -> bool:
        """Tell whether the server has taken more of the request since this was last asked."""
        before = self._unsent_bytes
        self._unsent_bytes = self._transport.get_write_buffer_size()
        return self._write_paused and self._unsent_bytes < before
