"""New ids and the clock, so that both have one source."""

from __future__ import annotations

import os
import time
import uuid

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def completion_id() -> str:
    """Return a new completion id: `chatcmpl-` and 26 characters that sort by time of creation."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return "chatcmpl-" + "".join([_ALPHABET[(value >> shift) & 31] for shift in range(125, -5, -5)])


def uuid_id() -> str:
    """Return a new random UUID as text."""
    return str(uuid.uuid4())


def request_id() -> str:
    """Return a new request id."""
    return "req_" + os.urandom(12).hex()


def now_s() -> int:
    """Return the time as Unix seconds."""
    return int(time.time())


def now_us() -> int:
    """Return the time as Unix microseconds."""
    return time.time_ns() // 1000
