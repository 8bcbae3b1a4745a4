"""The server: listeners, and the connections that came by them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable

from maniac_common.hop.calls import metadata_of
from maniac_common.hop.connection import Connection
from maniac_common.hop.endpoint import Endpoint
from maniac_common.hop.hpack import Headers
from maniac_common.hop.stream import Stream

# A core has a few dozen edge workers.
_MAX_CONNECTIONS = 1000
_BACKLOG = 128
_HANDSHAKE_S = 10.0


class Request:
    """A call that a client asks for."""

    def __init__(self, stream: Stream, headers: Headers, *, is_local: bool) -> None:
        self.stream = stream
        self.method = dict(headers)[":path"]
        """`/package.Service/Method`."""
        self.metadata = metadata_of(headers)
        self.is_local = is_local
        """Whether it came by a Unix socket."""


Accept = Callable[[Request], None]
"""Takes a call: calls `begin` of its stream, or `finish` to refuse it."""


class Server:
    """Serves calls."""

    def __init__(self, accept: Accept, *, max_message_bytes: int) -> None:
        self._accept = accept
        self._max_message_bytes = max_message_bytes
        self._listeners: list[asyncio.Server] = []
        self._endpoints: set[Endpoint] = set()
        self._all_lost = asyncio.Event()

    async def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket that only this user can open.

        Raises:
            OSError: that cannot be done.
        """
        loop = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # What another thread makes meanwhile is only more private than it would be.
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(mask)
        self._listeners.append(
            await loop.create_unix_server(
                lambda: self._make(is_local=True), sock=listener, backlog=_BACKLOG
            )
        )

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen on an address, and return the port, which for 0 is a free one.

        Raises:
            OSError: that cannot be done.
        """
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: self._make(is_local=False),
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else _HANDSHAKE_S,
            backlog=_BACKLOG,
        )
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, wait `grace_s` seconds for the calls that run, and cut those that still do."""
        for listener in self._listeners:
            listener.close()
        for endpoint in tuple(self._endpoints):
            endpoint.connection.leave()
            endpoint.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._endpoints:
                    self._all_lost.clear()
                    await self._all_lost.wait()
        for endpoint in tuple(self._endpoints):
            endpoint.abort()

    def _make(self, *, is_local: bool) -> Endpoint:
        def accept(stream: Stream, headers: Headers) -> None:
            self._accept(Request(stream, headers, is_local=is_local))

        connection = Connection(accept, max_message_bytes=self._max_message_bytes)
        return Endpoint(connection, self._made, self._lost)

    def _made(self, endpoint: Endpoint) -> None:
        self._endpoints.add(endpoint)
        if len(self._endpoints) > _MAX_CONNECTIONS:
            endpoint.connection.lost("there are too many connections")

    def _lost(self, endpoint: Endpoint) -> None:
        self._endpoints.discard(endpoint)
        self._all_lost.set()
