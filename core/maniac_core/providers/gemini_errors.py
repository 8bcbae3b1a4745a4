"""What the details of a google.rpc.Status add to an error: a wrong key, when to try again, a quota of the day."""

from __future__ import annotations

import re
from typing import Any

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure

_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_EXPIRED"})


def refine(failure: UpstreamFailure, error: Any) -> UpstreamFailure:
    """Return a failure refined by the `details` of its google.rpc.Status, `error`."""
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if detail.get("reason") in _KEY_REASONS:
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
            failure.retry_after_s = float(match[1])
        if failure.reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED and _is_daily(detail):
            failure.retry = False
    return failure


def _is_daily(detail: JsonObject) -> bool:
    """Whether a quota of the day is used up, which no short wait brings back."""
    violations = detail.get("violations")
    return isinstance(violations, list) and any(
        isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId"))
        for violation in violations
    )
