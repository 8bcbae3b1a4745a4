"""SOCKS5 proxies: how targets are named to them, logins, TLS through them, and what they can do wrong."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trustme
from maniac_core.providers.transport import TransportError, TransportErrorKind
from maniac_core.providers.transport.proxy import ProxySettings
from maniac_core.providers.transport.url import parse_url

if TYPE_CHECKING:
    from tests.transport.conftest import Get, MakeTransport, Peer, Serve

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CONNECTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
UP_TO_CONNECTED = b"\x05\x02" + b"\x01\x00" + CONNECTED


async def read_connect(peer: Peer) -> tuple[str, int]:
    """Read a CONNECT request; return type and spelling of its target, and the port."""
    assert await peer.reader.readexactly(3) == b"\x05\x01\x00"
    kind = (await peer.reader.readexactly(1))[0]
    size = {1: 4, 4: 16}.get(kind) or (await peer.reader.readexactly(1))[0]
    address = await peer.reader.readexactly(size)
    target = address.decode() if kind == 3 else str(ipaddress.ip_address(address))
    return target, int.from_bytes(await peer.reader.readexactly(2))


def proxying(
    seen: list[tuple[str, int]], then: Callable[[Peer], Awaitable[None]], answer: bytes = CONNECTED
) -> Callable[[Peer], Awaitable[None]]:
    """Return the script of a proxy that wants no login."""

    async def script(peer: Peer) -> None:
        assert await peer.reader.readexactly(3) == b"\x05\x01\x00"
        await peer.send(b"\x05\x00")
        seen.append(await read_connect(peer))
        await peer.send(answer)
        await then(peer)

    return script


async def answer_twice(peer: Peer) -> None:
    await peer.serve(OK, OK)


@pytest.mark.parametrize(
    "named",
    [
        ("socks5h", "upstream.test", "upstream.test"),
        ("socks5", "localhost", "127.0.0.1"),
        ("socks5", "192.0.2.7", "192.0.2.7"),
        ("socks5h", "192.0.2.7", "192.0.2.7"),
        ("socks5h", "[2001:db8::7]", "2001:db8::7"),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        CONNECTED,
        b"\x05\x00\x00\x03\x04host\x00\x50",
        b"\x05\x00\x00\x04" + bytes(16) + b"\x00\x50",
    ],
    ids=["ipv4", "name", "ipv6"],
)
async def test_targets(
    serve: Serve,
    get: Get,
    make_transport: MakeTransport,
    named: tuple[str, str, str],
    answer: bytes,
) -> None:
    """A proxy gets a name or an address, by its scheme; requests then are the upstream's, and keep alive."""
    scheme, host, target = named
    seen: list[tuple[str, int]] = []
    proxy = await serve(proxying(seen, answer_twice, answer))
    transport = make_transport(environ={"ALL_PROXY": f"{scheme}://127.0.0.1:{proxy.port}"})

    for _ in range(2):
        response = await get(f"http://{host}:81/v1", over=transport)
        assert await response.read_all(2) == b"ok"

    assert seen == [(target, 81)]
    assert proxy.accepted == 1


async def test_login(serve: Serve, get: Get, make_transport: MakeTransport) -> None:
    """User name and password are sent decoded when the proxy asks for them."""

    async def script(peer: Peer) -> None:
        assert await peer.reader.readexactly(4) == b"\x05\x02\x00\x02"
        await peer.send(b"\x05\x02")
        assert await peer.reader.readexactly(10) == b"\x01\x02me\x05wo:rd"
        await peer.send(b"\x01\x00")
        await read_connect(peer)
        await peer.send(CONNECTED)
        await peer.serve(OK)

    proxy = await serve(script)
    environ = {"ALL_PROXY": f"socks5h://me:wo%3Ard@127.0.0.1:{proxy.port}"}
    response = await get("http://upstream.test/", over=make_transport(environ=environ))

    assert await response.read_all(2) == b"ok"


async def test_tls_goes_through(serve: Serve, get: Get, make_transport: MakeTransport) -> None:
    """TLS is end to end, by the upstream's name."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("upstream.test").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    upstream = await serve(OK, context=context)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def forward(peer: Peer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        await asyncio.gather(pipe(peer.reader, writer), pipe(reader, peer.writer))

    seen: list[tuple[str, int]] = []
    proxy = await serve(proxying(seen, forward))
    transport = make_transport(
        environ={"ALL_PROXY": f"socks5h://127.0.0.1:{proxy.port}"}, ssl_context=trusting
    )
    response = await get("https://upstream.test/", over=transport)

    assert await response.read_all(2) == b"ok"
    assert seen == [("upstream.test", 443)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\x05\xff", "takes no user name"),
        (b"\x05\x01", "takes no user name"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "SOCKS5"),
        (b"\x05\x02\x01\x01", "refused the user name and password"),
        (UP_TO_CONNECTED[:4] + b"\x05\x05\x00\x01" + bytes(6), "connection refused"),
        (UP_TO_CONNECTED[:4] + b"\x05\x02\x00\x01" + bytes(6), "not allowed"),
        (UP_TO_CONNECTED[:4] + b"\x05\x99\x00\x01" + bytes(6), "unknown status 153"),
        (UP_TO_CONNECTED[:4] + b"\x05\x00\x00\x09" + bytes(6), "SOCKS5"),
        (UP_TO_CONNECTED[:4] + b"\x04\x00\x00\x01" + bytes(6), "SOCKS5"),
        *((UP_TO_CONNECTED[:cut], "within its answer") for cut in range(len(UP_TO_CONNECTED))),
    ],
)
async def test_refusals_and_cut_answers(
    serve: Serve, get: Get, make_transport: MakeTransport, answer: bytes, text: str
) -> None:
    """Each is a proxy error before anything was sent, names the reason and no credential, and leaves no slot taken."""

    async def script(peer: Peer) -> None:
        await peer.send(answer)
        peer.writer.write_eof()
        await peer.gone()

    proxy = await serve(script)
    environ = {"ALL_PROXY": f"socks5h://secret:word@127.0.0.1:{proxy.port}"}
    transport = make_transport(environ=environ, max_connections_per_origin=1)

    for _ in range(2):
        with pytest.raises(TransportError, match=text) as failure:
            await get("http://upstream.test/", over=transport)
        assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.PROXY, False)
        assert "secret" not in failure.value.message


async def test_a_login_that_is_missing(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """The error says where it goes."""

    async def script(peer: Peer) -> None:
        await peer.send(b"\x05\xff")
        await peer.gone()

    proxy = await serve(script)
    transport = make_transport(environ={"ALL_PROXY": f"socks5h://127.0.0.1:{proxy.port}"})

    with pytest.raises(TransportError, match="USER:PASSWORD@"):
        await get("http://upstream.test/", over=transport)


async def test_a_name_without_address(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """The proxy is not blamed for a name that is resolved here."""
    proxy = await serve(proxying([], answer_twice))
    transport = make_transport(environ={"ALL_PROXY": f"socks5://127.0.0.1:{proxy.port}"})

    with pytest.raises(TransportError) as failure:
        await get("http://no-such-host.invalid/", over=transport)

    assert failure.value.kind is TransportErrorKind.DNS


def test_port_and_exceptions() -> None:
    """1080 unless the variable says otherwise; NO_PROXY counts here too."""
    settings = ProxySettings({"all_proxy": "socks5://p.test", "no_proxy": "direct.test"})

    found = settings.for_target(parse_url("https://a.test/"))
    assert found is not None
    assert (found.host, found.port, found.kind) == ("p.test", 1080, "socks5")
    assert settings.for_target(parse_url("https://direct.test/")) is None
