"""A client that goes away, at each stage: the provider is let go, and one record says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asking import MESSAGES
from gateway import KEY, Gateway
from ledger import Ledger, text_of, trail
from providers import Exchange, Providers, chunk, status


async def leave(
    gateway: Gateway, body: dict[str, Any], request_id: str, wait: Callable[[Any], Any]
) -> None:
    """Ask, wait for something to have happened, and close the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    data = json.dumps({"messages": MESSAGES, **body}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"x-request-id: %s\r\ncontent-length: %d\r\n\r\n%s"
        % (KEY.encode(), request_id.encode(), len(data), data)
    )
    await wait(reader)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("stage", "stream"),
    [
        ("before headers", False),
        ("in the body", False),
        ("before headers", True),
        ("before first token", True),
        ("mid-stream", True),
    ],
)
def test_a_client_that_leaves_cancels_and_is_recorded(
    gateway: Gateway, providers: Providers, ledger: Ledger, stage: str, *, stream: bool
) -> None:
    """The provider's connection closes; the record has the text so far and estimated usage."""

    async def stop_there(exchange: Exchange) -> None:
        if stage == "in the body":
            await exchange.send(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{")
        elif stage != "before headers":
            await exchange.begin_stream()
            await exchange.event(chunk(None, role="assistant"))
        if stage == "mid-stream":
            await exchange.event(chunk("Half"))
        await exchange.wait_until_gone()

    async def wait(reader: asyncio.StreamReader) -> None:
        await asyncio.to_thread(providers.wait_for_requests, 1)
        if stage == "mid-stream":
            await reader.readuntil(b"Half")

    providers.handlers["patient"] = stop_there
    request_id = uuid.uuid4().hex
    asyncio.run(leave(gateway, {"model": "patient/m", "stream": stream}, request_id, wait))

    assert providers.last.gone.wait(60)
    record = ledger.wait_for(request_id)
    assert (record["status"], record["usage_source"]) == ("cancelled", "estimated")
    assert record["input_tokens"] > 0
    assert text_of(record) == ("Half" if stage == "mid-stream" else "")
    assert (record["output_tokens"] > 0) is (stage == "mid-stream")
    assert trail(record) == [("patient", "cancelled")]


def test_a_client_that_leaves_between_two_tries_costs_nothing(
    gateway: Gateway, providers: Providers, ledger: Ledger
) -> None:
    """During the pause before a retry there is nothing to stop; the record has the attempt that failed."""

    async def fail(exchange: Exchange) -> None:
        await status(503, headers={"retry_after": "5", "connection": "close"})(exchange)
        await exchange.wait_until_gone()

    async def wait(_: asyncio.StreamReader) -> None:
        await asyncio.to_thread(providers.wait_for_requests, 1)
        # The gateway hangs up once it has read the answer, and then pauses.
        assert await asyncio.to_thread(providers.last.gone.wait, 60)

    providers.handlers["again"] = fail
    request_id = uuid.uuid4().hex
    asyncio.run(leave(gateway, {"model": "again/m", "stream": True}, request_id, wait))

    record = ledger.wait_for(request_id)
    assert record["status"] == "cancelled"
    assert len(providers.requests("again")) == 1
    assert trail(record) == [("again", "failed")]
    assert (record["usage_source"], record["input_tokens"]) == ("none", 0)
