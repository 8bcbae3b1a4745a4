"""Messages of AWS's event streams, made as its documentation describes them."""

from __future__ import annotations

import binascii
import json
import struct
from typing import Any


def text_header(name: str, value: str) -> bytes:
    """Return a header whose value is text."""
    data = value.encode()
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(data)) + data


def message(headers: bytes, payload: bytes) -> bytes:
    """Return one message with its checksums."""
    prelude = struct.pack(">II", 12 + len(headers) + len(payload) + 4, len(headers))
    head = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers
    return head + payload + struct.pack(">I", binascii.crc32(head + payload))


def event(name: str, payload: Any) -> bytes:
    """Return an event as a service sends it."""
    headers = (
        text_header(":event-type", name)
        + text_header(":content-type", "application/json")
        + text_header(":message-type", "event")
    )
    return message(headers, json.dumps(payload).encode())


def exception(name: str, payload: Any) -> bytes:
    """Return an exception that the service models."""
    headers = text_header(":exception-type", name) + text_header(":message-type", "exception")
    return message(headers, json.dumps(payload).encode())


def error(code: str, words: str) -> bytes:
    """Return an error that the service does not model."""
    headers = (
        text_header(":error-code", code)
        + text_header(":error-message", words)
        + text_header(":message-type", "error")
    )
    return message(headers, b"")
