"""Cross-origin requests: which pages in a browser may call the API, and read what of its answers."""

from __future__ import annotations

import re
from collections.abc import Collection

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = b"GET, POST, PATCH, DELETE, OPTIONS"
_EXPOSED = (
    b"x-request-id, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, retry-after, "
    b"x-should-retry, x-maniac-dropped-params, server-timing"
)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]{0,2048}")
_MAX_AGE_S = b"600"


class CorsMiddleware:
    """Answers preflights, and lets pages of the allowed origins read answers. Cookies are never asked for."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._allows_all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = dict(scope["headers"]) if scope["type"] == ScopeType.HTTP else {}
        origin = headers.get(b"origin")
        if origin is None:
            await self._app(scope, receive, send)
            return
        own: list[tuple[bytes, bytes]] = [] if self._allows_all else [(b"vary", b"Origin")]
        is_allowed = self._allows_all or origin in self._origins
        if is_allowed:
            own += (
                (b"access-control-allow-origin", b"*" if self._allows_all else origin),
                (b"access-control-expose-headers", _EXPOSED),
            )
        if (
            is_allowed
            and scope["method"] == "OPTIONS"  # type: ignore[typeddict-item]
            and b"access-control-request-method" in headers
        ):
            asked = headers.get(b"access-control-request-headers", b"")
            own += (
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-max-age", _MAX_AGE_S),
            )
            if asked and _HEADER_NAMES.fullmatch(asked):
                own.append((b"access-control-allow-headers", asked))
            await send({"type": "http.response.start", "status": 204, "headers": own})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *own]
            await send(message)

        await self._app(scope, receive, send_allowed)
