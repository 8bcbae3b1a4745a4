"""The protocol of one connection, without a socket: bytes that came go in, bytes to send come out."""

from __future__ import annotations

from collections.abc import Callable

from maniac_common.hop import calls, frames, hpack
from maniac_common.hop.blocks import MAX_HEADER_BYTES, HeaderBlocks
from maniac_common.hop.calls import Status
from maniac_common.hop.frames import ConnectionFault, ErrorCode
from maniac_common.hop.hpack import Headers
from maniac_common.hop.stream import WINDOW, Sink, Stream
from maniac_common.hop.watch import Verdict, Watch

MAX_STREAMS = 16
"""Calls at a time that a client may have."""
# What a call that is refused counts as, until one was accepted: who tries secrets need not hurry.
_REFUSAL_COST = 50
_PING = b"are here"
_HEAD_BYTES = frames.HEAD.size
_read_head = frames.HEAD.unpack_from

Accept = Callable[[Stream, Headers], None]
"""Takes a call: calls `begin` of the stream, or `finish` to refuse it. The headers include `:path`."""


class Connection:
    """One side of a connection. As a client it opens one call; as a server it gives each call to `accept`."""

    def __init__(self, accept: Accept | None, *, max_message_bytes: int | None) -> None:
        """Without `accept` it is a client. `max_message_bytes`: of messages that come; None: no limit."""
        self.is_client = accept is None
        self.max_message_bytes = max_message_bytes
        self.out: list[bytes | memoryview] = []
        """What is to be sent."""
        self.flush: Callable[[], None] = lambda: None
        """Sends it; set by who has the socket."""
        self.is_writable = True
        """Whether the socket takes more; set by who has it."""
        self.is_closed = False
        """Whether the connection is over: to be closed when `out` is sent."""
        self.send_window = frames.DEFAULT_WINDOW
        self.initial_send_window = frames.DEFAULT_WINDOW
        self.initial_receive_window = WINDOW if self.is_client else frames.DEFAULT_WINDOW
        self._accept = accept
        self._receive_window = frames.DEFAULT_WINDOW
        self._unreturned = 0
        self._streams: dict[int, Stream] = {}
        self._last_number = 0
        self._is_leaving = False
        self._blocks = HeaderBlocks()
        self._watch = Watch(is_trusted=self.is_client)
        self._uses_no_table = False
        self._preface = b"" if self.is_client else frames.PREFACE
        self._has_settings = False
        self._rest = b""
        settings = {frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES}
        if self.is_client:
            self.out.append(frames.PREFACE)
            settings |= {frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: WINDOW}
        else:
            settings[frames.MAX_CONCURRENT_STREAMS] = MAX_STREAMS
        self.out.append(frames.settings(settings))
        if self.is_client:
            self._widen()

    # What its owner calls.

    @property
    def running(self) -> int:
        """How many calls run."""
        return len(self._streams)

    def open(self, headers: Headers, sink: Sink) -> Stream:
        """As a client, begin the call."""
        self._last_number = 1
        stream = self._streams[1] = Stream(self, 1, sink)
        self.out.append(self.headers_frame(1, headers, is_last=False))
        return stream

    def receive(self, data: bytes) -> None:
        """Take bytes that came."""
        if self.is_closed:
            return
        self._watch.has_heard = True
        if self._rest:
            data = self._rest + data
        try:
            at = self._read(data)
        except ConnectionFault as fault:
            self.fail(fault.code, fault.message)
        else:
            self._rest = data[at:] if at < len(data) else b""

    def take(self) -> bytes:
        """Return what is to be sent, once."""
        out, self.out = self.out, []
        return b"".join(out)

    def resume(self) -> None:
        """There is room again."""
        for stream in tuple(self._streams.values()):
            stream.resume()

    def leave(self) -> None:
        """As a server, take no new calls; those that run go on, and after the last one the connection is over."""
        if not self._is_leaving and not self.is_closed:
            self._is_leaving = True
            self.out.append(frames.goaway(self._last_number, ErrorCode.NO_ERROR))
            self.is_closed = not self._streams

    def fail(self, code: ErrorCode, message: str) -> None:
        """End the connection and say why."""
        if not self.is_closed:
            self.out.append(
                frames.goaway(0 if self.is_client else self._last_number, code, message)
            )
            self.lost(f"the connection was ended: {message}")

    def lost(self, message: str) -> None:
        """The connection is over."""
        self.is_closed = True
        self._rest = b""
        for stream in tuple(self._streams.values()):
            stream.lost(Status(calls.UNAVAILABLE, message))

    def tick(self) -> None:
        """Do what time brings; call it every TICK_S seconds."""
        verdict = self._watch.tick(is_writable=self.is_writable)
        if verdict is Verdict.ASK:
            self.out.append(frames.frame(frames.PING, 0, 0, _PING))
        elif verdict is Verdict.SILENT:
            self.fail(ErrorCode.NO_ERROR, "the peer does not answer")
        elif verdict is Verdict.UNKNOWN:
            self.fail(ErrorCode.ENHANCE_YOUR_CALM, "no call was accepted in time")

    # What streams call.

    def trust(self) -> None:
        """The peer has shown who it is."""
        if not self._watch.is_trusted:
            self._watch.is_trusted = True
            self._widen()

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        self._streams.pop(stream.number, None)
        if self._is_leaving and not self.is_client and not self._streams:
            self.is_closed = True

    def headers_frame(self, number: int, headers: Headers, *, is_last: bool) -> bytes:
        """Return the frame of headers, which are never many."""
        block = hpack.encode(headers)
        if self._uses_no_table:
            self._uses_no_table = False
            block = hpack.NO_TABLE + block
        flags = frames.END_HEADERS | (frames.END_STREAM if is_last else 0)
        return frames.frame(frames.HEADERS, flags, number, block)

    # What comes.

    def _widen(self) -> None:
        more = WINDOW - frames.DEFAULT_WINDOW
        self._receive_window += more
        self.out.append(frames.window_update(0, more))

    def _read(self, data: bytes) -> int:
        """Handle the frames in some bytes, and return where the one begins that is not complete."""
        at, size = 0, len(data)
        if self._preface:
            if not self._preface.startswith(data[: len(self._preface)]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2")
            if size < len(self._preface):
                return 0
            at = len(self._preface)
            self._preface = b""
        while size - at >= _HEAD_BYTES:
            high, low, kind, flags, number = _read_head(data, at)
            number &= frames.LARGEST
            length = high << 16 | low
            if length > frames.MAX_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            start = at + _HEAD_BYTES
            at_next = start + length
            if at_next > size:
                break
            if kind == frames.DATA and not self._blocks.number and self._has_settings:
                self._data(number, flags, data, start, at_next)
            else:
                self._control(number, kind, flags, data[start:at_next])
            if self.is_closed:
                break
            at = at_next
        return at

    def _data(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        frame_bytes = end - start
        self._receive_window -= frame_bytes
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is exceeded")
        if self._watch.is_trusted:
            self._unreturned += frame_bytes
            if self._unreturned >= WINDOW // 2:
                self._receive_window += self._unreturned
                self.out.append(frames.window_update(0, self._unreturned))
                self._unreturned = 0
        if not frame_bytes:
            self._watch.count_idle()
        if flags & frames.PADDED:
            data = frames.without_padding(frames.PADDED, data[start:end])
            start, end = 0, len(data)
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number)
            self._watch.count_idle()
            return
        stream.receive_data(data, start, end, frame_bytes)
        if flags & frames.END_STREAM:
            stream.receive_end()

    def _control(self, number: int, kind: int, flags: int, payload: bytes) -> None:
        block = self._blocks.number
        if block and (kind != frames.CONTINUATION or number != block):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is not complete")
        if not self._has_settings and kind != frames.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        handle = _HANDLERS.get(kind)
        if handle is None:
            # A kind that does not exist yet.
            self._watch.count_idle()
        else:
            handle(self, number, flags, payload)

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "headers are for no stream")
        self._watch.count_idle()
        self._block_came(number, self._blocks.begin(number, flags, payload))

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if not self._blocks.number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "there is no header block to continue")
        self._block_came(number, self._blocks.go_on(flags, payload))

    def _block_came(self, number: int, headers: Headers | None) -> None:
        if headers is None:
            return
        stream = self._streams.get(number)
        if stream is not None:
            stream.receive_headers(headers, is_last=self._blocks.is_last)
        elif self.is_client or number <= self._last_number:
            self._check_known(number)
        else:
            self._opened(number, headers, is_last=self._blocks.is_last)

    def _opened(self, number: int, headers: Headers, *, is_last: bool) -> None:
        if not number % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's stream has an even number")
        self._last_number = number
        if self._is_leaving or len(self._streams) >= MAX_STREAMS:
            self.out.append(frames.rst_stream(number, ErrorCode.REFUSED_STREAM))
            return
        if not calls.is_well_formed_request(headers):
            self.out.append(frames.rst_stream(number, ErrorCode.PROTOCOL_ERROR))
            return
        stream = self._streams[number] = Stream(self, number, None)
        refused = calls.refused_by_http(headers)
        assert self._accept is not None
        if refused is not None:
            stream.refuse_by_http(refused)
        else:
            self._accept(stream, headers)
        if not self._watch.is_trusted:
            self._watch.count_idle(_REFUSAL_COST)
        if is_last:
            stream.receive_end()

    def _priority(self, number: int, _flags: int, payload: bytes) -> None:
        if not number or len(payload) != 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is malformed")
        self._watch.count_idle()

    def _rst_stream(self, number: int, _flags: int, payload: bytes) -> None:
        _check_size("RST_STREAM", payload, 4)
        self._check_known(number)
        self._watch.count_idle()
        stream = self._streams.get(number)
        if stream is not None:
            stream.lost(calls.status_of_reset(frames.u32(payload)))

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS are for a stream")
        self._watch.count_idle()
        if flags & frames.ACK:
            _check_size("SETTINGS", payload, 0)
            return
        self._has_settings = True
        # Ahead of what a larger window lets out: until the peer has read it, the smaller one holds.
        self.out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
                more = value - self.initial_send_window
                self.initial_send_window = value
                for stream in tuple(self._streams.values()):
                    stream.grow(more)
            elif name == frames.HEADER_TABLE_SIZE:
                self._uses_no_table = value < hpack.TABLE_BYTES
            elif (name == frames.ENABLE_PUSH and value > 1) or (
                name == frames.MAX_FRAME_SIZE
                and not frames.MAX_FRAME_BYTES <= value <= frames.LARGEST_FRAME_SIZE
            ):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a setting is out of its range")

    def _push_promise(self, _number: int, _flags: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "nothing may be pushed")

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING is for a stream")
        _check_size("PING", payload, 8)
        self._watch.count_idle()
        if not flags & frames.ACK:
            self.out.append(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _goaway(self, number: int, _flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY is for a stream")
        last, code = frames.u32(payload) & frames.LARGEST, frames.u32(payload, 4)
        if self.is_client:
            # What the server has taken it finishes, unless it says what went wrong and closes.
            for stream in tuple(self._streams.values()):
                if stream.number > last:
                    stream.lost(Status(calls.UNAVAILABLE, f"the peer is leaving, code {code}"))

    def _window_update(self, number: int, _flags: int, payload: bytes) -> None:
        _check_size("WINDOW_UPDATE", payload, 4)
        more = frames.u32(payload) & frames.LARGEST
        if not more:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
        if number:
            self._check_known(number)
            stream = self._streams.get(number)
            if stream is not None:
                stream.grow(more)
            return
        was_empty = self.send_window <= 0
        self.send_window += more
        if self.send_window > frames.LARGEST:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        if was_empty:
            self.resume()

    def _check_known(self, number: int) -> None:
        """Refuse a frame for a stream that was never opened; for one that is over it was on its way."""
        if not number or number > self._last_number or not number % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"there is no stream {number}")


def _check_size(name: str, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{name} has a wrong size")


_HANDLERS: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    frames.HEADERS: Connection._headers,  # noqa: SLF001 - its own table
    frames.PRIORITY: Connection._priority,  # noqa: SLF001
    frames.RST_STREAM: Connection._rst_stream,  # noqa: SLF001
    frames.SETTINGS: Connection._settings,  # noqa: SLF001
    frames.PUSH_PROMISE: Connection._push_promise,  # noqa: SLF001
    frames.PING: Connection._ping,  # noqa: SLF001
    frames.GOAWAY: Connection._goaway,  # noqa: SLF001
    frames.WINDOW_UPDATE: Connection._window_update,  # noqa: SLF001
    frames.CONTINUATION: Connection._continuation,  # noqa: SLF001
}
