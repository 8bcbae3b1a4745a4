"""Certificates are verified against the host name, with authorities that can be chosen."""

from __future__ import annotations

import asyncio
import pathlib
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trustme
from maniac_core.providers.transport import TransportError, TransportErrorKind

Until = Callable[[Callable[[], bool]], Awaitable[None]]

if TYPE_CHECKING:
    from tests.transport.conftest import Get, MakeTransport, Peer, Serve, Server

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    authority.issue_cert(name).configure_cert(context)
    return context


def https(server: Server, host: str = "localhost") -> str:
    return f"https://{host}:{server.port}/"


async def test_trusted_server_is_talked_to(
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
) -> None:
    """With a certificate for its name, a server gets requests over one kept-alive connection."""
    server = await serve(OK, OK, context=server_context(authority, "localhost"))
    transport = make_transport(ssl_context=client_context)

    for _ in range(2):
        response = await get(https(server), over=transport)
        assert await response.read_all(2) == b"ok"

    assert server.accepted == 1


async def test_default_context_trusts_ssl_cert_file_and_speaks_http_1(
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    authority: trustme.CA,
    tmp_path: pathlib.Path,
) -> None:
    """`SSL_CERT_FILE` names the authorities; SNI and ALPN are sent."""
    seen: list[tuple[str | None, str | None]] = []
    context = server_context(authority, "localhost")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def script(peer: Peer) -> None:
        tls = peer.writer.get_extra_info("ssl_object")
        seen.append((names[-1], tls.selected_alpn_protocol()))
        await peer.serve(OK)

    server = await serve(script, context=context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    transport = make_transport(environ={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})

    assert (await get(https(server), over=transport)).status == 200
    assert seen == [("localhost", "http/1.1")]


@pytest.mark.parametrize(
    ("certificate_for", "trusted"), [("elsewhere.test", True), ("localhost", False)]
)
async def test_untrusted_server_is_refused(
    *,
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
    certificate_for: str,
    trusted: bool,
) -> None:
    """A certificate for another name, or by an unknown authority, ends before any request."""
    requests: list[str] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.request())

    issuer = authority if trusted else trustme.CA()
    server = await serve(script, context=server_context(issuer, certificate_for))
    transport = make_transport(ssl_context=client_context, max_connections_per_origin=1)

    for _ in range(2):
        with pytest.raises(TransportError) as failure:
            await get(https(server), over=transport)
        assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.TLS, False)
    assert requests == []


async def test_address_is_verified_like_a_name(
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
) -> None:
    """A URL with an IP address needs a certificate for that address."""
    transport = make_transport(ssl_context=client_context)
    good = await serve(OK, context=server_context(authority, "127.0.0.1"))
    bad = await serve(OK, context=server_context(authority, "localhost"))

    assert (await get(https(good, "127.0.0.1"), over=transport)).status == 200
    with pytest.raises(TransportError) as failure:
        await get(https(bad, "127.0.0.1"), over=transport)
    assert failure.value.kind is TransportErrorKind.TLS


async def test_plain_server_behind_https_is_tls(
    serve: Serve, get: Get, make_transport: MakeTransport, client_context: ssl.SSLContext
) -> None:
    """A server that does not speak TLS fails the handshake."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await serve(script)

    with pytest.raises(TransportError) as failure:
        await get(https(server), over=make_transport(ssl_context=client_context))

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.TLS, False)


async def test_unreadable_authorities_are_tls(get: Get, make_transport: MakeTransport) -> None:
    """A `SSL_CERT_FILE` that does not exist is named as the cause, not ignored."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    transport = make_transport(environ={"SSL_CERT_FILE": "/nowhere/ca.pem"})

    with pytest.raises(TransportError, match="SSL_CERT_FILE") as failure:
        await get(f"https://127.0.0.1:{port}/", over=transport)

    assert failure.value.kind is TransportErrorKind.TLS
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("framing", ["connection: close", "content-length: 5000000"])
async def test_big_body_survives_backpressure_and_close(
    *,
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
    until: Until,
    framing: str,
) -> None:
    """Bytes that wait inside the TLS layer when the server closes are not lost."""
    body = bytes(range(250)) * 20_000

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + body)

    server = await serve(script, context=server_context(authority, "localhost"))
    response = await get(https(server), over=make_transport(ssl_context=client_context))
    await until(lambda: response.buffered > 262_144)

    assert await response.read_all(len(body)) == body


async def test_stale_tls_connection_is_retried(
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
) -> None:
    """A TLS connection closed while idle costs a new one, no error."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if not peer.number:
            await peer.request()

    server = await serve(script, context=server_context(authority, "localhost"))
    transport = make_transport(ssl_context=client_context)
    for _ in range(2):
        response = await get(https(server), over=transport)
        assert await response.read_all(2) == b"ok"

    assert server.accepted == 2
