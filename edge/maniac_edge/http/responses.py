"""Answers: JSON, lists, and what an ASGI app sends by itself."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.types import ASGIApp, Send

from maniac_edge.context import Header, RequestContext

encode = msgspec.json.Encoder().encode


class AsgiResponse(Response[None]):
    """An answer that an ASGI app sends by itself."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(None)
        self._app = app

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Return the app."""
        return self._app


def json_response(value: Any) -> Response[bytes]:
    """Return a 200 with a struct as JSON, for Litestar's handlers."""
    return Response(encode(value), media_type="application/json")


def list_response(
    request: Request[Any, Any, Any], page: msgspec.Struct, *, next_page: str, left: int | None
) -> Response[bytes]:
    """Return a 200 with a page of a list as JSON, with `has_more` for the clients that stop without it.

    `next_page`: where the next page begins; empty if this is the last. `left`: how many entries follow, if it is known.
    """
    body = encode(page)
    if any(name == b"x-stainless-lang" for name, _ in request.scope["headers"]):
        has_more = bool(next_page) if left is None else left > 0
        body = body[:-1] + (b',"has_more":true}' if has_more else b',"has_more":false}')
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
