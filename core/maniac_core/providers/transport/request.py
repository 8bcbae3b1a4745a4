"""Serialise request heads; the only place where header text becomes bytes on the wire."""

from __future__ import annotations

import re

from maniac_core.providers.transport.url import Target

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN = re.compile(r"[\r\n\0]")
_OWNED = frozenset({"connection", "transfer-encoding", "upgrade", "te", "trailer"})
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})

Headers = tuple[tuple[str, str], ...]


def encode_head(
    method: str, target: Target, headers: Headers, proxy_authorization: str | None, absolute: bool
) -> tuple[bytes, str | None]:
    """Return the request line and headers without the length and the blank line.

    The second value is the `content-length` among `headers`, for `finish_head` to check.
    With `absolute`, the request line has the whole URL, as a forwarding proxy wants it.

    Raises:
        ValueError: method or a header cannot be sent, or is owned by the transport; the text
            names the header and never its value.

    """
    if not _TOKEN.fullmatch(method):
        raise ValueError("method is not an HTTP token")
    given: dict[str, str] = {}
    lines: list[str] = []
    for name, value in headers:
        key = name.lower()
        if not _TOKEN.fullmatch(name):
            raise ValueError("a header name is not an HTTP token")
        if _FORBIDDEN.search(value):
            raise ValueError(f"header {key!r} contains CR, LF or NUL")
        if key in _OWNED:
            raise ValueError(f"header {key!r} is set by the transport alone")
        given[key] = value
        if key != "content-length":
            lines.append(f"{name}: {value}\r\n")
    if "accept-encoding" not in given:
        lines.append("accept-encoding: identity\r\n")
    if target.authorization is not None and "authorization" not in given:
        lines.append(f"authorization: {target.authorization}\r\n")
    if proxy_authorization is not None:
        lines.append(f"proxy-authorization: {proxy_authorization}\r\n")
    where = f"{target.scheme}://{target.authority}{target.path}" if absolute else target.path
    host = "" if "host" in given else f"host: {target.authority}\r\n"
    try:
        head = f"{method} {where} HTTP/1.1\r\n{host}{''.join(lines)}".encode("latin-1")
    except UnicodeEncodeError:
        # Not chained: the original exception holds the whole text, credentials included.
        raise ValueError("a header value is not latin-1 text") from None
    return head, given.get("content-length")


def finish_head(head: bytes, declared_length: str | None, method: str, body: bytes) -> bytes:
    """Return a head from `encode_head`, completed for this body.

    Raises:
        ValueError: the caller's own `content-length` is not the body's length.

    """
    if declared_length is not None and declared_length != str(len(body)):
        raise ValueError("header 'content-length' is not the length of the body")
    if body or method in _BODY_METHODS:
        return b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
    return head + b"\r\n"
