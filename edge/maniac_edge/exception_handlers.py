"""Answers to failed requests: every exception that leaves a handler, and what the framework refuses by itself."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from typing import Any

from litestar import Request
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from maniac_edge.context import RequestContext
from maniac_edge.error_forms import error_body
from maniac_edge.errors import (
    ClientGoneError,
    EdgeError,
    internal_error,
    response_headers,
)
from maniac_edge.http.client_connection import CLIENT_WATCH, CLOSE, ClientWatch
from maniac_edge.http.responses import AsgiResponse, send_json
from maniac_edge.requests.bodies import Access

# Prefixes that clients put before a path when they guess.
_BASE_WORDS = frozenset({"api", "v1", "v2", "openai"})
_LONGEST_GUESS = 100
_NEAR_ENOUGH = 0.75
_log = logging.getLogger(__name__)


def exception_handlers(access: Access, paths: Iterable[str]) -> ExceptionHandlersMap:
    """Return the handlers that turn exceptions into the JSON envelope. `paths` are those that exist."""
    known = {_outline(path): path for path in paths if "{" not in path and path != "/"}

    def no_such_path(request: Request[Any, Any, Any], _: Exception) -> AsgiResponse:
        context: RequestContext = request.scope["state"]["context"]
        outline = _outline(context.path)
        near = difflib.get_close_matches(outline, known, n=1, cutoff=_NEAR_ENOUGH)
        meant = known.get(outline) or (known[near[0]] if near else None)
        hint = f" Did you mean {meant}?" if meant else " The paths are listed at /docs."
        error = EdgeError("ROUTE_NOT_FOUND", f"No such path.{hint}")
        return _failure(error, access, context)

    def answer(request: Request[Any, Any, Any], exc: Exception) -> AsgiResponse:
        context: RequestContext = request.scope["state"]["context"]
        return _failure(to_edge_error(exc, context), access, context)

    def nobody_reads(request: Request[Any, Any, Any], _: Exception) -> AsgiResponse:
        context: RequestContext = request.scope["state"]["context"]
        context.client_gone = True
        return AsgiResponse(_send_nothing)

    return {
        NotFoundException: no_such_path,
        EdgeError: answer,
        HTTPException: answer,
        Exception: answer,
        ClientGoneError: nobody_reads,
    }


def _outline(path: str) -> str:
    """Return what a path has in common with one that was meant: its words, without base, number and letter case."""
    words = [word for word in path[:_LONGEST_GUESS].lower().replace("_", "/").split("/") if word]
    words = [word.rstrip("s") for word in words if word not in _BASE_WORDS]
    return "/".join(words)


def to_edge_error(exc: Exception, context: RequestContext) -> EdgeError:
    """Return the error for an exception; an unexpected one is logged."""
    if isinstance(exc, EdgeError):
        return exc
    if isinstance(exc, MethodNotAllowedException):
        return _method_not_allowed((exc.headers or {}).get("allow", ""))
    if isinstance(exc, HTTPException) and exc.status_code < 500:
        return EdgeError("INVALID_VALUE", exc.detail)
    _log.error(
        "unhandled exception in %s",
        context.shown_path,
        exc_info=exc,
        extra={"fields": {"request_id": context.request_id}},
    )
    return internal_error()


def _method_not_allowed(allow: str) -> EdgeError:
    """Return the 405 for a path whose verbs are `allow`, comma-separated."""
    names = ", ".join(sorted(filter(None, allow.split(", "))))
    return EdgeError(
        "METHOD_NOT_ALLOWED",
        f"This path takes {names}." if names else "This path does not take this verb.",
        headers=((b"allow", names.encode("ascii")),),
    )


async def _send_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


def _failure(error: EdgeError, access: Access, context: RequestContext) -> AsgiResponse:
    async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await _answer(error, access, context, scope, send)

    return AsgiResponse(send_it)


async def send_failure(exc: Exception, access: Access, scope: Scope, send: Send) -> None:
    """Answer a request whose handler failed, before anything was sent, with the envelope."""
    context: RequestContext = scope["state"]["context"]
    await _answer(to_edge_error(exc, context), access, context, scope, send)


async def _answer(
    error: EdgeError, access: Access, context: RequestContext, scope: Scope, send: Send
) -> None:
    """Send the envelope of a failure.

    What the edge refuses by itself passes the core's gates first, so that a caller without a valid key, or above its
    limit, learns that and nothing else.
    """
    if context.is_gated and not error.from_core:
        try:
            await access.check_access(context, refused_code=error.code)
        except EdgeError as err:
            error = err
    context.error_code = error.code
    body = error_body(context.path, scope["headers"], error, context.request_id)
    headers = response_headers(error, context)
    watch: ClientWatch = scope["extensions"][CLIENT_WATCH]  # type: ignore[index,assignment]
    if watch.in_body and CLOSE not in headers:
        # The rest of the body is not worth receiving.
        headers.append(CLOSE)
    await send_json(send, body, status=error.status, headers=headers)
