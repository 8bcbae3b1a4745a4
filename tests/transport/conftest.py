"""A scripted server on a real socket, and transports that are closed after each test.

Every async test here runs on both event loops the core supports.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from maniac_core.providers.transport import (
    Deadlines,
    HttpTransport,
    UpstreamRequest,
    connection,
)

if TYPE_CHECKING:
    from maniac_core.providers.transport.response import HttpResponse

Script = Callable[["Peer"], Awaitable[None]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.body = b""

    async def request(self) -> str:
        """Read a request; return its head with lines joined by a bare newline."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = 0
        for line in head.split("\r\n"):
            if line.lower().startswith("content-length:"):
                length = int(line.partition(":")[2])
        self.body = await self.reader.readexactly(length)
        return head.strip().replace("\r\n", "\n")

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def serve(self, *responses: bytes) -> None:
        """Answer requests in order, then wait for the client to hang up."""
        for response in responses:
            await self.request()
            await self.send(response)
        await self.gone()

    async def gone(self) -> None:
        """Return once the client has closed the connection."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """Plays a script on every connection it accepts."""

    def __init__(self, script: Script) -> None:
        self.accepted = 0
        self.peers: list[Peer] = []
        self.port = 0
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The server's origin, without TLS."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, context: ssl.SSLContext | None) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and playing; raise what a script failed with."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        for peer in self.peers:
            peer.writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self.accepted, reader, writer)
        self.accepted += 1
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            # The client hung up, which some tests want and the others notice at their end.
            pass
        except asyncio.CancelledError:
            # By stop(); the stream protocol of Python 3.11 would log it as an error.
            pass
        finally:
            writer.close()
        self._tasks.discard(task)


Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers: `serve(script, context=None)`, or `serve(b"response", …)` for one script."""
    servers: list[Server] = []

    async def start(*script: Script | bytes, context: ssl.SSLContext | None = None) -> Server:
        responses = [item for item in script if isinstance(item, bytes)]
        function = script[0] if callable(script[0]) else lambda peer: peer.serve(*responses)
        server = Server(function)
        await server.start(context)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


MakeTransport = Callable[..., HttpTransport]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a connection for stale however late it closes: on a busy machine, that is late."""
    monkeypatch.setattr(connection, "STALE_WITHIN_S", 60.0)


@pytest.fixture
async def make_transport() -> AsyncIterator[MakeTransport]:
    """Make transports that see no environment unless one is given."""
    transports: list[HttpTransport] = []

    def make(
        *,
        environ: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_connections_per_origin: int = 1000,
        idle_expiry_s: float = 55.0,
        max_header_bytes: int = 65_536,
    ) -> HttpTransport:
        transport = HttpTransport(
            max_connections_per_origin=max_connections_per_origin,
            idle_expiry_s=idle_expiry_s,
            max_header_bytes=max_header_bytes,
            ssl_context=ssl_context,
            environ=environ or {},
        )
        transports.append(transport)
        return transport

    yield make
    for transport in transports:
        await transport.aclose()


@pytest.fixture
async def transport(make_transport: MakeTransport) -> HttpTransport:
    return make_transport()


Get = Callable[..., Coroutine[Any, Any, "HttpResponse"]]


@pytest.fixture
def get(transport: HttpTransport) -> Get:
    """Send a GET over `transport`, or another method or transport."""

    async def send(
        url: str,
        *,
        method: str = "GET",
        over: HttpTransport = transport,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        connect_s: float | None = 5.0,
        headers_s: float | None = 5.0,
        idle_s: float | None = 5.0,
    ) -> HttpResponse:
        deadlines = Deadlines(connect_s=connect_s, headers_s=headers_s, idle_s=idle_s)
        return await over.send(UpstreamRequest(method, url, headers, body), deadlines)

    return send


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that refuses connections; nobody else can come to listen on it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        yield port


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Let the event loop run until something holds; the test's timeout bounds it."""

    async def wait(holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - the condition is the client's inner state
            await asyncio.sleep(0)

    return wait
