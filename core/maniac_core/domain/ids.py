"""New ids and the clock, so that both have one source."""

from __future__ import annotations

import functools
import time
import uuid
from random import getrandbits

from maniac_core.domain.chat import Wire

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


_PREFIXES: dict[Wire, str] = {
    "chat": "chatcmpl-",
    "responses": "resp_",
    "messages": "msg_",
    "gemini": "gen_",
    "completions": "cmpl-",
    "embeddings": "emb_",
}


def wire_of(completion_id: str) -> Wire:
    """Return the wire by which a completion was asked for; ids that others made say chat."""
    return next((w for w, prefix in _PREFIXES.items() if completion_id.startswith(prefix)), "chat")


def completion_id(wire: Wire = "chat") -> str:
    """Return a new completion id: a prefix that tells the wire, and 26 characters that sort by time of creation."""
    # Ids are not secrets: a generator that is seeded once saves a system call for each.
    high, low = getrandbits(40), getrandbits(40)
    return (
        f"{_PREFIXES[wire]}{_time_digits(time.time_ns() // 1_000_000)}"
        f"{_PAIRS[high >> 30]}{_PAIRS[high >> 20 & 1023]}{_PAIRS[high >> 10 & 1023]}{_PAIRS[high & 1023]}"
        f"{_PAIRS[low >> 30]}{_PAIRS[low >> 20 & 1023]}{_PAIRS[low >> 10 & 1023]}{_PAIRS[low & 1023]}"
    )


@functools.lru_cache(maxsize=1)
def _time_digits(moment_ms: int) -> str:
    return "".join([_PAIRS[moment_ms >> shift & 1023] for shift in range(40, -10, -10)])


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
