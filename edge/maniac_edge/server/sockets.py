"""Where connections may become WebSockets, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maniac_edge.context import Header


class Sockets(NamedTuple):
    """The paths on which a connection may become one, and the app that serves it then."""

    paths: frozenset[bytes]
    app: ASGIApp

    def open(
        self,
        before: HttpToolsProtocol,
        transport: asyncio.Transport,
        head: bytes,
        rest: bytes,
        on_lost: Callable[[], None],
    ) -> None:
        """Take a connection over. `head`: of the handshake; `rest`: what came after it."""
        # With the first one, so that an edge without any does not load what they need.
        from maniac_edge.server.socket import SocketProtocol  # noqa: PLC0415

        before.connections.discard(before)
        protocol = SocketProtocol(
            before.config, before.server_state, before.app_state, app=self.app, on_lost=on_lost
        )
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        protocol.data_received(head + rest)


def handshake(path: bytes, headers: Iterable[Header]) -> bytes:
    """Return the head of a handshake again, without the query, which is logged and may have a key in it."""
    lines = [b"GET %b HTTP/1.1" % path, *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join([*lines, b"", b""])


def is_offered(headers: Iterable[Header]) -> bool:
    """Whether a request offers to go on as a WebSocket."""
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers)
