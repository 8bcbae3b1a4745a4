"""JSON answers of raw ASGI handlers and of failures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.types import Send

from maniac_edge.context import Header, RequestContext

encode = msgspec.json.Encoder().encode


def json_response(value: Any) -> Response[bytes]:
    """Return a 200 with a struct as JSON, for Litestar's handlers."""
    return Response(encode(value), media_type="application/json")


def list_body(
    headers: Iterable[Header], page: msgspec.Struct, *, next_page: str, left: int | None
) -> bytes:
    """Return a page of a list as JSON, with `has_more` for the clients that stop without it.

    `next_page`: where the next page begins; empty if this is the last. `left`: how many entries follow, if it is known.
    """
    body = encode(page)
    if not any(name == b"x-stainless-lang" for name, _ in headers):
        return body
    has_more = bool(next_page) if left is None else left > 0
    return body[:-1] + (b',"has_more":true}' if has_more else b',"has_more":false}')


def list_response(
    request: Request[Any, Any, Any], page: msgspec.Struct, *, next_page: str, left: int | None
) -> Response[bytes]:
    """Return a 200 with a page of a list; see `list_body`."""
    body = list_body(request.scope["headers"], page, next_page=next_page, left=left)
    return Response(body, media_type="application/json")


def context_of(request: Request[Any, Any, Any]) -> RequestContext:
    """Return the context of a request that Litestar handles."""
    context: RequestContext = request.scope["state"]["context"]
    return context


async def send_json(
    send: Send, body: bytes, *, status: int = 200, headers: list[Header] | None = None
) -> None:
    """Send a whole JSON response."""
    own: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *(headers or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body, "more_body": False})
