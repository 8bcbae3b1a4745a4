"""Proxies are chosen by the environment, spoken to correctly, and their credentials kept."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from maniac_core.providers.transport import TransportError, TransportErrorKind
from maniac_core.providers.transport.proxy import ProxySettings
from maniac_core.providers.transport.url import parse_url

if TYPE_CHECKING:
    from tests.transport.conftest import Get, MakeTransport, Peer, Serve

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "http://a.test/", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a.test/", ("p", 1)),
        ({"http_proxy": "http://low:1", "HTTP_PROXY": "http://up:1"}, "http://a/", ("low", 1)),
        ({"HTTP_PROXY": "http://p:1"}, "https://a.test/", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://a.test/", ("p", 1)),
        ({"ALL_PROXY": "http://p:1"}, "https://a.test/", ("p", 1)),
        ({"all_proxy": "http://p:1", "https_proxy": "http://q:2"}, "https://a/", ("q", 2)),
        ({"HTTP_PROXY": "p.test:3128"}, "http://a.test/", ("p.test", 3128)),
        ({"HTTP_PROXY": "http://p.test"}, "http://a.test/", ("p.test", 80)),
        ({"HTTP_PROXY": "http://[::1]:8"}, "http://a.test/", ("::1", 8)),
        ({"HTTP_PROXY": " "}, "http://a.test/", None),
    ],
)
def test_proxy_variables(environ: dict[str, str], url: str, proxy: tuple[str, int] | None) -> None:
    """The variable of the URL's scheme counts, then ALL_PROXY, lower case before upper."""
    found = ProxySettings(environ).for_target(parse_url(url))

    assert (found and (found.host, found.port)) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "http://a.test/", True),
        ("a.test", "http://a.test/", True),
        ("a.test", "http://x.a.test/", True),
        ("a.test", "http://ba.test/", False),
        (".a.test", "http://x.a.test/", True),
        (".a.test", "http://a.test/", True),
        ("*.a.test", "http://x.a.test/", True),
        ("A.Test", "http://a.TEST/", True),
        ("b.test, a.test", "http://a.test/", True),
        ("b.test a.test", "http://a.test/", True),
        ("a.test:8080", "http://a.test:8080/", True),
        ("a.test:8080", "http://a.test/", False),
        ("a.test:80", "http://a.test/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://a.test/", False),
        ("10.0.0.1/8", "http://10.9.9.9/", True),
        ("10.0.0.0/x", "http://10.1.2.3/", False),
        ("127.0.0.1", "http://127.0.0.1:99/", True),
        ("0.0.1", "http://127.0.0.1/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("[::1]:80", "http://[::1]/", True),
        ("[::1]:81", "http://[::1]/", False),
        ("0:0::1", "http://[::1]/", True),
        (",, ,", "http://a.test/", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, direct: bool) -> None:
    """NO_PROXY takes names with their subdomains, ports, addresses and networks."""
    settings = ProxySettings({"HTTP_PROXY": "http://p:1", "NO_PROXY": no_proxy})

    assert (settings.for_target(parse_url(url)) is None) is direct


@pytest.mark.parametrize(
    "value",
    ["socks4://secret:word@p:1", "https://secret:word@p:1", "http://secret:word@p:x", "http://"],
)
async def test_unusable_proxy_is_an_error_without_credentials(
    get: Get, make_transport: MakeTransport, value: str
) -> None:
    """A proxy we cannot use fails the request instead of going around it."""
    transport = make_transport(environ={"HTTP_PROXY": value})

    with pytest.raises(TransportError) as failure:
        await get("http://a.test/", over=transport)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.PROXY, False)
    assert "word" not in failure.value.message
    assert "secret" not in failure.value.message


async def test_http_goes_to_the_proxy_in_absolute_form(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """A plain request is sent to the proxy whole, with its credentials, and keeps alive."""
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            heads.append(await peer.request())
            await peer.send(OK)

    proxy = await serve(script)
    transport = make_transport(environ={"HTTP_PROXY": f"http://me:word@127.0.0.1:{proxy.port}"})
    for _ in range(2):
        response = await get("http://upstream.test/v1?a=b", over=transport)
        assert await response.read_all(2) == b"ok"

    head = (
        "GET http://upstream.test/v1?a=b HTTP/1.1\nhost: upstream.test\n"
        "accept-encoding: identity\nproxy-authorization: Basic bWU6d29yZA=="
    )
    assert heads == [head, head]
    assert proxy.accepted == 1


async def test_https_goes_through_a_tunnel(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """TLS is end to end: the proxy sees a CONNECT with its credentials and nothing readable."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("upstream.test").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    upstream_heads: list[str] = []

    async def upstream_script(peer: Peer) -> None:
        upstream_heads.append(await peer.request())
        await peer.send(OK)
        await peer.gone()

    upstream = await serve(upstream_script, context=context)
    connects: list[str] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def proxy_script(peer: Peer) -> None:
        connects.append(await peer.request())
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        await peer.send(ESTABLISHED)
        await asyncio.gather(pipe(peer.reader, writer), pipe(reader, peer.writer))

    proxy = await serve(proxy_script)
    environ = {"HTTPS_PROXY": f"http://me:word@127.0.0.1:{proxy.port}"}
    transport = make_transport(environ=environ, ssl_context=trusting)
    response = await get("https://upstream.test/v1", over=transport)

    assert await response.read_all(2) == b"ok"
    connect = (
        "CONNECT upstream.test:443 HTTP/1.1\nhost: upstream.test:443\n"
        "proxy-authorization: Basic bWU6d29yZA=="
    )
    assert connects == [connect]
    assert upstream_heads == ["GET /v1 HTTP/1.1\nhost: upstream.test\naccept-encoding: identity"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 407 Auth\r\nproxy-authenticate: Basic\r\n\r\n", "status 407"),
        (b"HTTP/1.0 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nbad", "status 502"),
        (b"220 smtp.test\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n", "complete response head"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000, "complete response head"),
        (ESTABLISHED + b"surplus", "bytes after"),
        (ESTABLISHED + ESTABLISHED, "bytes after"),
        (b"", "complete response head"),
    ],
)
async def test_refused_tunnel_is_a_proxy_error(
    serve: Serve, get: Get, make_transport: MakeTransport, answer: bytes, text: str
) -> None:
    """Whatever the proxy answers instead of a tunnel is named, its credentials are not."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    proxy = await serve(script)
    environ = {"HTTPS_PROXY": f"http://secret:word@127.0.0.1:{proxy.port}"}
    transport = make_transport(environ=environ, max_connections_per_origin=1)

    for _ in range(2):
        with pytest.raises(TransportError, match=text) as failure:
            await get("https://upstream.test/", over=transport)
        assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.PROXY, False)
        assert "word" not in failure.value.message


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_unreachable_proxy_is_a_proxy_error(
    get: Get, make_transport: MakeTransport, refusing_port: int, scheme: str
) -> None:
    """The upstream is not blamed for a proxy that is down."""
    transport = make_transport(environ={"ALL_PROXY": f"http://127.0.0.1:{refusing_port}"})

    with pytest.raises(TransportError) as failure:
        await get(f"{scheme}://upstream.test/", over=transport)

    assert failure.value.kind is TransportErrorKind.PROXY
