"""The way back of a failure: a GatewayError as google.rpc.Status."""

from __future__ import annotations

import logging
from typing import NoReturn

import grpc
import msgspec
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.boundary.heads import Context
from maniac_core.services.capture.attempt_log import reason_name

_log = logging.getLogger(__name__)
_MAX_MESSAGE = 1000
_STATUS_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


async def abort(context: Context, error: GatewayError) -> NoReturn:
    """End an RPC with an error: a google.rpc.Status with one ErrorInfo, and the window if there is one."""
    mapping = error.mapping
    # It may quote what the caller sent, and metadata above 8 KiB breaks the connection instead of being delivered.
    message = _shortened(error.message)
    status = status_pb2.Status(code=mapping.grpc_code, message=message)
    info = error_details_pb2.ErrorInfo(reason=reason_name(error.reason), domain="maniac_gateway")
    if error.param is not None:
        info.metadata["param"] = error.param
    if error.details is not None:
        info.metadata["details_json"] = msgspec.json.encode(error.details).decode()
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(
                field=".".join(str(part) for part in violation.loc),
                description=violation.message,
                reason=violation.type,
            )
        status.details.add().Pack(bad)
    if error.retry_after_s is not None:
        status.details.add().Pack(
            error_details_pb2.RetryInfo(retry_delay=Duration(seconds=error.retry_after_s))
        )
    trailing = tuple(context.trailing_metadata() or ())
    await context.abort(
        _STATUS_CODES[mapping.grpc_code],
        message,
        (
            *trailing,
            ("grpc-status-details-bin", status.SerializeToString()),
            # Clients that repeat calls by themselves do so when a core breaks off, not when it has answered.
            ("grpc-retry-pushback-ms", "-1"),
        ),
    )
    raise AssertionError("abort always raises")


def _shortened(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"


def unexpected(error: Exception) -> GatewayError:
    """Log a fault of the gateway's own, and return what the caller learns of it."""
    _log.error("a call failed unexpectedly", exc_info=error)
    return GatewayError(
        Reason.ERROR_REASON_INTERNAL_ERROR, "The gateway failed to handle the request."
    )
