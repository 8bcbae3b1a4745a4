"""Answers that nobody reads: they are dropped, and do not keep their connection for ever."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from typing import Any

from maniac_gateway.v1 import chat_pb2

LARGE = "x" * 2**20


def ask(edge: Any, *, stream: bool) -> socket.socket:
    """Send a request over a socket with a small window, and read nothing of the answer."""
    body = json.dumps(
        {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.connect(edge.address)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    client.sendall(head % len(body) + body)
    return client


async def is_ended(client: socket.socket) -> bool:
    """Wait for the other side to end the connection, without reading from it."""
    poll = select.poll()
    poll.register(client, select.POLLHUP)
    return bool(await asyncio.to_thread(poll.poll, 30_000))


async def test_an_answer_that_nobody_reads_is_dropped(start_edge: Any, core: Any) -> None:
    """A client that takes nothing for a while loses its connection, whatever is still to be sent."""

    async def large(_: Any, __: Any) -> Any:
        message = chat_pb2.ChatMessage(role="assistant", text=LARGE * 32)
        choices = [chat_pb2.Choice(index=0, message=message, finish_reason="stop")]
        return chat_pb2.CreateChatCompletionResponse(completion=core.completion(choices=choices))

    core.on_create = large
    async with start_edge(core.target, unread_timeout_s=0.3) as edge:
        with ask(edge, stream=False) as client:
            ended = await is_ended(client)
        await edge.line(r'"event":"request"')

    assert ended


async def test_a_stream_that_failed_is_not_kept_for_who_does_not_read(
    start_edge: Any, core: Any
) -> None:
    """Its client may read what came before the failure for a short time only."""

    async def pour(_: Any, context: Any) -> Any:
        for _ in range(32):
            yield core.chunk(content=LARGE)
        await core.fail(context, "UPSTREAM_TIMEOUT", "It took too long.")

    core.on_stream = pour
    async with start_edge(core.target, python=BRIEF) as edge:
        with ask(edge, stream=True) as client:
            ended = await is_ended(client)
        await edge.line(r'"event":"request"')

    assert ended


_SCRIPT = """
import sys
from maniac_edge import __main__
from maniac_edge.wires import answerer
answerer._LAST_READ_S = 0.3
sys.exit(__main__.main())
"""
BRIEF = ("-c", _SCRIPT)
