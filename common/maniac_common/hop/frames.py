"""Frames of HTTP/2 (RFC 9113): their numbers, their layout, and the faults that end a connection."""

from __future__ import annotations

import enum
import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""
MAX_FRAME_BYTES = 16_384
"""Largest payload that is sent or taken: what every peer has to take."""
LARGEST_FRAME_SIZE = (1 << 24) - 1
"""Largest value of MAX_FRAME_SIZE."""
DEFAULT_WINDOW = 65_535
"""Bytes that may be sent before a peer has said anything else."""
LARGEST = (1 << 31) - 1
"""Largest window and stream number."""

HEAD = struct.Struct(">BHBBL")
"""Of a frame: length in two parts, kind, flags, and number of the stream."""
_SETTING = struct.Struct(">HL")
_U32 = struct.Struct(">L")


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The peer broke the protocol, or a limit: the connection ends."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def head(length: int, kind: int, flags: int, number: int) -> bytes:
    """Return the head of a frame."""
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, number)


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return head(len(payload), kind, flags, number) + payload


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the settings of a frame, in their order.

    Raises:
        ConnectionFault: the payload is cut.
    """
    if len(payload) % _SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a setting is cut")
    return list(_SETTING.iter_unpack(payload))


def window_update(number: int, more: int) -> bytes:
    """Return a WINDOW_UPDATE frame; number 0: for the connection."""
    return frame(WINDOW_UPDATE, 0, number, _U32.pack(more))


def rst_stream(number: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, number, _U32.pack(code))


def goaway(last: int, code: ErrorCode, message: str = "") -> bytes:
    """Return a GOAWAY frame; `last`: the last of the peer's streams that is served."""
    return frame(GOAWAY, 0, 0, _U32.pack(last) + _U32.pack(code) + message.encode())


def u32(payload: bytes, at: int = 0) -> int:
    """Return the number in four bytes of a payload.

    Raises:
        ConnectionFault: they are not there.
    """
    if len(payload) < at + _U32.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is cut")
    value: int = _U32.unpack_from(payload, at)[0]
    return value


def without_padding(flags: int, payload: bytes) -> bytes:
    """Return what a DATA or HEADERS frame carries, without padding and priority.

    Raises:
        ConnectionFault: the padding is longer than the frame.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame is empty")
        start, end = 1, end - payload[0]
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[start:end]
