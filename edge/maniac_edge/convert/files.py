"""Files: from the contract's messages to JSON, and from a Range header to the contract's range."""

from __future__ import annotations

import re

import msgspec
from maniac_gateway.v1 import files_pb2

from maniac_edge.schemas import files as schema

_RANGE = re.compile(rb"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)
_INT64_MAX = 2**63 - 1


class ByteRange(msgspec.Struct, frozen=True):
    """A range as the core takes it: a negative offset counts from the end, limit 0 means to the end."""

    offset: int
    limit: int

    def span(self, size: int) -> tuple[int, int]:
        """Return start and length within so many bytes, for a range that can be satisfied."""
        start = max(0, size + self.offset) if self.offset < 0 else self.offset
        rest = size - start
        return start, min(self.limit, rest) if self.limit else rest


WHOLE = ByteRange(0, 0)


def file_to_json(file: files_pb2.File) -> schema.FileObject:
    """Return a file."""
    return schema.FileObject(
        id=file.id,
        bytes=file.size_bytes,
        created_at=file.create_time.seconds,
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
    )


def range_from_header(value: bytes) -> ByteRange:
    """Return the one range of a Range header; WHOLE for what is to be ignored: several, other units, nonsense."""
    match = _RANGE.fullmatch(value)
    if match is None or match.groups() == (b"", b""):
        return WHOLE
    first, last = match.groups()
    # No file has positions of twenty digits, and int() refuses some thousand.
    if max(len(first), len(last)) > 19:
        first, last = first[:19], last[:19]
    if not first:
        # The last zero bytes are nothing that could be sent.
        return ByteRange(-min(int(last), _INT64_MAX) or _INT64_MAX, 0)
    start = min(int(first), _INT64_MAX)
    if not last:
        return ByteRange(start, 0)
    end = min(int(last), _INT64_MAX - 1)
    return ByteRange(start, end - start + 1) if end >= start else WHOLE
