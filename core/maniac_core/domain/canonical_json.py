"""One form for equal JSON, so that metadata can be compared and content identified by its hash."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

MAX_FACETS = 256
"""How many keys of one record's metadata can be filtered by, in the order they came: bounds the cost of one capture."""


def _number(text: str) -> int | float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)  # The encoder would write null.
    # Above 2^53 neighbouring integers share a float, so only below it is 1.0 known to be the integer 1.
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


_DECODER = msgspec.json.Decoder(float_hook=_number)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder(order="sorted")
_SHA256 = hashlib.sha256()
"""Of nothing. OpenSSL makes a copy of one for a tenth of what it makes a new one for."""


def canonical_json(value: Any) -> bytes:
    """Return a decoded JSON value as canonical JSON, as a metadata filter takes it."""
    return canonicalize(_ENCODER.encode(value))


def canonicalize(document: bytes) -> bytes:
    """Return the document with sorted keys, no spaces and one spelling per string and number (1.0 is 1).

    JSON whose values no program could hold (1e999, half a surrogate pair), or what is not JSON, is its own
    canonical form.
    """
    try:
        return _ENCODER.encode(_DECODER.decode(document))
    except (ValueError, RecursionError):
        return document


def facet(project: int, key: str, value: bytes) -> bytes:
    """Return the 16 bytes that stand for one metadata value of one project; `value` is canonical JSON."""
    member = b"%d\n%s:%s" % (project, _ENCODER.encode(key), value)
    return hashlib.blake2b(member, digest_size=16).digest()


def facets(project: int, metadata: bytes) -> list[bytes]:
    """Return the facets of a record's metadata, a JSON object; at most MAX_FACETS.

    An object with half a surrogate pair in it, which no client can send over the wire, has none.
    """
    try:
        members = _MEMBERS.decode(metadata)
    except (ValueError, RecursionError):
        return []
    return [
        facet(project, key, canonicalize(bytes(members[key]))) for key in list(members)[:MAX_FACETS]
    ]


def content_hash(request: bytes, answer: bytes | None) -> bytes:
    """Return the SHA-256 over the canonical request, a newline, and the canonical answer if there is one."""
    digest = _SHA256.copy()
    digest.update(canonicalize(request))
    if answer is not None:
        digest.update(b"\n")
        digest.update(canonicalize(answer))
    return digest.digest()
