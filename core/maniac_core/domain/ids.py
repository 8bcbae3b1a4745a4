"""New ids and the clock, so that both have one source."""

from __future__ import annotations

import time
import uuid
from random import getrandbits

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def completion_id() -> str:
    """Return a new completion id: `chatcmpl-` and 26 characters that sort by time of creation."""
    # Ids are not secrets: a generator that is seeded once saves a system call for each.
    value = (time.time_ns() // 1_000_000) << 80 | getrandbits(80)
    return "chatcmpl-" + "".join(
        [_PAIRS[(value >> shift) & 1023] for shift in range(120, -10, -10)]
    )


def uuid_id() -> str:
    """Return a new random UUID as text."""
    return str(uuid.uuid4())


def request_id() -> str:
    """Return a new request id."""
    return f"req_{getrandbits(96):024x}"


def elapsed_s() -> float:
    """Return seconds since some point in the past; they pass while this process or machine is stopped as well."""
    return time.clock_gettime(_STEADY)


def now_s() -> int:
    """Return the time as Unix seconds."""
    return int(time.time())


def now_us() -> int:
    """Return the time as Unix microseconds."""
    return time.time_ns() // 1000
