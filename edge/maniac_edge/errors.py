"""Failures: from the error table and gRPC statuses to the JSON envelope and its headers."""

from __future__ import annotations

import math
import time
from typing import Any

import grpc
import msgspec
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from maniac_gateway.v1 import errors_pb2

from maniac_edge.context import Header, RequestContext
from maniac_edge.schemas.common import ErrorBody, ErrorEnvelope, FieldError

Reason = errors_pb2.ErrorReason

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_MAX_RETRY_AFTER_S = 60
_TOO_MANY_REQUESTS = 429
# Statuses below 500 that clients retry by themselves.
_RETRIED_BY_CLIENTS = frozenset({408, 409, 429})


def _read_table() -> dict[str, errors_pb2.ErrorMapping]:
    return {
        value.name.removeprefix("ERROR_REASON_"): value.GetOptions().Extensions[
            errors_pb2.error_mapping
        ]
        for value in Reason.DESCRIPTOR.values
    }


TABLE = _read_table()
"""The rows of the error table by reason name without its prefix."""

_NAMES = {number: name.removeprefix("ERROR_REASON_") for name, number in Reason.items()}

# What a status means that carries no ErrorInfo: it comes from the transport, not from the core's own code. The texts
# are fixed, because gRPC's own name sockets and addresses.
_BY_CODE: dict[grpc.StatusCode, tuple[str, str]] = {
    grpc.StatusCode.CANCELLED: (
        "DEPENDENCY_UNAVAILABLE",
        "The gateway's core stopped the request.",
    ),
    grpc.StatusCode.UNAVAILABLE: (
        "DEPENDENCY_UNAVAILABLE",
        "The gateway's core cannot be reached. Try again.",
    ),
    grpc.StatusCode.ABORTED: ("DEPENDENCY_UNAVAILABLE", "The gateway's core broke off. Try again."),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        "DEPENDENCY_UNAVAILABLE",
        "The gateway's core cannot take the request now.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("UPSTREAM_TIMEOUT", "No answer came in time."),
    grpc.StatusCode.UNIMPLEMENTED: (
        "NOT_IMPLEMENTED",
        "This deployment does not offer this capability.",
    ),
    grpc.StatusCode.UNAUTHENTICATED: ("INVALID_API_KEY", "The API key is not valid."),
    grpc.StatusCode.PERMISSION_DENIED: ("INSUFFICIENT_SCOPE", "The API key may not do this."),
    grpc.StatusCode.INVALID_ARGUMENT: ("INVALID_VALUE", "The request is not valid."),
    grpc.StatusCode.OUT_OF_RANGE: ("INVALID_VALUE", "The request is not valid."),
    grpc.StatusCode.ALREADY_EXISTS: ("CONFLICT", "The resource exists already."),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "CONFLICT",
        "The resource is in a state that does not allow this.",
    ),
}
_UNKNOWN = ("INTERNAL_ERROR", "The gateway failed. The request id names the failure in its log.")


class EdgeError(Exception):
    """A failure that is reported to the client.

    `reason` is a name of the error table without its prefix. `param` is the request field it is about. `details` is
    JSON-shaped. `from_core` says that the core decided it, so that no gate is left to pass.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
        violations: tuple[FieldError, ...] = (),
        headers: tuple[Header, ...] = (),
        from_core: bool = False,
    ) -> None:
        super().__init__(message)
        self.row = TABLE.get(reason) or TABLE["INTERNAL_ERROR"]
        self.message = message
        self.param = param
        self.details = details
        self.retry_after_s = retry_after_s
        self.violations = violations
        self.headers = headers
        self.from_core = from_core

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.row.http_status

    @property
    def code(self) -> str:
        """The envelope's `error.code`."""
        return self.row.code


class ClientGoneError(Exception):
    """The client closed its connection; nobody reads an answer."""


def from_rpc_error(error: grpc.aio.AioRpcError) -> EdgeError:
    """Return the failure that a status of the core stands for."""
    status = _rich_status(error)
    info, violations, retry_after_s = _unpack(status)
    if info is None:
        reason, message = _BY_CODE.get(error.code(), _UNKNOWN)
        retry_after_s = 1.0 if reason == "DEPENDENCY_UNAVAILABLE" else None
        return EdgeError(reason, message, retry_after_s=retry_after_s, from_core=True)
    return EdgeError(
        info.reason,
        status.message,
        param=info.metadata.get("param") or _first_param(violations),
        details=_details(info.metadata.get("details_json", "")),
        retry_after_s=retry_after_s,
        violations=violations,
        from_core=True,
    )


def from_error(error: errors_pb2.Error) -> EdgeError:
    """Return the failure that an error of the relay stands for."""
    return EdgeError(
        _NAMES.get(error.reason, "INTERNAL_ERROR"),
        error.message,
        param=error.param or None,
        details=_details(error.details_json),
        retry_after_s=error.retry_after_s if error.HasField("retry_after_s") else None,
        violations=tuple(_violation(v.field, v.message, v.type) for v in error.violations),
        from_core=True,
    )


def internal_error() -> EdgeError:
    """Return the failure for a fault of the edge itself; it says nothing about the fault."""
    reason, message = _UNKNOWN
    return EdgeError(reason, message, from_core=True)


def envelope(error: EdgeError) -> bytes:
    """Return the JSON body of an answer that failed."""
    body = ErrorBody(
        message=error.message,
        type=error.row.type,
        param=error.param,
        code=error.row.code,
        details=error.details,
    )
    detail = list(error.violations) or None
    if error.status == 422 and detail is None:
        detail = [FieldError(loc=["body"], msg=error.message, type="value_error")]
    return _encode(ErrorEnvelope(error=body, detail=detail))


def stream_frame(error: EdgeError) -> bytes:
    """Return the JSON of an error inside a stream that has begun."""
    return _encode(
        {
            "error": {
                "message": error.message,
                "type": error.row.type,
                "param": error.param,
                "code": error.row.code,
            }
        }
    )


def response_headers(error: EdgeError, context: RequestContext) -> list[Header]:
    """Return the headers that tell clients whether and when to try again."""
    headers = list(error.headers)
    if not error.row.retryable and (error.status in _RETRIED_BY_CLIENTS or error.status >= 500):
        headers.append((b"x-should-retry", b"false"))
    retry_after_s = error.retry_after_s
    if retry_after_s is None and error.row.code == "rate_limit_exceeded":
        retry_after_s = _until_reset(context)
    if retry_after_s is None and error.status == _TOO_MANY_REQUESTS:
        # A provider that does not say; a 429 of ours always does.
        retry_after_s = 1
    if retry_after_s is not None:
        # An integer always: the maniac client fails on anything else, whatever the status.
        whole = min(max(math.ceil(retry_after_s), 1), _MAX_RETRY_AFTER_S)
        headers.append((b"retry-after", b"%d" % whole))
    return headers


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    metadata = error.trailing_metadata()
    data = metadata.get("grpc-status-details-bin") if metadata else None
    try:
        return (
            status_pb2.Status.FromString(data) if isinstance(data, bytes) else status_pb2.Status()
        )
    except DecodeError:
        return status_pb2.Status()


def _unpack(
    status: status_pb2.Status,
) -> tuple[error_details_pb2.ErrorInfo | None, tuple[FieldError, ...], float | None]:
    info: error_details_pb2.ErrorInfo | None = None
    violations: tuple[FieldError, ...] = ()
    retry_after_s: float | None = None
    for detail in status.details:
        kind = detail.TypeName()
        if kind == "google.rpc.ErrorInfo":
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
        elif kind == "google.rpc.BadRequest":
            request = error_details_pb2.BadRequest.FromString(detail.value)
            violations = tuple(
                _violation(v.field, v.description, v.reason) for v in request.field_violations
            )
        elif kind == "google.rpc.RetryInfo":
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after_s = delay.seconds + delay.nanos / 1e9
    return info, violations, retry_after_s


def _violation(field: str, message: str, kind: str) -> FieldError:
    loc: list[str | int] = [int(part) if part.isdecimal() else part for part in field.split(".")]
    return FieldError(loc=loc, msg=message, type=kind or "value_error")


def _first_param(violations: tuple[FieldError, ...]) -> str | None:
    return param_of(violations[0].loc[1:]) if violations else None


def param_of(loc: list[str | int]) -> str | None:
    """Return a path such as `messages[0].role`, or None for an empty one."""
    param = ""
    for part in loc:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else part
    return param or None


def _details(text: str | bytes) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        return _decode_object(text)
    except msgspec.DecodeError:
        return None


def _until_reset(context: RequestContext) -> float | None:
    reset = context.response_headers.get(b"x-ratelimit-reset", b"")
    return int(reset) - time.time() if reset.isdigit() else None
