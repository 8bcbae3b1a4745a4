"""Errors for callers while a part that the gateway needs is down."""

from __future__ import annotations

from maniac_core.domain.errors import GatewayError, Reason


def unavailable() -> GatewayError:
    """Return the error for a database that cannot be reached."""
    return GatewayError(
        Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
        "The database cannot be reached; try again shortly.",
        retry_after_s=1,
    )


def objects_unavailable() -> GatewayError:
    """Return the error for an object store that cannot be reached."""
    return GatewayError(
        Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
        "The object store cannot be reached; try again shortly.",
        retry_after_s=1,
    )
