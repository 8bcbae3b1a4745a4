"""Clients that offer another protocol with their request: some HTTP libraries offer h2c on every first one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "websocket": b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
}


def head(offer: bytes, body: bytes = BODY) -> bytes:
    """Return the head of a request with an offer."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer mk-test\r\n"
        b"%scontent-length: %d\r\n\r\n" % (offer, len(body))
    )


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
async def test_an_offer_is_declined_and_the_request_served(
    edge: Any, core: Any, offer: bytes, *, apart: bool
) -> None:
    """A request that offers another protocol is answered in HTTP/1.1 with its body read, and the connection goes on."""
    plain = head(b"connection: close\r\n") + BODY
    first = b"" if apart else BODY + plain
    async with edge.connection(head(offer) + first) as (reader, writer):
        if apart:
            await asyncio.sleep(0)
            writer.write(BODY[:20])
            await writer.drain()
            writer.write(BODY[20:] + plain)
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert [request.params.model for request in core.asked("create")] == ["m", "m"]


async def test_closing_can_be_asked_for_beside_an_offer(edge: Any, core: Any) -> None:
    """What else the Connection header says still counts."""
    offer = b"connection: upgrade, close\r\nupgrade: h2c\r\n"
    async with edge.connection(head(offer) + BODY) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer
    assert len(core.asked("create")) == 1


async def test_a_tunnel_is_refused(edge: Any, core: Any) -> None:
    """CONNECT is no offer but a demand, and the edge is no proxy."""
    async with edge.connection(b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n") as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert core.calls == []
