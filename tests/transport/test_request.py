"""URLs and headers that may be sent, those that may not, and that errors keep secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from maniac_core.providers.transport import TransportError, UpstreamRequest
from maniac_core.providers.transport.url import parse_url

if TYPE_CHECKING:
    from tests.transport.conftest import Get, Peer, Serve

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("url", "origin", "authority", "path"),
    [
        ("http://a.test", "http://a.test:80", "a.test", "/"),
        ("HTTPS://A.Test/x?y=z#f", "https://a.test:443", "a.test", "/x?y=z"),
        ("http://a.test:80/", "http://a.test:80", "a.test", "/"),
        ("http://a.test:81/", "http://a.test:81", "a.test:81", "/"),
        ("http://[::1]:81/", "http://[::1]:81", "[::1]:81", "/"),
        ("http://a.test?y", "http://a.test:80", "a.test", "/?y"),
        ("http://a.test/m:gen?k=%20", "http://a.test:80", "a.test", "/m:gen?k=%20"),
        ("http://a.test/ü", "http://a.test:80", "a.test", "/%C3%BC"),
        ("http://bücher.test/", "http://xn--bcher-kva.test:80", "xn--bcher-kva.test", "/"),
        ("http://u:p@a.test/", "http://a.test:80", "a.test", "/"),
    ],
)
def test_url_is_split(url: str, origin: str, authority: str, path: str) -> None:
    """A URL gives the pool's key, the Host header and the request target."""
    target = parse_url(url)

    assert (target.origin, target.authority, target.path) == (origin, authority, path)
    assert repr(target) == f"<Target {origin}>"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/v1",
        "ftp://secret@a.test/",
        "http:///secret",
        "http://a.test:secret/",
        "http://a.test:0/",
        "http://a.test/sec ret",
        "http://a.test/\r\nsecret: 1",
        "http://a.test\t/secret",
        "http://[::g]/secret",
        "http://a..test/secret",
        f"http://{'a' * 64}.test/secret",
        "http://a{}.test/secret",
        "http://u:secret@a.test\u2100/",
    ],
)
async def test_bad_url_is_a_value_error_without_the_url(get: Get, url: str) -> None:
    """What cannot be requested is refused before connecting, without repeating it."""
    with pytest.raises(ValueError, match="URL") as failure:
        await get(url)

    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    "header",
    [
        ("x", "secret\r\ninjected: 1"),
        ("x", "secret\n"),
        ("x", "secret\r"),
        ("x", "secret\0"),
        ("x", "secret €"),
        ("x: y\r\nz", "secret"),
        ("x y", "secret"),
        ("", "secret"),
        ("ü", "secret"),
        ("Transfer-Encoding", "secret"),
        ("Connection", "secret"),
        ("Content-Length", "5secret"),
    ],
)
async def test_bad_header_is_a_value_error_without_its_value(
    serve: Serve, get: Get, header: tuple[str, str]
) -> None:
    """Nothing can be smuggled through a header, and the error does not show its value."""
    server = await serve(OK)

    with pytest.raises(ValueError, match="header") as failure:
        await get(server.url, method="POST", headers=(header,), body=b"x")

    assert "secret" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert server.accepted == 0


async def test_bad_method_is_a_value_error(get: Get) -> None:
    """A method cannot smuggle a request line."""
    with pytest.raises(ValueError, match="method"):
        await get("http://a.test/", method="GET / HTTP/1.1\r\nx:")


async def test_caller_may_set_the_true_length(serve: Serve, get: Get) -> None:
    """A content-length that agrees with the body is sent once."""
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.send(OK)

    server = await serve(script)
    headers = (("Content-Length", "1"),)
    (await get(server.url, method="POST", headers=headers, body=b"x")).close()

    assert heads[0].lower().count("content-length: 1") == 1


async def test_repeated_request_with_another_body(serve: Serve, get: Get) -> None:
    """A head used before is completed for each body anew, also when the values differ."""
    seen: list[tuple[str, bytes]] = []

    async def script(peer: Peer) -> None:
        for _ in range(3):
            seen.append(((await peer.request()).split("\n")[2], peer.body))
            await peer.send(OK)

    server = await serve(script)
    for key, body in (("1", b"a"), ("1", b"bcd"), ("2", b"")):
        headers = (("x-key", key),)
        (await get(server.url, method="POST", headers=headers, body=body)).close()

    assert seen == [("x-key: 1", b"a"), ("x-key: 1", b"bcd"), ("x-key: 2", b"")]


async def test_errors_and_reprs_keep_secrets(serve: Serve, get: Get) -> None:
    """An error names the origin, and neither path, query, userinfo nor headers."""
    server = await serve(b"nonsense\r\n")
    url = f"http://me:secret@127.0.0.1:{server.port}/secret?key=secret"
    headers = (("authorization", "Bearer secret"),)

    with pytest.raises(TransportError) as failure:
        await get(url, headers=headers)

    assert f"http://127.0.0.1:{server.port}: " in failure.value.message
    assert "secret" not in repr(failure.value)
    assert "secret" not in repr(UpstreamRequest("GET", url, headers, b"secret"))
