"""Connections are reused, bounded, queued for, expired and never leaked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from maniac_core.providers.transport import HttpTransport, TransportError, TransportErrorKind
from maniac_core.providers.transport.parsing import keep_alive_timeout

if TYPE_CHECKING:
    from maniac_core.providers.transport.response import HttpResponse

    from tests.transport.conftest import Get, MakeTransport, Peer, Serve

Until = Callable[[Callable[[], bool]], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"


async def fetch(sending: Awaitable[HttpResponse]) -> bytes:
    """Read a whole response and close it."""
    response = await sending
    body = await response.read_all(100)
    response.close()
    return body


async def test_connection_is_reused(serve: Serve, get: Get) -> None:
    """Consecutive exchanges share one connection, which is free when the body has arrived."""
    server = await serve(OK, OK, OK)

    responses = [await get(server.url) for _ in range(3)]

    assert server.accepted == 1
    assert [await response.read_all(2) for response in responses] == [b"ok"] * 3


@pytest.mark.parametrize(
    "response",
    [
        CLOSING,
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        OK + OK,
        OK + b"surplus",
        b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 2\r\n\r\nok",
    ],
    ids=["close", "1.0", "second response", "surplus", "timeout=0"],
)
async def test_connection_is_not_reused_when_it_must_not_be(
    serve: Serve, get: Get, response: bytes
) -> None:
    """A connection that is to close, or whose framing is in doubt, carries nothing more."""
    server = await serve(response, response)

    assert await fetch(get(server.url)) == b"ok"
    assert await fetch(get(server.url)) == b"ok"

    assert server.accepted == 2


async def test_last_used_connection_is_reused_first(serve: Serve, get: Get, until: Until) -> None:
    """Reuse is last in, first out, so that surplus connections can expire."""
    releases = [asyncio.Event(), asyncio.Event()]

    async def script(peer: Peer) -> None:
        await peer.request()
        await releases[peer.number].wait()
        await peer.send(OK)
        await peer.serve(OK.replace(b"ok", b"%02d" % peer.number))

    server = await serve(script)
    first = asyncio.create_task(get(server.url))
    await until(lambda: server.accepted == 1)
    second = asyncio.create_task(get(server.url))
    for task, release in ((second, releases[1]), (first, releases[0])):
        release.set()
        await fetch(task)

    assert await fetch(get(server.url)) == b"00"


async def test_a_second_wave_reuses_every_connection_of_the_first(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """However many requests come together, the next as many open no connection."""
    count = 150
    waves = [asyncio.Barrier(count), asyncio.Barrier(count)]
    opened: list[int] = []

    async def script(peer: Peer) -> None:
        opened.append(peer.number)
        for wave in waves:
            await peer.request()
            await wave.wait()
            await peer.send(OK)
        await peer.gone()

    server = await serve(script)
    transport = make_transport()
    for _ in waves:
        await asyncio.gather(*(fetch(get(server.url, over=transport)) for _ in range(count)))

    assert len(opened) == count


async def test_idle_connection_expires(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """An idle connection is closed after `idle_expiry_s` without anybody asking for it."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.serve(OK)
        closed.set()

    server = await serve(script)
    await fetch(get(server.url, over=make_transport(idle_expiry_s=0.02)))

    await closed.wait()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("timeout=5", 4.0),
        ("timeout=5, max=100", 4.0),
        ("max=3, Timeout=1", 0.5),
        ("timeout=0", 0.0),
        ("timeout=x", None),
        ("max=3", None),
        ("", None),
    ],
)
def test_keep_alive_header_is_understood(value: str, expected: float | None) -> None:
    """The server's timeout is used with a margin, and ignored when it makes no sense."""
    assert keep_alive_timeout(value) == expected


async def test_unsolicited_bytes_discard_an_idle_connection(serve: Serve, get: Get) -> None:
    """Bytes that arrive while nobody waits belong to no response, least of all to the next."""
    poison = asyncio.Event()
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if not peer.number:
            await poison.wait()
            await peer.send(OK.replace(b"ok", b"no"))
            await peer.gone()
            closed.set()

    server = await serve(script)
    await fetch(get(server.url))
    poison.set()
    await closed.wait()

    assert await fetch(get(server.url)) == b"ok"
    assert server.accepted == 2


async def test_callers_queue_first_come_first_served(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """At the connection limit callers are served in their order, over the same connection."""
    transport = make_transport(max_connections_per_origin=1)
    server = await serve(*[OK] * 6)
    order: list[int] = []

    async def call(number: int) -> None:
        await fetch(get(server.url, over=transport))
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(6)))

    assert order == list(range(6))
    assert server.accepted == 1


async def test_queue_moves_on_when_connections_close(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """A slot freed by a closed connection goes to the next in the queue."""
    transport = make_transport(max_connections_per_origin=2)
    server = await serve(CLOSING)

    bodies = await asyncio.gather(*(fetch(get(server.url, over=transport)) for _ in range(7)))

    assert bodies == [b"ok"] * 7
    assert server.accepted == 7


async def test_waiting_for_a_connection_hits_connect_s(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """The queue is part of `connect_s`; leaving it harms nobody behind."""
    transport = make_transport(max_connections_per_origin=1)
    server = await serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", OK)
    held = await get(server.url, over=transport)
    impatient = asyncio.create_task(get(server.url, over=transport, connect_s=0.02))
    patient = asyncio.create_task(get(server.url, over=transport))

    with pytest.raises(TransportError) as failure:
        await impatient

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.CONNECT_TIMEOUT, False)
    held.close()
    assert (await patient).status == 200


async def test_refused_connection_frees_its_slot(
    get: Get, make_transport: MakeTransport, refusing_port: int
) -> None:
    """A port nobody listens on is CONNECT, as often as it is tried."""
    transport = make_transport(max_connections_per_origin=1)
    for _ in range(3):
        with pytest.raises(TransportError) as failure:
            await get(f"http://127.0.0.1:{refusing_port}/", over=transport)
        assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.CONNECT, False)


async def test_unknown_host_is_dns(
    get: Get, make_transport: MakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without an address is DNS, and takes no slot."""

    async def resolve(_host: str, _port: int) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("maniac_core.providers.transport.dial.resolve", resolve)
    transport = make_transport(max_connections_per_origin=1)
    for _ in range(2):
        with pytest.raises(TransportError) as failure:
            await get("http://nowhere.test/", over=transport)
        assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.DNS, False)


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("stage", ["head", "part of the head", "body", "read_all"])
async def test_cancelling_an_exchange_frees_its_slot(
    serve: Serve, get: Get, make_transport: MakeTransport, stage: str
) -> None:
    """Cancelled at any stage, the connection is closed and its slot serves the next caller."""
    reached = asyncio.Event()
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number:
            await peer.send(OK)
            return
        if stage == "part of the head":
            await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
        elif stage != "head":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        reached.set()
        await peer.gone()
        closed.set()

    server = await serve(script)
    transport = make_transport(max_connections_per_origin=1)

    async def call() -> object:
        response = await get(server.url, over=transport, headers_s=None, idle_s=None)
        if stage == "read_all":
            return await response.read_all(9)
        await response.read()
        return await response.read()

    task = asyncio.create_task(call())
    await reached.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    await cancel(task)
    await closed.wait()

    assert await fetch(get(server.url, over=transport)) == b"ok"


@pytest.mark.parametrize("response", [OK, CLOSING], ids=["keep-alive", "close"])
async def test_cancelling_at_every_step_never_leaks(
    serve: Serve, get: Get, make_transport: MakeTransport, response: bytes
) -> None:
    """Wherever in its life a call is cancelled, both slots are free afterwards."""
    transport = make_transport(max_connections_per_origin=2)
    server = await serve(*[response] * 1000)

    async def call() -> bytes:
        return await fetch(get(server.url, over=transport))

    for steps in range(40):
        # The first two hold the slots, the others are anywhere in connecting and queueing.
        tasks = [asyncio.create_task(call()) for _ in range(5)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)

        assert all(isinstance(r, asyncio.CancelledError) or r == b"ok" for r in results)
        assert results[1::2] == [b"ok", b"ok"]
        assert [*await asyncio.gather(call(), call())] == [b"ok", b"ok"]

    [route] = transport._routes.values()
    assert route.pool.slots_taken == route.pool.idle_count <= 2


async def test_cancelling_during_a_tls_handshake_frees_its_slot(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """A handshake that is given up closes its socket and its slot."""
    reached = asyncio.Event()
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        reached.set()
        await peer.gone()
        closed.set()

    server = await serve(script)
    transport = make_transport(max_connections_per_origin=1)
    for _ in range(2):
        reached.clear()
        closed.clear()
        url = f"https://127.0.0.1:{server.port}"
        task = asyncio.create_task(get(url, over=transport))
        await reached.wait()
        await cancel(task)
        await closed.wait()

    [route] = transport._routes.values()
    assert route.pool.slots_taken == 0


async def test_cancelled_after_completion_leaves_the_connection_alone(
    serve: Serve, get: Get, transport: HttpTransport, until: Until
) -> None:
    """A call cancelled when its answer is already in does not hurt whoever reuses the connection."""
    server = await serve(OK, OK)
    task = asyncio.create_task(get(server.url))
    await until(lambda: bool(transport._routes))
    [route] = transport._routes.values()
    await until(lambda: route.pool.idle_count == 1)
    task.cancel()
    body = await fetch(get(server.url))
    await asyncio.gather(task, return_exceptions=True)

    assert body == b"ok"
    assert server.accepted == 1
