"""Pages of lists, the same for every resource."""

from __future__ import annotations

from typing import Any

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.paging import Page


def page_from_proto(request: Any, *, default: int = 20, maximum: int = 100) -> Page:
    """Return the page that a list request asks for; a larger size is taken as the maximum (AIP-158).

    Edges check `limit` and `offset` before, by their own names and bounds.

    Raises:
        GatewayError: VALIDATION_ERROR for a negative size or offset.
    """
    limit = page_size(request.page_size, default=default, maximum=maximum)
    if request.skip < 0:
        raise _out_of_range("skip", "must be 0 or more")
    return Page(
        limit=limit,
        skip=request.skip,
        after=request.page_token or None,
        ascending=getattr(request, "ascending", False),
    )


def page_size(given: int, *, default: int = 20, maximum: int = 100) -> int:
    """Return how many items a page is to have; 0 stands for the default, a larger size for the maximum (AIP-158).

    Raises:
        GatewayError: VALIDATION_ERROR for a negative size.
    """
    if given < 0:
        raise _out_of_range("page_size", "must be 0 or more")
    return min(given or default, maximum)


def _out_of_range(name: str, message: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{name} {message}.",
        param=name,
        violations=(Violation(("query", name), message, "out_of_range"),),
    )
