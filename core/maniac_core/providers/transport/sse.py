"""Decode server-sent events, after the WHATWG HTML standard, section 9.2.

Works on bytes, so no chopping of the input, not even inside a character, changes the events.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

DEFAULT_MAX_EVENT_BYTES = 16 * 1024 * 1024
# Lines cost far more than their bytes. Servers that forget the blank line between events send many, but not so many.
MAX_EVENT_LINES = 10_000
# Of one stream: blank lines, and blocks that hold no data. As many as a stream may have events.
MAX_EMPTY_BLOCKS = 1_000_000

_BOM = b"\xef\xbb\xbf"
_JSON_STARTS = (b"{", b"[")
# Read anew with each piece that comes.
_LONGEST_UNFRAMED_BYTES = 64 * 1024

_syntax = msgspec.json.Decoder(msgspec.Raw).decode


class SSEEvent(msgspec.Struct, frozen=True):
    """One dispatched event."""

    event: str | None
    """The `event` field, None if there was none or it was empty."""
    data: bytes
    """The `data` lines joined with a line feed, as they came: usually UTF-8, never checked."""
    complete: bool = True
    """False if the stream ended before the blank line that dispatches the event."""
    is_framed: bool = True
    """False for lines that are not fields of an event, joined with a line feed: an error that a server wrote into the
    body as it is. The standard ignores them."""


def event_bytes(event: SSEEvent) -> bytes:
    """Return an event as it is sent, with its empty line."""
    data = event.data.replace(b"\n", b"\ndata: ") if b"\n" in event.data else event.data
    if event.event is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (event.event.encode(), data)


class FramingError(Exception):
    """The bytes of a stream cannot be split into events. The text ends the sentence "the provider sent"."""


class Framing(Protocol):
    """Splits the bytes of one stream into events, in any pieces."""

    def feed(self, data: bytes) -> list[SSEEvent]:
        """Take the next bytes; return the events they complete, in order.

        Raises:
            FramingError: they are not of such a stream.
        """

    def finish(self) -> list[SSEEvent]:
        """Take the end of the stream; return the event that lacks its end, if there is one.

        Raises:
            FramingError: as `feed()`.
        """


class SSEError(FramingError):
    """An event is larger than the decoder accepts or has more lines, or a stream has too many that are empty."""


class SSEDecoder:
    """Turns the bytes of one stream into events, in any pieces.

    `comments` counts comment lines of finished blocks.
    `last_event_id` and `retry_ms` hold the last `id` and `retry` fields of finished blocks.
    """

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self.comments = 0
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._max_event_bytes = max_event_bytes
        # What came since the last blank line, with line ends made "\n". A bytearray grows in place,
        # so that a large event in small pieces does not cost the square of its size.
        self._rest = bytearray()
        self._after_cr = False
        self._empty = 0
        self._is_start = True
        self._error: SSEError | None = None

    @property
    def pending(self) -> bool:
        """Whether anything came since the last blank line."""
        return len(self._rest) > 0

    def feed(self, data: bytes) -> list[SSEEvent]:
        """Take the next bytes; return the events they complete, in order.

        Raises:
            SSEError: a block is longer than `max_event_bytes` or 10,000 lines; every later call raises it
                too. Events before it have been returned, if need be by the call before.

        """
        if self._error is not None:
            raise self._error
        if self._is_start:
            data = self._strip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        if not data:
            return []
        rest = self._rest
        if b"\n\n" in data or (data[0] == 10 and (not rest or rest[-1] == 10)):
            return self._split(data)
        self._keep(data)
        if self._error is not None:
            raise self._error
        return self._whole_unframed()

    def finish(self) -> list[SSEEvent]:
        """Take the end of the stream; return the event that lacks its blank line, if there is one.

        The standard drops such an event, so it is marked as not complete.

        Raises:
            SSEError: as `feed()`.

        """
        if self._error is None and self._rest.count(b"\n") >= MAX_EVENT_LINES:
            self._error = SSEError(f"an event of more than {MAX_EVENT_LINES} lines")
        if self._error is not None:
            raise self._error
        events = self._parse(bytes(self._rest))
        self._rest.clear()
        return [msgspec.structs.replace(event, complete=False) for event in events]

    def _split(self, data: bytes) -> list[SSEEvent]:
        if self._rest:
            data = bytes(self._rest + data)
            self._rest.clear()
        blocks = data.split(b"\n\n")
        # A blank line at the start belongs to the block before; it must not hide in this one.
        rest = blocks.pop().lstrip(b"\n")
        events: list[SSEEvent] = []
        for block in blocks:
            if len(block) > self._max_event_bytes < len(block.lstrip(b"\n")):
                self._error = self._too_large()
                break
            if not block or (block[0] == 58 and b"\n" not in block):
                # Nothing, or a comment: floods of them should cost little.
                self.comments += bool(block)
                self._empty += not block
                continue
            # Nearly all events of nearly all providers look like one of these two.
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(SSEEvent(None, block[6:]))
                continue
            if block.startswith(b"event: "):
                name, _, line = block.partition(b"\n")
                if line.startswith(b"data: ") and b"\n" not in line:
                    events.append(SSEEvent(_event_name(name[7:]), line[6:]))
                    continue
            if block.count(b"\n") >= MAX_EVENT_LINES:
                self._error = SSEError(f"an event of more than {MAX_EVENT_LINES} lines")
                break
            found = self._parse(block)
            self._empty += not found
            events += found
        if self._empty > MAX_EMPTY_BLOCKS:
            self._error = SSEError(f"more than {MAX_EMPTY_BLOCKS} blank lines and empty events")
        if self._error is None and rest:
            self._keep(rest)
            events += self._whole_unframed()
        if self._error is not None and not events:
            raise self._error
        return events

    def _parse(self, block: bytes) -> list[SSEEvent]:
        """Interpret the lines of one block; nothing if it has no data."""
        name: str | None = None
        data: list[bytes] = []
        unframed: list[bytes] = []
        for line in block.split(b"\n"):
            field, colon, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = _event_name(value)
            elif not field:
                self.comments += len(colon)
            elif field == b"id" and b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
            elif field == b"retry" and value.isdigit() and len(value) < 16:
                self.retry_ms = int(value)
            elif unframed or field.lstrip()[:1] in _JSON_STARTS:
                unframed.append(line)
        events = [SSEEvent(name, b"\n".join(data))] if data else []
        if unframed:
            events.append(SSEEvent(None, b"\n".join(unframed), is_framed=False))
        return events

    def _whole_unframed(self) -> list[SSEEvent]:
        """Return JSON that stands alone as soon as it is whole: what sent it may leave the connection open."""
        rest = self._rest
        if rest[:1] not in _JSON_STARTS or len(rest) > _LONGEST_UNFRAMED_BYTES:
            return []
        try:
            _syntax(rest)
        except (msgspec.DecodeError, RecursionError):
            return []
        event = SSEEvent(None, bytes(rest), is_framed=False)
        rest.clear()
        return [event]

    def _keep(self, data: bytes) -> None:
        rest = self._rest
        rest += data
        # The last line end would be part of the blank line, which does not count either.
        if len(rest) - (rest[-1] == 10) > self._max_event_bytes:
            self._error = self._too_large()

    def _strip_bom(self, data: bytes) -> bytes:
        data = bytes(self._rest) + data
        self._rest.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            # Too short to tell; kept like the start of a line, whose end it cannot contain.
            self._rest += data
            return b""
        self._is_start = False
        return data.removeprefix(_BOM)

    def _normalise(self, data: bytes) -> bytes:
        """Make every line end an LF; a CR ends its line at once, and swallows an LF that follows."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _too_large(self) -> SSEError:
        return SSEError(f"an event of more than {self._max_event_bytes} bytes")


def _event_name(value: bytes) -> str | None:
    return value.decode("utf-8", "replace") or None
