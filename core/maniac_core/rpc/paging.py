"""Pages of lists, the same for every resource."""

from __future__ import annotations

from typing import Any

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.records import Page


def page_from_proto(request: Any, *, default: int = 20, maximum: int = 100) -> Page:
    """Return the page that a list request asks for. Edges check `limit` and `offset` before, by their own names.

    Raises:
        GatewayError: VALIDATION_ERROR for a size or an offset out of range.
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
    """Return how many items a page is to have; 0 stands for the default.

    Raises:
        GatewayError: VALIDATION_ERROR for a size out of range.
    """
    if not 0 <= given <= maximum:
        raise _out_of_range("page_size", f"must be between 0 and {maximum}")
    return given or default


def _out_of_range(name: str, message: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{name} {message}.",
        param=name,
        violations=(Violation(("query", name), message, "out_of_range"),),
    )
