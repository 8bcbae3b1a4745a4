"""Where a request ends is said in one way only, and what follows it never lands in its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def post(*headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    lines = [b"POST /v1/chat/completions HTTP/" + version, *headers]
    return b"\r\n".join([*lines, b"", b""]) + body


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"content-length: %d" % len(BODY)
REFUSED = {
    "no host": post(LENGTH, body=BODY),
    "two hosts": post(b"host: a", b"host: b", LENGTH, body=BODY),
    "two hosts that agree": post(b"host: a", b"host: a", LENGTH, body=BODY),
    "another coding first": post(b"host: x", b"transfer-encoding: gzip, chunked", body=CHUNKED),
    "another coding": post(b"host: x", b"transfer-encoding: gzip", body=CHUNKED),
    "identity": post(b"host: x", b"transfer-encoding: identity", LENGTH, body=BODY),
    "chunked twice": post(b"host: x", b"transfer-encoding: chunked, chunked", body=CHUNKED),
    "two codings": post(
        b"host: x", b"transfer-encoding: chunked", b"transfer-encoding: chunked", body=CHUNKED
    ),
    "an odd coding": post(b"host: x", b"transfer-encoding: xchunked", body=CHUNKED),
    "length and coding": post(b"host: x", LENGTH, b"transfer-encoding: chunked", body=CHUNKED),
    "coding and length": post(b"host: x", b"transfer-encoding: chunked", LENGTH, body=CHUNKED),
    "two lengths": post(b"host: x", LENGTH, b"content-length: 5", body=BODY),
    "two lengths that agree": post(b"host: x", LENGTH, LENGTH, body=BODY),
    "a list of lengths": post(b"host: x", b"content-length: 57, 57", body=BODY),
    "a negative length": post(b"host: x", b"content-length: -1", body=BODY),
    "a signed length": post(b"host: x", b"content-length: +57", body=BODY),
    "a length beyond 64 bits": post(b"host: x", b"content-length: " + b"9" * 30, body=BODY),
    "HTTP/0.9 without a version": b"GET /healthz\r\n\r\n",
    "HTTP/0.9 by name": b"GET /healthz HTTP/0.9\r\nhost: x\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nhost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a blank before the colon": post(b"host: x", b"content-length : 57", body=BODY),
    "a header without a colon": post(b"host: x", b"nothing", body=BODY),
    "a folded header": post(b"host: x", b"x-a: 1\r\n 2", LENGTH, body=BODY),
    "a malformed chunk": post(b"host: x", b"transfer-encoding: chunked", body=b"zz\r\n{}\r\n"),
    "a CONNECT": b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_an_ambiguous_request_is_a_400(edge: Any, core: Any, sent: bytes) -> None:
    """It is refused in the envelope, the connection ends, and nothing behind it is taken for a request."""
    async with edge.connection(sent + GET) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert b'"code":"invalid_value"' in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert core.asked("create") == []


SERVED = {
    "chunked": post(b"host: x", b"transfer-encoding: Chunked", body=CHUNKED),
    "HTTP/1.0 without a host": post(LENGTH, body=BODY, version=b"1.0"),
    "an absolute target": b"GET http://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", SERVED.values(), ids=SERVED)
async def test_what_is_said_once_is_served(edge: Any, core: Any, sent: bytes) -> None:
    """The plain forms go on working."""
    del core
    async with edge.connection(sent + GET) as (reader, _):
        head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("garbage", [b"\x00\x01garbage\r\n\r\n", b"GET\r\n\r\n", b"zz" * 50_000])
async def test_garbage_behind_a_request_never_lands_in_its_stream(
    edge: Any, core: Any, garbage: bytes
) -> None:
    """The stream goes on to its end; then the connection is closed."""
    go_on = asyncio.Event()

    async def slowly(_request: Any, _context: Any) -> Any:
        yield core.chunk(role="assistant", content="a")
        await go_on.wait()
        yield core.chunk(content="b", finish_reason="stop")

    core.on_stream = slowly
    request = post(b"host: x", b"content-length: %d" % len(STREAM), body=STREAM)
    async with edge.connection(request) as (reader, writer):
        begun = await reader.readuntil(b'"content":"a"')
        writer.write(garbage)
        await writer.drain()
        async with edge.connection(GET) as (other, _):
            # By then the garbage has been read.
            await other.read()
        go_on.set()
        rest = await reader.read()

    assert begun.startswith(b"HTTP/1.1 200 ")
    assert b"data: [DONE]\n\n" in rest
    assert rest.endswith(b"0\r\n\r\n")
    assert b"HTTP/1.1" not in rest


async def test_garbage_behind_a_request_waits_for_its_answer(edge: Any, core: Any) -> None:
    """An answer that is owed comes before anything that is said of what follows it."""
    go_on = asyncio.Event()

    async def late(request: Any, context: Any) -> Any:
        await go_on.wait()
        return await core.answer(request, context)

    core.on_create = late
    async with edge.connection(post(b"host: x", LENGTH, body=BODY) + b"garbage\r\n\r\n") as (r, _):
        async with edge.connection(GET) as (other, _):
            await other.read()
        go_on.set()
        answer = await r.read()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


async def test_a_malformed_request_in_a_queue_is_refused_in_its_turn(edge: Any, core: Any) -> None:
    """Those before it are served first."""
    del core
    bad = post(b"host: x", b"transfer-encoding: chunked", body=b"zz\r\n")
    async with edge.connection(post(b"host: x", LENGTH, body=BODY) + bad) as (reader, _):
        answers = await reader.read()

    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 400 ") == 1
    assert answers.index(b"HTTP/1.1 400 ") > answers.index(b"chat.completion")
