"""Connections that take more than they should: heads without end, requests that do not go on, offers in crowds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

URL = b"/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
HEAD = b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer mk-test\r\n" % URL
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
PIECE = b"a" * 16_000
ENDLESS = {
    "a request line": (b"GET /", PIECE),
    "a header": (HEAD + b"x-a: ", PIECE),
    "headers": (HEAD, b"x-a: %s\r\n" % PIECE),
    "trailers": (CHUNKED, b"x-a: %s\r\n" % PIECE),
    "a trailer": (CHUNKED + b"x-a: ", PIECE),
}


@pytest.mark.parametrize(("start", "piece"), ENDLESS.values(), ids=ENDLESS)
async def test_a_head_without_end_is_refused(
    edge: Any, core: Any, start: bytes, piece: bytes
) -> None:
    """It is a 400 and the end of the connection, long before it has filled the memory."""
    async with edge.connection(start) as (reader, writer):
        answer = asyncio.create_task(reader.read())
        sent = 0
        try:
            while not answer.done():
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
                assert sent < 256 * 2**20
        except ConnectionError:
            pass
        refusal = await outcome(answer)

    # A client that goes on sending may lose the answer to the reset.
    assert not refusal or refusal.startswith(b"HTTP/1.1 400 ")
    assert core.calls == []


async def outcome(answer: asyncio.Task[bytes]) -> bytes:
    """Return what came before the end of the connection."""
    try:
        return await answer
    except ConnectionError:
        return b""


async def test_a_head_that_is_too_large_is_refused_in_one_piece(edge: Any, core: Any) -> None:
    """However it arrives, it is not served, and the answer says why."""
    async with edge.connection(HEAD + b"x-a: %s\r\n\r\n" % (b"a" * 70_000)) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"The head of the request is larger than 65536 bytes." in answer
    assert core.calls == []


async def test_a_large_head_and_large_bodies_are_no_large_head(edge: Any, core: Any) -> None:
    """Headers of 60 kB are served, and so are bodies that come together with heads."""
    large = BODY[:-1] + b',"x":"%s"}' % (b"a" * 200_000)
    one = HEAD + b"x-a: %s\r\ncontent-length: %d\r\n\r\n" % (b"a" * 60_000, len(large)) + large
    last = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    async with edge.connection(one * 2 + last) as (reader, _):
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert len(core.asked("create")) == 3


async def test_trailers_are_no_headers(edge: Any, core: Any) -> None:
    """What follows a body does not count as said before it."""
    close = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    async with edge.connection(CHUNKED + b"x-request-id: late\r\n\r\n" + close) as (reader, _):
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert b"late" not in answers
    assert len(core.asked("create")) == 2


async def test_many_offers_at_once_are_all_declined(edge: Any) -> None:
    """Each of a thousand requests in one write offers another protocol, and each is answered."""
    offer = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade%s\r\nupgrade: h2c\r\n\r\n"
    async with edge.connection(offer % b"" * 999 + offer % b", close") as (reader, _):
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1 200 OK") == 1000


HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
STOPPED = {
    "nothing": b"",
    "half a request line": b"GET /heal",
    "half a head": HEAD + b"x-a: ",
    "half a body": HEAD + b"content-length: 100\r\n\r\n{",
    "half a second request": HEALTH + b"GET /",
    "half a second body": HEALTH + HEAD + b"content-length: 100\r\n\r\n{",
}


async def test_a_client_that_stops_in_mid_request_is_left(start_edge: Any, core: Any) -> None:
    """Its connection is closed after a while; one whose request is under way meanwhile is not."""
    go_on = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        await go_on.wait()
        return await core.answer(request, context)

    core.on_create = hang
    whole = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    async with (
        start_edge(core.target, python=IMPATIENT) as edge,
        edge.connection(whole) as (patient, _),
    ):
        for start in STOPPED.values():
            async with edge.connection(start) as (reader, _), asyncio.timeout(60):
                await reader.read()
        go_on.set()
        answer = await patient.read()

    assert answer.startswith(b"HTTP/1.1 200 OK")


# The time is no setting: nobody needs another one but a test that waits for its end.
_SCRIPT = """
import sys
from maniac_edge import __main__
from maniac_edge.server import serve as server
server.IDLE_CONNECTION_S = 0.3
sys.exit(__main__.main())
"""
IMPATIENT = ("-c", _SCRIPT)
