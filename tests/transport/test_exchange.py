"""What goes over the wire, and what comes back, when everybody behaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from maniac_core.providers.transport import HttpTransport, TransportError, TransportErrorKind

if TYPE_CHECKING:
    from tests.transport.conftest import Get, Peer, Serve

Until = Callable[[Callable[[], bool]], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n"
)


async def test_request_has_host_encoding_and_length(serve: Serve, get: Get) -> None:
    """A POST is sent with the caller's headers in order and the three the transport owes."""
    heads: list[tuple[str, bytes]] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request(), peer.body))
        await peer.send(OK)

    server = await serve(script)
    headers = (("Authorization", "Bearer k"), ("X-One", "1"))
    response = await get(f"{server.url}/v1/x?a=b#c", method="POST", headers=headers, body=b"{}")

    assert await response.read_all(100) == b"ok"
    head = (
        f"POST /v1/x?a=b HTTP/1.1\nhost: 127.0.0.1:{server.port}\nAuthorization: Bearer k\n"
        "X-One: 1\naccept-encoding: identity\ncontent-length: 2"
    )
    assert heads == [(head, b"{}")]


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [("GET", b"", None), ("POST", b"", "0"), ("PUT", b"", "0"), ("DELETE", b"xy", "2")],
)
async def test_length_is_sent_when_a_body_is_or_could_be_expected(
    serve: Serve, get: Get, method: str, body: bytes, expected: str | None
) -> None:
    """Only methods without a body, sent without one, have no content-length."""
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.send(OK)

    server = await serve(script)
    (await get(server.url, method=method, body=body)).close()

    lengths = [line[16:] for line in heads[0].split("\n") if line.startswith("content-length")]
    assert lengths == ([] if expected is None else [expected])


async def test_caller_may_set_host_and_encoding(serve: Serve, get: Get) -> None:
    """A header the caller gave is not added a second time."""
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.send(OK)

    server = await serve(script)
    headers = (("Host", "elsewhere"), ("Accept-Encoding", "gzip"))
    (await get(server.url, headers=headers)).close()

    assert heads == ["GET / HTTP/1.1\nHost: elsewhere\nAccept-Encoding: gzip"]


async def test_userinfo_becomes_basic_authorization(serve: Serve, get: Get) -> None:
    """Credentials in a URL are sent as a header and not in the request line."""
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.send(OK)

    server = await serve(script)
    (await get(f"http://me:p%40ss@127.0.0.1:{server.port}/")).close()

    assert "authorization: Basic bWU6cEBzcw==" in heads[0]
    assert heads[0].startswith("GET / HTTP/1.1\nhost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (OK, b"ok"),
        (CHUNKED, b"hello world"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 1\r\n\r\nx", b"x"),
    ],
)
async def test_every_framing_is_read_to_its_end(
    serve: Serve, get: Get, response: bytes, body: bytes
) -> None:
    """The body is what the framing says, and a clean end stays a clean end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response)

    answer = await get((await serve(script)).url)

    assert (answer.status, await answer.read_all(100)) == (200, body)
    assert await answer.read() == b""
    assert answer.read_nowait() == b""


@pytest.mark.parametrize(
    ("method", "response", "status"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200),
    ],
)
async def test_bodyless_responses_end_with_their_head(
    serve: Serve, get: Get, method: str, response: bytes, status: int
) -> None:
    """No body is awaited where HTTP allows none, whatever the head announces."""
    server = await serve(response)

    answer = await get(server.url, method=method)

    assert (answer.status, await answer.read()) == (status, b"")


async def test_headers_are_lower_cased_and_joined(serve: Serve, get: Get) -> None:
    """Names are lower-cased, repeated headers joined in order, bytes read as latin-1."""
    server = await serve(
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nEmpty:\r\nx-a: 2\r\nName: caf\xe9\r\nContent-Length: 0\r\n\r\n"
    )

    response = await get(server.url)

    assert response.headers == {"x-a": "1, 2", "empty": "", "name": "café", "content-length": "0"}


async def test_trailers_are_not_headers_of_the_next_response(serve: Serve, get: Get) -> None:
    """What follows a chunked body is dropped, also for the connection's next exchange."""
    server = await serve(CHUNKED, OK)

    first = await get(server.url)
    second = await get(server.url)

    assert (first.headers, second.headers) == (
        {"transfer-encoding": "chunked"},
        {"content-length": "2"},
    )
    assert server.accepted == 1


async def test_read_nowait_tells_waiting_from_the_end(serve: Serve, get: Get, until: Until) -> None:
    """None means not yet, bytes are handed out once, and b"" is the end."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await go_on.wait()
        await peer.send(b"ab")
        await go_on.wait()
        await peer.send(b"cd")

    response = await get((await serve(script)).url)
    assert response.read_nowait() is None
    go_on.set()
    await until(lambda: response.ended)

    assert response.read_nowait() == b"abcd"
    assert response.read_nowait() == b""


async def test_big_bodies_go_both_ways(serve: Serve, get: Get) -> None:
    """Bodies far beyond any buffer arrive whole."""
    body = bytes(range(256)) * 20_000

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(peer.body))
        await peer.send(peer.body)

    response = await get((await serve(script)).url, method="POST", body=body)

    assert await response.read_all(len(body)) == body


async def test_unread_body_stops_the_sender(serve: Serve, get: Get, until: Until) -> None:
    """Reading from the socket pauses once 256 KiB wait, and goes on when they are read."""
    size = 32 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))

    response = await get((await serve(script)).url)
    await until(lambda: response.buffered > 262_144)
    for _ in range(100):
        await asyncio.sleep(0)

    # One more read from the socket may have been under way.
    assert response.buffered <= 2 * 262_144
    assert len(await response.read_all(size)) == size


async def test_early_answer_is_delivered_and_the_connection_not_reused(
    serve: Serve, get: Get
) -> None:
    """A refusal that comes before the request was read is a normal response."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await peer.gone()

    server = await serve(script)
    for _ in range(2):
        response = await get(server.url, method="POST", body=bytes(50_000_000))
        assert (response.status, await response.read_all(10)) == (413, b"big")

    assert server.accepted == 2


async def test_read_all_refuses_more_than_the_limit(serve: Serve, get: Get) -> None:
    """A body of the limit is returned, one byte more is an error that closes."""
    server = await serve(OK, OK)
    response = await get(server.url)
    assert await response.read_all(2) == b"ok"
    response = await get(server.url)

    with pytest.raises(TransportError) as failure:
        await response.read_all(1)

    assert failure.value.kind is TransportErrorKind.BODY_TOO_LARGE


async def test_closed_response_cannot_be_read(serve: Serve, get: Get) -> None:
    """Closing is idempotent, drops unread bytes and makes reading an error."""
    response = await get((await serve(OK)).url)
    response.close()
    response.close()

    with pytest.raises(TransportError) as failure:
        await response.read()

    assert failure.value.kind is TransportErrorKind.CLOSED


async def test_close_wakes_a_waiting_reader(serve: Serve, get: Get) -> None:
    """A read that waits while another task closes the response fails at once."""
    server = await serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    response = await get(server.url)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another read"):
        await response.read()
    response.close()

    with pytest.raises(TransportError) as failure:
        await reading

    assert failure.value.kind is TransportErrorKind.CLOSED


async def test_aclose_fails_what_is_going_on(
    serve: Serve, get: Get, transport: HttpTransport
) -> None:
    """Closing the transport ends waiting exchanges with CLOSED and refuses new ones."""
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    server = await serve(script)
    sending = asyncio.create_task(get(server.url))
    await asked.wait()
    await transport.aclose()

    for attempt in (sending, get(server.url)):
        with pytest.raises(TransportError) as failure:
            await attempt
        assert failure.value.kind is TransportErrorKind.CLOSED
