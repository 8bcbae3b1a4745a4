"""One call on a connection: its messages, its flow control, and how it ends."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from maniac_common.hop import calls, frames
from maniac_common.hop.calls import Status
from maniac_common.hop.frames import ErrorCode
from maniac_common.hop.hpack import Headers

WINDOW = 1024 * 1024
"""Bytes that a peer may send ahead, once it is known."""
_PREFIX_BYTES = 5
_PREFIX = struct.Struct(">BL")
# The heads of a frame of data and of the message that is all of it.
_DATA_AND_PREFIX = struct.Struct(">BHBBLBL")


class Sink(Protocol):
    """Who a stream is for. All is called by the event loop, within what received it; nothing may raise."""

    def head(self, metadata: Headers) -> None:
        """The server has begun to answer. On a client only."""

    def message(self, data: bytes) -> None:
        """A message came."""

    def half_closed(self) -> None:
        """The client sends nothing more. On a server only."""

    def ready(self) -> None:
        """After messages had to wait: there is room again."""

    def ended(self, status: Status) -> None:
        """The stream has ended; called once, unless its owner ended it."""


class Carrier(Protocol):
    """What a stream needs of its connection."""

    is_client: bool
    max_message_bytes: int | None
    out: list[bytes | memoryview]
    flush: Callable[[], None]
    is_writable: bool
    send_window: int
    initial_send_window: int
    initial_receive_window: int

    def trust(self) -> None:
        """The peer has shown who it is."""

    def forget(self, stream: Stream) -> None:
        """A stream is over."""

    def headers_frame(self, number: int, headers: Headers, *, is_last: bool) -> bytes:
        """Return the frame of headers."""


class Stream:
    """A call, made by a connection. Nothing is sent before `flush`, or the end of what is being received."""

    def __init__(self, connection: Carrier, number: int, sink: Sink | None) -> None:
        self.number = number
        self.send_window = connection.initial_send_window
        self.receive_window = connection.initial_receive_window
        self.is_receiving = True
        """Whether the peer may send more."""
        self.is_sending = True
        """Whether messages are sent on; those of a stream that is over are dropped."""
        self.flush = connection.flush
        """Writes what was sent."""
        self._connection = connection
        self._sink = sink
        self._has_begun = False
        self._unreturned = 0
        # What came of a message that is not complete, and how long it has to be before a look at it tells more.
        self._buffer = bytearray()
        self._needed = 0
        # What the peer does not take yet, and the frame that ends our side.
        self._unsent: deque[memoryview] = deque()
        self._last = b""

    # What its owner calls.

    @property
    def is_ready(self) -> bool:
        """Whether more can be sent without piling up: nothing waits for the peer."""
        return self.is_sending and not self._unsent and self._connection.is_writable

    def begin(self, metadata: Headers, sink: Sink) -> None:
        """As a server, accept the call."""
        self._has_begun = True
        self._sink = sink
        headers = calls.response_headers(metadata)
        self._connection.out.append(
            self._connection.headers_frame(self.number, headers, is_last=False)
        )
        more = WINDOW - self.receive_window
        self.receive_window += more
        self._connection.out.append(frames.window_update(self.number, more))
        self._connection.trust()

    def send(self, message: bytes) -> None:
        """Send a message. It is kept while the peer has no room for it, so ask `is_ready` before there are many."""
        if not self.is_sending or self._last:
            return
        size = len(message) + _PREFIX_BYTES
        connection = self._connection
        if (
            size <= frames.MAX_FRAME_BYTES
            and size <= self.send_window
            and size <= connection.send_window
            and not self._unsent
        ):
            self.send_window -= size
            connection.send_window -= size
            connection.out.append(
                _DATA_AND_PREFIX.pack(0, size, frames.DATA, 0, self.number, 0, size - _PREFIX_BYTES)
            )
            connection.out.append(message)
            return
        self._unsent.append(memoryview(_PREFIX.pack(0, len(message)) + message))
        self.pump()

    def half_close(self) -> None:
        """As a client, send nothing more."""
        self._end_with(frames.frame(frames.DATA, frames.END_STREAM, self.number))

    def finish(self, status: Status = calls.WELL) -> None:
        """As a server, end the call."""
        self._sink = None
        headers = calls.trailers(status)
        if not self._has_begun:
            headers = calls.response_headers(()) + headers
        self._end_with(self._connection.headers_frame(self.number, headers, is_last=True))

    def refuse_by_http(self, status: str) -> None:
        """As a server, end what is no call."""
        headers = ((":status", status),)
        self._end_with(self._connection.headers_frame(self.number, headers, is_last=True))

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """End the call at once; nothing more is heard of it."""
        if self.is_sending or self.is_receiving:
            self._connection.out.append(frames.rst_stream(self.number, code))
            self._over()

    # What the connection calls.

    def pump(self) -> None:
        """Send what waits, as far as the peer takes it."""
        connection = self._connection
        unsent = self._unsent
        while unsent:
            first = unsent[0]
            count = min(
                len(first), self.send_window, connection.send_window, frames.MAX_FRAME_BYTES
            )
            if count <= 0:
                return
            self.send_window -= count
            connection.send_window -= count
            connection.out.append(frames.head(count, frames.DATA, 0, self.number))
            connection.out.append(first[:count])
            if count == len(first):
                unsent.popleft()
            else:
                unsent[0] = first[count:]
        if self._last:
            connection.out.append(self._last)
            self._last = b""
            self.is_sending = False
            self._sent_last()

    def resume(self) -> None:
        """There may be room again."""
        if self._unsent or self._last:
            self.pump()
        if self._sink is not None and self.is_ready:
            self._sink.ready()

    def grow(self, more: int) -> None:
        """The peer takes more bytes; `more` may be negative when it has changed its mind."""
        self.send_window += more
        if self.send_window > frames.LARGEST:
            self.fail(
                Status(calls.INTERNAL, "the peer's window is too large"),
                ErrorCode.FLOW_CONTROL_ERROR,
            )
        elif more > 0 and self._unsent:
            self.resume()

    def receive_headers(self, headers: Headers, *, is_last: bool) -> None:
        """Take headers after those that opened the stream."""
        if not self.is_receiving:
            self.fail(Status(calls.INTERNAL, "headers came after the end"), ErrorCode.STREAM_CLOSED)
        elif not self._connection.is_client:
            if is_last:
                self.receive_end()
            else:
                self._broken("trailers do not end the stream")
        elif is_last:
            self._ended(calls.status_of_trailers(headers))
        elif self._has_begun:
            self._broken("trailers do not end the stream")
        elif not dict(headers).get(":status", "").startswith("1"):
            failed = calls.failed_head(headers)
            if failed is not None:
                self.fail(failed, ErrorCode.CANCEL)
                return
            self._has_begun = True
            assert self._sink is not None
            self._sink.head(calls.metadata_of(headers))

    def receive_data(self, data: bytes, at: int, end: int, frame_bytes: int) -> None:
        """Take the bytes between two positions; `frame_bytes`: what they cost of the window, padding included."""
        if not self.is_receiving:
            self.fail(Status(calls.INTERNAL, "data came after the end"), ErrorCode.STREAM_CLOSED)
            return
        self.receive_window -= frame_bytes
        if self.receive_window < 0:
            self.fail(
                Status(calls.INTERNAL, "the window is exceeded"), ErrorCode.FLOW_CONTROL_ERROR
            )
            return
        self._unreturned += frame_bytes
        if self._unreturned >= WINDOW // 2:
            self.receive_window += self._unreturned
            self._connection.out.append(frames.window_update(self.number, self._unreturned))
            self._unreturned = 0
        if not self._has_begun:
            self._broken("data came before headers")
            return
        sink = self._sink
        if sink is None:
            # Its owner has ended the stream, and the peer does not know it yet.
            return
        buffer = self._buffer
        if buffer:
            buffer += memoryview(data)[at:end]
            if len(buffer) < self._needed:
                return
            data, at, end = bytes(buffer), 0, len(buffer)
            buffer.clear()
        self._needed = _PREFIX_BYTES
        most = self._connection.max_message_bytes
        while end - at >= _PREFIX_BYTES:
            is_compressed, length = _PREFIX.unpack_from(data, at)
            if is_compressed or (most is not None and length > most):
                self._refuse_message(length, is_compressed=is_compressed)
                return
            stop = at + _PREFIX_BYTES + length
            if stop > end:
                self._needed = _PREFIX_BYTES + length
                break
            sink.message(data[at + _PREFIX_BYTES : stop])
            if self._sink is None:
                return
            at = stop
        if at < end:
            buffer += memoryview(data)[at:end]

    def receive_end(self) -> None:
        """The peer sends nothing more."""
        if not self.is_receiving:
            return
        self.is_receiving = False
        if self._connection.is_client:
            self._ended(Status(calls.UNKNOWN, "the answer ended without a status"))
        elif self._buffer:
            self._broken("the last message is cut")
        elif self._sink is not None:
            self._sink.half_closed()

    def fail(self, status: Status, code: ErrorCode) -> None:
        """End the call and tell the peer: as a server with a status, as a client with a reset."""
        if self._connection.is_client or not self.is_sending or self._last:
            self._connection.out.append(frames.rst_stream(self.number, code))
        else:
            self._unsent.clear()
            sink = self._sink
            self.finish(status)
            self._sink = sink
        self.lost(status)

    def lost(self, status: Status) -> None:
        """The stream is over, and the peer knows or is gone."""
        sink = self._sink
        self._over()
        if sink is not None:
            sink.ended(status)

    def _refuse_message(self, length: int, *, is_compressed: bool) -> None:
        status = (
            Status(calls.UNIMPLEMENTED, "messages cannot be compressed")
            if is_compressed
            else Status(calls.RESOURCE_EXHAUSTED, f"a message of {length} bytes is too large")
        )
        self.fail(status, ErrorCode.CANCEL)

    def _broken(self, what: str) -> None:
        self.fail(Status(calls.INTERNAL, what), ErrorCode.PROTOCOL_ERROR)

    def _end_with(self, frame: bytes) -> None:
        if self.is_sending and not self._last:
            self._last = frame
            self.pump()

    def _sent_last(self) -> None:
        if self._connection.is_client:
            return
        # A client that has more to send need not.
        if self.is_receiving:
            self.reset(ErrorCode.NO_ERROR)
        else:
            self._over()

    def _ended(self, status: Status) -> None:
        """As a client: the server has ended the call."""
        if self.is_sending:
            self._connection.out.append(frames.rst_stream(self.number, ErrorCode.CANCEL))
        self.lost(status)

    def _over(self) -> None:
        self._sink = None
        self.is_sending = self.is_receiving = False
        self._unsent.clear()
        self._last = b""
        self._buffer.clear()
        self._connection.forget(self)
