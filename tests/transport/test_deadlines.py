"""Each stage has its own deadline, and slowness cannot stretch it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from maniac_core.providers.transport import HttpTransport, TransportError, TransportErrorKind

if TYPE_CHECKING:
    from tests.transport.conftest import Get, MakeTransport, Peer, Serve

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_silent_server_hits_headers_s(serve: Serve, get: Get) -> None:
    """A server that never answers costs `headers_s`, and the connection is closed."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()
        gone.set()

    server = await serve(script)

    with pytest.raises(TransportError) as failure:
        await get(server.url, headers_s=0.03)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.HEADERS_TIMEOUT, True)
    await gone.wait()


async def test_dribbled_head_hits_headers_s(serve: Serve, get: Get) -> None:
    """Header bytes that keep coming do not extend the deadline of the head."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send(b"x: y\r\n")
            # The dribble itself is under test; it stops when the client has hung up.
            await asyncio.sleep(0.005)

    server = await serve(script)
    started = asyncio.get_running_loop().time()

    with pytest.raises(TransportError) as failure:
        await get(server.url, headers_s=0.05)

    assert failure.value.kind is TransportErrorKind.HEADERS_TIMEOUT
    assert asyncio.get_running_loop().time() - started < 10


async def test_silent_body_hits_idle_s_and_closes(serve: Serve, get: Get) -> None:
    """A body that stalls for `idle_s` fails after its bytes were handed out."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await peer.gone()
        gone.set()

    response = await get((await serve(script)).url, idle_s=0.03)
    assert await response.read() == b"abc"

    for _ in range(2):
        with pytest.raises(TransportError) as failure:
            await response.read()
        assert failure.value.kind is TransportErrorKind.IDLE_TIMEOUT
    await gone.wait()


async def test_read_all_waits_idle_s_at_most(serve: Serve, get: Get) -> None:
    """The idle deadline also bounds each wait inside `read_all`."""
    server = await serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    response = await get(server.url, idle_s=0.03)

    with pytest.raises(TransportError) as failure:
        await response.read_all(100)

    assert failure.value.kind is TransportErrorKind.IDLE_TIMEOUT


async def test_explicit_timeout_leaves_the_response_readable(serve: Serve, get: Get) -> None:
    """A read that only polls may time out and be repeated."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await proceed.wait()
        await peer.send(b"ok")

    response = await get((await serve(script)).url, idle_s=0.001)
    for _ in range(2):
        with pytest.raises(TransportError) as failure:
            await response.read(0.01)
        assert failure.value.kind is TransportErrorKind.IDLE_TIMEOUT
    proceed.set()

    assert await response.read(None) == b"ok"
    assert await response.read() == b""


async def test_later_deadline_is_not_cut_by_an_earlier_timer(serve: Serve, get: Get) -> None:
    """A short deadline of one exchange does not fire in the next one on the same connection."""
    waiting = asyncio.Event()
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        waiting.set()
        await proceed.wait()
        await peer.send(OK)
        await peer.gone()

    server = await serve(script)
    (await get(server.url, headers_s=0.3)).close()
    second = asyncio.create_task(get(server.url, headers_s=30))
    await waiting.wait()
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(0.35, passed.set_result, None)
    await passed
    proceed.set()

    assert (await second).status == 200
    assert server.accepted == 1


async def test_earlier_deadline_replaces_a_later_timer(serve: Serve, get: Get) -> None:
    """A short deadline counts although a long one was set on the connection before."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.gone()

    server = await serve(script)
    (await get(server.url, headers_s=30)).close()

    with pytest.raises(TransportError) as failure:
        await get(server.url, headers_s=0.03)

    assert failure.value.kind is TransportErrorKind.HEADERS_TIMEOUT


async def test_slow_upload_is_not_the_servers_silence(serve: Serve, get: Get) -> None:
    """The head's deadline starts when a big request has been taken, not when it was begun."""
    step, steps = 2_000_000, 24

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        for _ in range(steps):
            await peer.reader.readexactly(step)
            # Slower than `headers_s` in sum, faster than it at each step.
            await asyncio.sleep(0.05)
        await peer.send(OK)
        await peer.gone()

    server = await serve(script)

    response = await get(server.url, method="POST", body=bytes(step * steps), headers_s=1)

    assert await response.read_all(2) == b"ok"


async def test_upload_nobody_takes_hits_headers_s(serve: Serve, get: Get) -> None:
    """A server that stops reading the request cannot hold the caller."""
    stop = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    server = await serve(script)

    with pytest.raises(TransportError) as failure:
        await get(server.url, method="POST", body=bytes(50_000_000), headers_s=0.05)

    stop.set()
    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.HEADERS_TIMEOUT, True)


async def test_silent_tls_server_hits_connect_s(
    serve: Serve, get: Get, transport: HttpTransport
) -> None:
    """The TLS handshake counts towards `connect_s`, and nothing was sent."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    server = await serve(script)

    with pytest.raises(TransportError) as failure:
        await get(f"https://127.0.0.1:{server.port}/", over=transport, connect_s=0.1)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.CONNECT_TIMEOUT, False)
    await gone.wait()


async def test_silent_proxy_hits_connect_s(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """Waiting for a proxy's answer to CONNECT counts towards `connect_s`."""

    async def script(peer: Peer) -> None:
        await peer.gone()

    proxy = await serve(script)
    transport = make_transport(environ={"HTTPS_PROXY": proxy.url})

    with pytest.raises(TransportError) as failure:
        await get("https://upstream.test/", over=transport, connect_s=0.05)

    assert failure.value.kind is TransportErrorKind.CONNECT_TIMEOUT
