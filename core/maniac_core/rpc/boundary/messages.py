"""Reading request messages: one that cannot be parsed, or holds too many fields, is the caller's error."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from maniac_core.domain.errors import GatewayError, Reason

_log = logging.getLogger(__name__)
_M = TypeVar("_M")
# An empty message is two bytes on the wire and a hundred times that in memory. Below this size even the worst message
# is harmless; above it the fields are counted before anything is made of them.
_COUNTED_BYTES = 64 * 1024
_MAX_FIELDS = 200_000
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_Nested = dict[int, Descriptor]
_nested_by_name: dict[str, _Nested] = {}


class Unreadable:
    """Stands where a message should be that could not be read."""

    def __init__(self, error: GatewayError) -> None:
        self.error = error


def reader(descriptor: Descriptor) -> Callable[[bytes], Message | Unreadable]:
    """Return what parses requests of a type. gRPC's own handling of a failure here is a traceback and INTERNAL."""
    parse = GetMessageClass(descriptor).FromString

    def read(data: bytes) -> Message | Unreadable:
        if len(data) > _COUNTED_BYTES and _has_too_many_fields(data, descriptor):
            return Unreadable(
                _invalid(f"The message holds more than {_MAX_FIELDS} fields. Send less at once.")
            )
        try:
            return parse(data)
        except DecodeError:
            _log.warning("a message could not be parsed as %s", descriptor.full_name)
            return Unreadable(_invalid(f"The message cannot be parsed as {descriptor.full_name}."))

    return read


def readable(message: _M | Unreadable) -> _M:
    """Return the message.

    Raises:
        GatewayError: INVALID_VALUE: it could not be read.
    """
    if isinstance(message, Unreadable):
        raise message.error
    return message


async def all_readable(messages: AsyncIterable[_M | Unreadable]) -> AsyncIterator[_M]:
    """Yield a client's messages; raises as `readable` at the first that could not be read."""
    async for message in messages:
        yield readable(message)


def _invalid(message: str) -> GatewayError:
    return GatewayError(Reason.ERROR_REASON_INVALID_VALUE, message)


def _nested(descriptor: Descriptor) -> _Nested:
    """Return the types of the fields that are messages, by number."""
    found = _nested_by_name.get(descriptor.full_name)
    if found is None:
        found = _nested_by_name[descriptor.full_name] = {
            field.number: field.message_type
            for field in descriptor.fields
            if field.message_type is not None
        }
    return found


def _has_too_many_fields(data: bytes, descriptor: Descriptor) -> bool:
    """Count the fields of a message and of those inside it, without making anything of them.

    Data that is not well-formed is left for the parser to refuse.
    """
    count = 0
    stack: list[tuple[int, int, Any]] = [(0, len(data), _nested(descriptor))]
    try:
        while stack:
            at, end, nested = stack.pop()
            while at < end:
                count += 1
                if count > _MAX_FIELDS:
                    return True
                key, at = _varint(data, at)
                kind = key & 7
                if kind == _LENGTH:
                    size, at = _varint(data, at)
                    inner = nested.get(key >> 3)
                    if inner is not None:
                        stack.append((at, min(at + size, end), _nested(inner)))
                    at += size
                elif kind == _VARINT:
                    _, at = _varint(data, at)
                elif kind == _FIXED64:
                    at += 8
                elif kind == _FIXED32:
                    at += 4
                else:
                    return False
    except IndexError:
        return False
    return False


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
