"""Header blocks (RFC 7541): a decoder of all that a peer may send, and an encoder that keeps no state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from maniac_common.hop import huffman

Header = tuple[str, str]
Headers = tuple[Header, ...]

TABLE_BYTES = 4096
"""What the decoder's dynamic table may hold; the default, and never changed."""
_ENTRY_BYTES = 32
"""What the specification adds to the size of each header."""

_NAMES = (
    "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
    "content-disposition content-encoding content-language content-length content-location content-range "
    "content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range "
    "referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary "
    "via www-authenticate"
)
_STATIC: Headers = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    *((":status", code) for code in ("200", "204", "206", "304", "400", "404", "500")),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    *((name, "") for name in _NAMES.split()),
)
_INDEXES = {header: index for index, header in enumerate(_STATIC, 1)}

_NEVER_INDEXED = 0x10
NO_TABLE = b"\x20"
"""Says ahead of a block that the encoder uses no dynamic table."""


class HpackError(Exception):
    """A block cannot be decoded, and neither can any that follows."""


class TooLargeError(HpackError):
    """A block holds more than is taken."""


def encode(headers: Iterable[Header]) -> bytes:
    """Return a block. Values are never put into anyone's table, since some of them are secrets."""
    out = bytearray()
    for header in headers:
        index = _INDEXES.get(header)
        if index is not None:
            out.append(0x80 | index)
            continue
        out.append(_NEVER_INDEXED)
        for text in header:
            data = text.encode("latin-1")
            out += _integer(len(data), 7) + data
    return bytes(out)


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out = bytearray((most,))
    value -= most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Decoder:
    """Decodes the blocks of one connection, in their order."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: of a block's headers, counted as the specification does."""
        self._max_bytes = max_bytes
        self._table: deque[Header] = deque()
        self._table_bytes = 0
        self._limit = TABLE_BYTES

    def decode(self, block: bytes) -> Headers:
        """Return the headers of a block.

        Raises:
            HpackError: it is not well-formed, or too large.
        """
        try:
            return self._decode(block)
        except (IndexError, ValueError) as err:
            raise HpackError(f"a header block cannot be decoded: {err}") from None

    def _decode(self, block: bytes) -> Headers:
        headers: list[Header] = []
        size, at = 0, 0
        while at < len(block):
            byte = block[at]
            if byte & 0x80:
                index, at = _read_integer(block, at, 7)
                header = self._at(index)
            elif byte & 0xE0 == 0x20:
                if headers:
                    raise ValueError("the table changes within a block")
                limit, at = _read_integer(block, at, 5)
                if limit > TABLE_BYTES:
                    raise ValueError("the table is larger than allowed")
                self._limit = limit
                self._evict()
                continue
            else:
                is_indexed = bool(byte & 0x40)
                index, at = _read_integer(block, at, 6 if is_indexed else 4)
                if index:
                    name = self._at(index)[0]
                else:
                    name, at = _read_text(block, at)
                value, at = _read_text(block, at)
                header = (name, value)
                if is_indexed:
                    self._add(header)
            headers.append(header)
            size += _size(header)
            if size > self._max_bytes:
                raise TooLargeError("the headers are too large")
        return tuple(headers)

    def _at(self, index: int) -> Header:
        if index < 1:
            raise ValueError("there is no header 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[index - 1 - len(_STATIC)]

    def _add(self, header: Header) -> None:
        self._table.appendleft(header)
        self._table_bytes += _size(header)
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._limit:
            self._table_bytes -= _size(self._table.pop())


def _size(header: Header) -> int:
    return len(header[0]) + len(header[1]) + _ENTRY_BYTES


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    # No number of a block that is taken needs more than three bytes.
    for shift in (0, 7, 14):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too large")


def _read_text(block: bytes, at: int) -> tuple[str, int]:
    is_packed = bool(block[at] & 0x80)
    length, at = _read_integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise ValueError("a text is cut")
    data = block[at:end]
    return (huffman.decode(data) if is_packed else data).decode("latin-1"), end
