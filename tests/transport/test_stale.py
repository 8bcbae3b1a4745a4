"""The race every keep-alive client has: the server closes while a request is on its way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from maniac_core.providers.transport import TransportError, TransportErrorKind, connection
from maniac_core.providers.transport.connection import STALE_WITHIN_S

if TYPE_CHECKING:
    from tests.transport.conftest import Get, MakeTransport, Peer, Serve

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("limit", [1, 1000])
async def test_stale_connection_is_retried_on_a_fresh_one(
    serve: Serve, get: Get, make_transport: MakeTransport, how: str, limit: int
) -> None:
    """A reused connection that closes without a response byte costs a reconnect, no error."""
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        bodies.append(peer.body)
        await peer.send(OK)
        if peer.number == 0:
            await peer.request()
            if how == "reset":
                peer.reset()
            return
        await peer.gone()

    server = await serve(script)
    transport = make_transport(max_connections_per_origin=limit)
    for body in (b"first", b"second"):
        response = await get(server.url, method="POST", body=body, over=transport)
        assert await response.read_all(2) == b"ok"

    assert bodies == [b"first", b"second"]
    assert server.accepted == 2


async def test_retry_takes_no_other_idle_connection(serve: Serve, get: Get) -> None:
    """After a stale connection a new one is opened, since the idle ones are as old."""
    both = asyncio.Barrier(2)

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number < 2:
            await both.wait()
            await peer.send(OK)
            await peer.request()
            return
        await peer.send(OK)

    server = await serve(script)
    for response in await asyncio.gather(get(server.url), get(server.url)):
        response.close()

    response = await get(server.url)

    assert await response.read_all(2) == b"ok"
    assert server.accepted == 3


async def test_retry_happens_once(serve: Serve, get: Get) -> None:
    """A fresh connection that closes without answering is an error, and no third one is tried."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(OK)
            await peer.request()

    server = await serve(script)
    (await get(server.url)).close()

    with pytest.raises(TransportError) as failure:
        await get(server.url)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.RESET, True)
    assert server.accepted == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_fresh_connection_is_never_retried(serve: Serve, get: Get, how: str) -> None:
    """A server that closes a new connection on a request may have acted on it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if how == "reset":
            peer.reset()

    server = await serve(script)

    with pytest.raises(TransportError) as failure:
        await get(server.url)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.RESET, True)
    assert server.accepted == 1


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_reset_that_is_not_immediate_is_an_error(
    serve: Serve, get: Get, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes its time may have worked on the request; sending it again is for the caller to decide."""
    monkeypatch.setattr(connection, "STALE_WITHIN_S", STALE_WITHIN_S)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await asyncio.sleep(0.05)
        if how == "reset":
            peer.reset()

    server = await serve(script)
    (await get(server.url)).close()

    with pytest.raises(TransportError) as failure:
        await get(server.url)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.RESET, True)
    assert server.accepted == 1


async def test_nothing_is_retried_after_a_response_byte(serve: Serve, get: Get) -> None:
    """One byte of an answer shows that the server has acted on the request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"H")

    server = await serve(script)
    (await get(server.url)).close()

    with pytest.raises(TransportError) as failure:
        await get(server.url)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.TRUNCATED, True)
    assert server.accepted == 1


async def test_timeout_on_a_reused_connection_is_not_retried(serve: Serve, get: Get) -> None:
    """Silence is no sign of a stale connection."""

    async def script(peer: Peer) -> None:
        await peer.serve(OK)

    server = await serve(script)
    (await get(server.url)).close()

    with pytest.raises(TransportError) as failure:
        await get(server.url, headers_s=0.02)

    assert failure.value.kind is TransportErrorKind.HEADERS_TIMEOUT
    assert server.accepted == 1


async def test_failed_reconnect_still_counts_as_sent(serve: Serve, get: Get) -> None:
    """When no fresh connection can be had, the first attempt may still have had an effect."""
    stopped = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        server._server.close()  # type: ignore[union-attr]
        stopped.set()

    server = await serve(script)
    (await get(server.url)).close()

    with pytest.raises(TransportError) as failure:
        await get(server.url)

    assert stopped.is_set()
    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.CONNECT, True)


async def test_retry_goes_before_callers_who_came_later(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """At the connection limit a retry queues in front, and takes the slot of what it is offered."""
    order: list[bytes] = []
    queued = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            if peer.body == b"stale" and peer.number == 0:
                await queued.wait()
                return
            order.append(peer.body)
            await peer.send(OK)

    server = await serve(script)
    transport = make_transport(max_connections_per_origin=1)

    async def call(body: bytes) -> None:
        response = await get(server.url, method="POST", body=body, over=transport)
        assert await response.read_all(2) == b"ok"

    await call(b"first")
    calls = [asyncio.create_task(call(body)) for body in (b"stale", b"second", b"third")]
    await asyncio.sleep(0)
    queued.set()
    await asyncio.gather(*calls)

    # The slot of the stale connection had gone to the second caller at once.
    assert order == [b"first", b"second", b"stale", b"third"]
    [route] = transport._routes.values()
    assert (route.pool.slots_taken, server.accepted) == (1, 3)


@pytest.mark.parametrize("how", ["stale", "answered"])
async def test_reset_with_a_head_before_it_is_no_stale_connection(how: str) -> None:
    """Only a connection that brought no byte is stale, even if head and reset come together."""
    from maniac_core.providers.transport.connection import Connection
    from maniac_core.providers.transport.response import HttpResponse

    owner = Mock()
    connection = Connection(asyncio.get_running_loop(), owner, "http://test:80", 65_536)
    wire = Mock()
    wire.is_closing.return_value = False
    wire.get_write_buffer_size.return_value = 0
    connection.connection_made(wire)
    for data in (OK, b"HTTP/1.1 200 OK\r\n\r\n" if how == "answered" else b""):
        response = HttpResponse("http://test:80", connection, None)
        connection.start(response, b"GET / HTTP/1.1\r\n\r\n", b"", None)
        if data:
            connection.data_received(data)
    connection.connection_lost(ConnectionResetError())

    assert response.error is not None
    assert response.error.kind is TransportErrorKind.RESET
    assert response.is_stale is (how == "stale")
