"""How gRPC calls look in HTTP/2: the headers that begin and end them, and the statuses."""

from __future__ import annotations

import urllib.parse
from typing import NamedTuple

from maniac_common.hop.frames import ErrorCode
from maniac_common.hop.hpack import Headers

OK, CANCELLED, UNKNOWN = 0, 1, 2
PERMISSION_DENIED, RESOURCE_EXHAUSTED = 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16
_HIGHEST_CODE = 16
_MAX_MESSAGE = 1000
_CONTENT_TYPE = "application/grpc"
# Of one connection of HTTP/1, and forbidden in HTTP/2.
_HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}
_OF_HTTP = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
_OF_RESET = {
    ErrorCode.REFUSED_STREAM: UNAVAILABLE,
    ErrorCode.CANCEL: CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: PERMISSION_DENIED,
}


class Status(NamedTuple):
    """How a call ended."""

    code: int
    """Of gRPC; 0: well."""
    message: str = ""


WELL = Status(OK)


def request_headers(path: str, scheme: str, authority: str, metadata: Headers) -> Headers:
    """Return what a client begins a call with."""
    return (
        (":method", "POST"),
        (":scheme", scheme),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", _CONTENT_TYPE),
        *metadata,
    )


def response_headers(metadata: Headers) -> Headers:
    """Return what a server begins an answer with."""
    return ((":status", "200"), ("content-type", _CONTENT_TYPE), *metadata)


def trailers(status: Status) -> Headers:
    """Return what a server ends an answer with."""
    text = urllib.parse.quote(status.message[:_MAX_MESSAGE], safe=" !#$&'()*+,/:;=?@[]\"<>\\^`{|}~")
    code = ("grpc-status", str(status.code))
    return (code, ("grpc-message", text)) if text else (code,)


def refused_by_http(headers: Headers) -> str | None:
    """Return the HTTP status for a request that is no call of gRPC; None: it is one."""
    given = dict(headers)
    if given[":method"] != "POST":
        return "405"
    return None if given.get("content-type", "").startswith(_CONTENT_TYPE) else "415"


def is_well_formed_request(headers: Headers) -> bool:
    """Whether a request's headers are what HTTP/2 allows."""
    pseudo = [name for name, _ in headers if name.startswith(":")]
    if [name for name, _ in headers[: len(pseudo)]] != pseudo or len(set(pseudo)) < len(pseudo):
        return False
    if (
        not {":method", ":scheme", ":path"}
        <= set(pseudo)
        <= {
            ":method",
            ":scheme",
            ":path",
            ":authority",
        }
    ):
        return False
    return all(
        name and name == name.lower() and name not in _HOP_BY_HOP
        for name, _ in headers[len(pseudo) :]
    )


def metadata_of(headers: Headers) -> Headers:
    """Return what is not of HTTP/2 itself."""
    return tuple(header for header in headers if not header[0].startswith(":"))


def failed_head(headers: Headers) -> Status | None:
    """Return why an answer's first headers are not the beginning of one; None: they are."""
    given = dict(headers)
    status = given.get(":status", "")
    if status != "200":
        code = _OF_HTTP.get(int(status), UNKNOWN) if status.isdecimal() else UNKNOWN
        return Status(code, f"the answer has HTTP status {status or 'none'}")
    if not given.get("content-type", "").startswith(_CONTENT_TYPE):
        return Status(UNKNOWN, "the answer is not of gRPC")
    return None


def status_of_trailers(headers: Headers) -> Status:
    """Return how a call ended by what the server said last."""
    given = dict(headers)
    code = given.get("grpc-status", "")
    if not code.isdecimal():
        return failed_head(headers) or Status(UNKNOWN, "the answer ended without a status")
    number = int(code) if len(code) <= 2 else UNKNOWN
    message = urllib.parse.unquote(given.get("grpc-message", ""))
    return Status(number if number <= _HIGHEST_CODE else UNKNOWN, message)


def status_of_reset(code: int) -> Status:
    """Return how a call ended that the peer reset."""
    try:
        reason = ErrorCode(code)
    except ValueError:
        return Status(INTERNAL, f"the peer reset the stream, code {code}")
    return Status(_OF_RESET.get(reason, INTERNAL), f"the peer reset the stream: {reason.name}")
