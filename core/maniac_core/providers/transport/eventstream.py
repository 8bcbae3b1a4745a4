"""Decode `application/vnd.amazon.eventstream`, the binary framing of AWS's streams.

A message, all numbers big-endian: its length and that of its headers (4 bytes each), the CRC of these 8 bytes, headers,
payload, and the CRC of all before it. A header: length of the name (1 byte), name, type (1 byte), value.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from maniac_core.providers.transport.sse import FramingError, SSEEvent

EXCEPTION = "exception:"
"""Begins the name of an event that reports an error; the error's name follows."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_SHORT = struct.Struct(">H")
_LEAST = _PRELUDE.size + _CRC.size
# Type of a header's value -> its bytes; of texts and byte arrays (6 and 7) the length comes first.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_SIZED = (6, 7)
_TEXT = 7


class EventStreamDecoder:
    """Turns the bytes of one stream into events, in any pieces.

    An event has the name of its `:event-type`. An error, `:message-type` exception or error, is named
    `exception:NAME`, and its data is its payload, or `{"message": …}` where it came in a header.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._error: FramingError | None = None

    def feed(self, data: bytes) -> list[SSEEvent]:
        """Take the next bytes; return the events they complete, in order.

        Raises:
            FramingError: the bytes are not such a stream; every later call raises it too. Events before it have been
                returned, if need be by the call before.
        """
        if self._error is not None:
            raise self._error
        self._rest += data
        events: list[SSEEvent] = []
        start = 0
        try:
            while (end := self._end_of(start)) is not None:
                events.append(_event(bytes(memoryview(self._rest)[start:end])))
                start = end
        except FramingError as err:
            self._error = err
            if not events:
                raise
        del self._rest[:start]
        return events

    def finish(self) -> list[SSEEvent]:
        """Take the end of the stream: half a message is none.

        Raises:
            FramingError: as `feed()`.
        """
        if self._error is not None:
            raise self._error
        self._rest.clear()
        return []

    def _end_of(self, start: int) -> int | None:
        """Return where the message ends that begins here; None: it is not there yet.

        Raises:
            FramingError: it is none.
        """
        rest = self._rest
        if len(rest) - start < _PRELUDE.size:
            return None
        total, headers, crc = _PRELUDE.unpack_from(rest, start)
        if zlib.crc32(rest[start : start + 8]) != crc:
            raise FramingError("a message whose length has a wrong checksum")
        if total > MAX_MESSAGE_BYTES:
            raise FramingError(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        if headers + _LEAST > total:
            raise FramingError("a message that is shorter than its headers")
        return start + total if len(rest) - start >= total else None


def _event(message: bytes) -> SSEEvent:
    [crc] = _CRC.unpack_from(message, len(message) - _CRC.size)
    if zlib.crc32(memoryview(message)[: -_CRC.size]) != crc:
        raise FramingError("a message with a wrong checksum")
    _, length, _ = _PRELUDE.unpack_from(message)
    payload = message[_PRELUDE.size + length : -_CRC.size]
    try:
        headers = _headers(message[_PRELUDE.size : _PRELUDE.size + length])
    except (IndexError, struct.error, KeyError, UnicodeDecodeError):
        raise FramingError("a message whose headers cannot be read") from None
    match headers.get(":message-type"):
        case "exception":
            return SSEEvent(EXCEPTION + headers.get(":exception-type", ""), payload)
        case "error":
            said = {"message": headers.get(":error-message", "")}
            return SSEEvent(EXCEPTION + headers.get(":error-code", ""), msgspec.json.encode(said))
    return SSEEvent(headers.get(":event-type"), payload)


def _headers(data: bytes) -> dict[str, str]:
    """Return the headers that are text."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        name, kind = data[at + 1 : name_end].decode(), data[name_end]
        at = name_end + 1
        if kind in _SIZED:
            [size] = _SHORT.unpack_from(data, at)
            at += _SHORT.size
        else:
            size = _FIXED[kind]
        if at + size > len(data):
            raise IndexError
        if kind == _TEXT:
            found[name] = data[at : at + size].decode()
        at += size
    return found
