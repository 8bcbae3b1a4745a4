"""What the details of a google.rpc.Status add to an error: a wrong key, when to try again, a quota of the day."""

from __future__ import annotations

import re
from typing import Any

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import error_in, named_failure, stream_failure, unframed_failure
from maniac_core.providers.transport.retry_after import LONGEST_S
from maniac_core.providers.transport.sse import SSEEvent

_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?)s")
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_EXPIRED"})


def refine(failure: UpstreamFailure, error: Any) -> UpstreamFailure:
    """Return a failure refined by the `details` of its google.rpc.Status, `error`."""
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if _is_one_of(detail.get("reason"), _KEY_REASONS):
            # Said with status 400, as if the caller had done something wrong.
            return UpstreamFailure(
                Reason.ERROR_REASON_UPSTREAM_AUTH,
                "The provider refused the gateway's own credential.",
                fall_back=True,
                http_status=failure.http_status,
            )
        delay = detail.get("retryDelay")
        match = _SECONDS.fullmatch(delay) if isinstance(delay, str) else None
        if match is not None and failure.fall_back and failure.retry_after_s is None:
            failure.retry_after_s = min(float(match[1]), LONGEST_S)
        if failure.reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED and _is_daily(detail):
            failure.retry = False
    return failure


def failure_in(data: bytes) -> UpstreamFailure | None:
    """Return the failure for JSON without an answer in it; None if it is not an error."""
    error = error_in(data)
    return None if error is None else refine(stream_failure(error), error)


def failure_of_event(event: SSEEvent) -> UpstreamFailure | None:
    """Return the failure for an event, or for text between events; None if it is not an error."""
    if failure := failure_in(event.data):
        return failure
    if not event.is_framed:
        return unframed_failure(event.data)
    if event.event == "error" and event.data.strip():
        return named_failure(event.data)
    return None


def _is_one_of(value: Any, names: frozenset[str]) -> bool:
    return isinstance(value, str) and value in names


def _is_daily(detail: JsonObject) -> bool:
    """Whether a quota of the day is used up, which no short wait brings back."""
    violations = detail.get("violations")
    return isinstance(violations, list) and any(
        isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId"))
        for violation in violations
    )
