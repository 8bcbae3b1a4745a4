"""The meaning of a network failure for a request: a sentence for the caller, and what may be tried next.

Addresses may be internal: they are in the log, and not in the caller's error.
"""

from __future__ import annotations

import logging

from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.transport import TransportError, TransportErrorKind

_log = logging.getLogger(__name__)

_WHAT = {
    TransportErrorKind.CONNECT: "could not be reached",
    TransportErrorKind.DNS: "could not be reached: its host name has no address",
    TransportErrorKind.TLS: "could not be reached: the TLS handshake failed",
    TransportErrorKind.PROXY: "could not be reached: the proxy refused",
    TransportErrorKind.CONNECT_TIMEOUT: "accepted no connection in time",
    TransportErrorKind.HEADERS_TIMEOUT: "did not answer in time",
    TransportErrorKind.IDLE_TIMEOUT: "stopped in the middle of its answer",
    TransportErrorKind.RESET: "closed the connection instead of answering",
    TransportErrorKind.TRUNCATED: "broke off in the middle of its answer",
    TransportErrorKind.PROTOCOL: "did not answer in valid HTTP",
    TransportErrorKind.ENCODING: "answered in a content encoding that is not supported; gzip and deflate are",
    TransportErrorKind.HEADERS_TOO_LARGE: "answered with headers that are too large",
    TransportErrorKind.BODY_TOO_LARGE: "answered with a body that is too large",
    TransportErrorKind.CLOSED: "could not be called: the gateway is stopping",
}
_TIMEOUTS = frozenset(
    {
        TransportErrorKind.CONNECT_TIMEOUT,
        TransportErrorKind.HEADERS_TIMEOUT,
        TransportErrorKind.IDLE_TIMEOUT,
    }
)
# No connection could be made. A proxy that refuses counts: every call of the provider goes through it.
_UNREACHABLE = frozenset(
    {
        TransportErrorKind.CONNECT,
        TransportErrorKind.DNS,
        TransportErrorKind.TLS,
        TransportErrorKind.PROXY,
        TransportErrorKind.CONNECT_TIMEOUT,
    }
)
# Another try would go the same way, or would have to wait as long again.
_FINAL = frozenset(
    {
        TransportErrorKind.TLS,
        TransportErrorKind.ENCODING,
        TransportErrorKind.BODY_TOO_LARGE,
        TransportErrorKind.HEADERS_TIMEOUT,
        TransportErrorKind.IDLE_TIMEOUT,
        TransportErrorKind.CLOSED,
    }
)


def transport_failure(
    err: TransportError, provider: str, http_status: int | None = None
) -> UpstreamFailure:
    """Return what a transport error means. `http_status`: the status that had arrived before it."""
    _log.warning("%s: %s", provider, err.message)
    kind = err.kind
    if kind is TransportErrorKind.RESET and http_status is not None:
        kind = TransportErrorKind.TRUNCATED
    is_timeout = kind in _TIMEOUTS
    failure = UpstreamFailure(
        Reason.ERROR_REASON_UPSTREAM_TIMEOUT if is_timeout else Reason.ERROR_REASON_UPSTREAM_ERROR,
        f"{provider} {_WHAT[kind]}.",
        retry=kind not in _FINAL,
        fall_back=True,
        http_status=http_status,
    )
    failure.is_unreachable = kind in _UNREACHABLE
    failure.may_be_billed = http_status is not None
    return failure


def deadline_failure(
    provider: str, what: str, limit_s: float, http_status: int | None = None
) -> UpstreamFailure:
    """Return the failure for a deadline of the gateway's own; the provider is not given the same time again."""
    failure = UpstreamFailure(
        Reason.ERROR_REASON_UPSTREAM_TIMEOUT,
        f"{provider} {what} {limit_s:.3g} s.",
        fall_back=True,
        http_status=http_status,
    )
    failure.may_be_billed = True
    return failure
