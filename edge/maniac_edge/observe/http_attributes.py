"""How metrics and traces name a request, by OpenTelemetry's conventions for HTTP."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.context import RequestContext

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)


def method_of(scope: Scope, context: RequestContext) -> str:
    """Return a request's method; any method outside HTTP's is `_OTHER`."""
    method = "HEAD" if context.is_head else str(scope["method"])  # type: ignore[typeddict-item]
    return method if method in _METHODS else "_OTHER"


def route_of(scope: Scope) -> str:
    """Return the template of the path that answered; empty: none did."""
    return scope.get("path_template", "")


def status_of(context: RequestContext) -> tuple[str, str]:
    """Return the status of an answer, and the error code if the request failed, else an empty text."""
    if context.client_gone:
        # Nobody saw a status; 499 is what other servers say then.
        return "499", "client_gone"
    return str(context.status), context.error_code or ""
