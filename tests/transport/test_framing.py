"""Responses that are malformed, cut short, oversized, compressed or chopped into pieces."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maniac_core.providers.transport import TransportError, TransportErrorKind
from maniac_core.providers.transport.content import MAX_PIECE_BYTES, ContentDecoder
from maniac_core.providers.transport.parsing import ParsingError, ResponseParser
from maniac_core.providers.transport.response import HttpResponse

if TYPE_CHECKING:
    from tests.transport.conftest import Get, MakeTransport, Peer, Serve

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = (
    b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    b"X-A: 1\r\nX-A: 2\r\nKeep-Alive: timeout=9\r\n\r\n"
    b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n"
)
GZIPPED = gzip.compress(b"hello world", mtime=0)
COMPRESSED = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(GZIPPED) + GZIPPED


class NoSource:
    """Stands in for the connection of a response that is only parsed."""

    def wait(self, timeout_s: float | None, *, is_poll: bool = False) -> asyncio.Future[None]:
        """Never: these tests do not wait."""
        raise AssertionError(f"not asked to wait: {timeout_s}, {is_poll}")

    def resume(self) -> None:
        """Nothing was paused."""

    def abort(self) -> None:
        """Nothing is open."""


def parse(*pieces: bytes) -> tuple[int, dict[str, str], bytes, bool, bool]:
    """Parse one response; return status, headers, body, completeness and reusability."""
    response = HttpResponse("http://test:80", NoSource(), None)
    parser = ResponseParser(65_536)
    parser.begin(response, is_head_method=False)
    body = b""
    for piece in pieces:
        parser.feed(piece)
        body += response.read_nowait() or b""
    response.ended = parser.is_complete
    while data := response.read_nowait():
        body += data
    return response.status, response.headers, body, parser.is_complete, parser.may_be_reused


@pytest.mark.parametrize("response", [CHUNKED, COMPRESSED], ids=["chunked", "gzip"])
def test_one_cut_anywhere_changes_nothing(response: bytes) -> None:
    """A response in two pieces is the response in one piece, wherever it is cut."""
    whole = parse(response)
    assert whole[0] == 200
    assert whole[2:] == (b"hello world", True, True)

    for cut in range(1, len(response)):
        assert parse(response[:cut], response[cut:]) == whole


@pytest.mark.parametrize("response", [CHUNKED, COMPRESSED], ids=["chunked", "gzip"])
def test_single_bytes_change_nothing(response: bytes) -> None:
    """A response byte by byte is the response in one piece."""
    assert parse(*(response[i : i + 1] for i in range(len(response)))) == parse(response)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_any_body_in_any_pieces_arrives(chunks: list[bytes], cuts: list[int]) -> None:
    """Whatever is sent in chunks comes out joined, however the bytes are chopped."""
    wire = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    pieces = [wire[a:b] for a, b in itertools.pairwise(edges)]

    assert parse(*pieces)[2:4] == (b"".join(chunks), True)


@pytest.mark.parametrize(
    "response",
    [
        CHUNKED,
        COMPRESSED,
        HEAD + b"content-length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + GZIPPED,
    ],
    ids=["chunked", "gzip", "length", "gzip-until-close"],
)
async def test_cut_response_never_ends_cleanly(serve: Serve, get: Get, response: bytes) -> None:
    """A response that ends at any offset but the last is an error, and keeps what came first."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response[: peer.number])

    server = await serve(script)
    whole = b"hello" if response.endswith(b"\r\n\r\nhello") else b"hello world"
    read = b""

    async def read_to_the_end() -> None:
        nonlocal read
        read = b""
        answer = await get(server.url)
        while data := await answer.read():
            read += data

    for cut in range(len(response)):
        with pytest.raises(TransportError) as failure:
            await read_to_the_end()
        expected = TransportErrorKind.TRUNCATED if cut else TransportErrorKind.RESET
        assert (cut, failure.value.kind) == (cut, expected)
        assert whole.startswith(read)


async def test_reset_inside_an_unframed_body_is_an_error(serve: Serve, get: Get) -> None:
    """A body that only the connection ends is clean when it is closed, not when it is reset."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"\r\nabc")
        await proceed.wait()
        peer.reset()

    answer = await get((await serve(script)).url)
    assert await answer.read() == b"abc"
    proceed.set()

    with pytest.raises(TransportError) as failure:
        await answer.read()

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.RESET, True)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 99999999999999999999\r\n\r\n",
        HEAD + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
        HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: identity\r\n\r\nx",
        HEAD + b"bad name: x\r\n\r\n",
        HEAD + b"folded: x\r\n y\r\n\r\n",
        HEAD + b"nul: a\0b\r\n\r\n",
    ],
)
async def test_malformed_head_is_a_protocol_error(serve: Serve, get: Get, response: bytes) -> None:
    """What is not a response we can frame is refused, never guessed at."""
    server = await serve(response)

    with pytest.raises(TransportError) as failure:
        await get(server.url)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.PROTOCOL, True)


async def test_an_encoding_that_cannot_be_undone_is_named(serve: Serve, get: Get) -> None:
    """The server is at fault in another way than one that does not speak HTTP."""
    server = await serve(HEAD + b"content-encoding: br\r\ncontent-length: 1\r\n\r\nx")

    with pytest.raises(TransportError, match="content-encoding 'br'") as failure:
        await get(server.url)

    assert (failure.value.kind, failure.value.sent) == (TransportErrorKind.ENCODING, True)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"transfer-encoding: chunked", b"zz\r\n"),
        (b"transfer-encoding: chunked", b"2\r\nok!!"),
        (b"transfer-encoding: chunked", b"fffffffffffffffff\r\n"),
        (b"content-encoding: gzip", b"not gzip"),
        (b"content-encoding: deflate", zlib.compress(b"x") + b"more"),
    ],
)
async def test_malformed_body_is_a_protocol_error(
    serve: Serve, get: Get, head: bytes, body: bytes
) -> None:
    """Broken chunk framing or compression fails the body after a good head."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + head + b"\r\n\r\n")
        await proceed.wait()
        await peer.send(body)

    answer = await get((await serve(script)).url)
    proceed.set()

    with pytest.raises(TransportError) as failure:
        await answer.read_all(100)

    assert failure.value.kind is TransportErrorKind.PROTOCOL


async def test_failure_right_after_the_head_is_left_to_the_body(serve: Serve, get: Get) -> None:
    """A good head is delivered with what came of the body, even if the failure came with it."""
    server = await serve(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")

    answer = await get(server.url)

    assert (answer.status, await answer.read()) == (200, b"ok")
    with pytest.raises(TransportError) as failure:
        await answer.read()
    assert failure.value.kind is TransportErrorKind.PROTOCOL


@pytest.mark.parametrize(
    "response",
    [
        HEAD + b"x: " + b"y" * 1000 + b"\r\ncontent-length: 0\r\n\r\n",
        HEAD + b"x: " + b"y" * 2000,
        HEAD + b"x: y\r\n" * 200 + b"content-length: 3\r\n\r\nabc",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    ],
    ids=["one", "endless", "many", "interim"],
)
async def test_head_is_limited(
    serve: Serve, get: Get, make_transport: MakeTransport, response: bytes
) -> None:
    """A head above `max_header_bytes` is refused, complete or not."""
    server = await serve(response)

    with pytest.raises(TransportError) as failure:
        await get(server.url, over=make_transport(max_header_bytes=1000))

    assert failure.value.kind is TransportErrorKind.HEADERS_TOO_LARGE


@pytest.mark.parametrize("tail", [b"0\r\nx: " + b"y" * 2000, b"1;" + b"e" * 2000])
async def test_trailers_and_extensions_are_limited(
    serve: Serve, get: Get, make_transport: MakeTransport, tail: bytes
) -> None:
    """What a chunked body has besides data is bounded like the head."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        await proceed.wait()
        await peer.send(tail)
        await peer.gone()

    answer = await get((await serve(script)).url, over=make_transport(max_header_bytes=1000))
    proceed.set()

    assert await answer.read() == b"ok"
    with pytest.raises(TransportError) as failure:
        await answer.read()
    assert failure.value.kind is TransportErrorKind.HEADERS_TOO_LARGE


async def test_head_limit_does_not_count_the_body(
    serve: Serve, get: Get, make_transport: MakeTransport
) -> None:
    """A small head with a large body in the same packet is no large head."""
    server = await serve(HEAD + b"content-length: 5000\r\n\r\n" + bytes(5000))

    answer = await get(server.url, over=make_transport(max_header_bytes=1000))

    assert await answer.read_all(5000) == bytes(5000)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", GZIPPED),
        ("X-GZIP", gzip.compress(b"hello ") + gzip.compress(b"world") + bytes(8)),
        ("deflate", zlib.compress(b"hello world")),
        ("deflate", zlib.compress(b"hello world", wbits=-15)),
    ],
    ids=["gzip", "members", "zlib", "raw"],
)
async def test_unasked_compression_is_undone(
    serve: Serve, get: Get, coding: str, body: bytes
) -> None:
    """A server that compresses in spite of `identity` is understood."""
    head = f"content-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    answer = await get((await serve(HEAD + head + body)).url)

    assert await answer.read_all(100) == b"hello world"
    assert answer.headers == {}


async def test_empty_compressed_body_is_empty(serve: Serve, get: Get) -> None:
    """A body without any byte is complete although it is no gzip file."""
    server = await serve(HEAD + b"content-encoding: gzip\r\ncontent-length: 0\r\n\r\n")

    assert await (await get(server.url)).read_all(1) == b""


def test_bytes_that_come_during_decompression_wait_their_turn() -> None:
    """What arrives while a small input is still becoming large output is decoded after it."""
    body = bytes(3 * MAX_PIECE_BYTES) + b"end"
    data = gzip.compress(body)
    head = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(data)
    response = HttpResponse("http://test:80", NoSource(), None)
    parser = ResponseParser(65_536)
    parser.begin(response, is_head_method=False)

    parser.feed(HEAD + head + data[:-50])
    pieces = [response.read_nowait()]
    parser.feed(data[-50:])
    response.ended = True
    while piece := response.read_nowait():
        pieces.append(piece)

    assert pieces[0] == bytes(MAX_PIECE_BYTES)
    assert b"".join(piece for piece in pieces if piece) == body


async def test_decompression_stays_within_the_limit(serve: Serve, get: Get) -> None:
    """A small body that would become a huge one is refused without being built."""
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    head = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    answer = await get((await serve(HEAD + head + bomb)).url)

    with pytest.raises(TransportError) as failure:
        await answer.read_all(10_000_000)

    assert failure.value.kind is TransportErrorKind.BODY_TOO_LARGE


@pytest.mark.parametrize("window_bits", [15, -15], ids=["zlib", "raw"])
@pytest.mark.parametrize("cut", [-4, None])
@pytest.mark.parametrize("surplus", [-1, 0, 1, 2, 258, 300])
def test_decoder_hands_out_bounded_pieces(surplus: int, cut: int | None, window_bits: int) -> None:
    """Output around the piece size comes out whole, also when zlib took all input before."""
    size = MAX_PIECE_BYTES + surplus
    body = zlib.compress(b"a" * size, wbits=window_bits)
    decoder = ContentDecoder("deflate")
    pieces = []
    for part in (body,) if cut is None else (body[:cut], body[cut:]):
        decoder.feed(part)
        while piece := decoder.take():
            pieces.append(piece)

    assert max(map(len, pieces)) <= MAX_PIECE_BYTES
    assert (sum(map(len, pieces)), decoder.is_complete) == (size, True)


def test_parser_refuses_after_the_fact_only_reuse() -> None:
    """Bytes after a complete response spoil the connection, not the response."""
    ok = HEAD + b"content-length: 2\r\n\r\nok"

    assert parse(ok)[2:] == (b"ok", True, True)
    for surplus in (ok, b"nonsense", b"HTTP/1.1 100 Continue\r\n\r\n"):
        assert parse(ok + surplus)[2:] == (b"ok", True, False)


def test_parser_names_what_is_wrong() -> None:
    """The text of a refusal says what the parser stumbled over."""
    with pytest.raises(ParsingError, match="unsupported transfer-encoding 'zip'"):
        parse(HEAD + b"transfer-encoding: zip\r\n\r\n")
