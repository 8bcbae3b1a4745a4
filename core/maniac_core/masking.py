"""Takes secrets out of texts that people see: passwords, tokens and queries in addresses, `password=…` in DSNs."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"`]+)")
_QUERY_VALUE = re.compile(r"=[^&#]*")
_DSN_VALUE = re.compile(
    r"(?i)\b(pass(?:word|wd|phrase)?|pwd|(?:\w+_)?secret|(?:\w+_)?token|api_?key)\s*=\s*"
    r"('[^']*'|\"[^\"]*\"|[^\s&'\"]+)"
)
_MASK = "***"


def mask(text: str) -> str:
    """Return the text with every secret in an address or a DSN replaced by `***`."""
    return _DSN_VALUE.sub(rf"\1={_MASK}", _ADDRESS.sub(_mask_address, text))


def _mask_address(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    # A password may hold `/`, `?`, `#` and `@`, though it should not: all before the last `@` is taken for it. A
    # path with an `@` in it is taken for one only where something like `user:` stands before it.
    credentials, at, place = rest.rpartition("@")
    if at and "/" in credentials and ":" not in credentials.partition("/")[0]:
        credentials, at, place = "", "", rest
    if at:
        user, colon, _ = credentials.partition(":")
        credentials = f"{user}:{_MASK}" if colon else _MASK
    place, fragment_mark, fragment = place.partition("#")
    place, query_mark, query = place.partition("?")
    if query:
        query = _QUERY_VALUE.sub(f"={_MASK}", query) if "=" in query else _MASK
    return "".join(
        (scheme, credentials, at, place, query_mark, query, fragment_mark, fragment and _MASK)
    )
