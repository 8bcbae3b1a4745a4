"""The stream to a core: what many calls send at once arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from maniac_edge.config import EdgeConfig
from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.link import Link
from maniac_edge.errors import EdgeError
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc

_CORE_TAKES_BYTES = 64 * 1024 * 1024
_PROMPT = b"x" * 250_000


class _Relay(relay_pb2_grpc.RelayServiceServicer):
    """A core that answers every call at once."""

    async def Relay(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[relay_pb2.RelayRequest], context: Any
    ) -> AsyncGenerator[relay_pb2.RelayResponse, None]:
        await context.send_initial_metadata((("x-maniac-relay-version", "2"),))
        async for message in request_iterator:
            yield relay_pb2.RelayResponse(
                frames=[
                    relay_pb2.RelayResponseFrame(call_id=frame.call_id, end=relay_pb2.RelayEnd())
                    for frame in message.frames
                ]
            )


class _Call:
    id = 0

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(self, frame: relay_pb2.RelayResponseFrame) -> None:
        del frame
        self.ended.set_result(None)

    def fail(self, failure: EdgeError, *, is_taken: bool) -> None:
        del is_taken
        if not self.ended.done():
            self.ended.set_exception(failure)


async def test_large_requests_that_come_together_are_more_than_one_message() -> None:
    """A core takes messages of a limited size, and one that is larger would end all calls of the stream."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _CORE_TAKES_BYTES)])
    relay_pb2_grpc.add_RelayServiceServicer_to_server(_Relay(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    target = f"127.0.0.1:{port}"
    link = Link(target, CoreChannels(EdgeConfig(core=target)), lambda _: None)
    await link.connect()
    running = asyncio.create_task(link.run())
    calls = [_Call() for _ in range(_CORE_TAKES_BYTES // len(_PROMPT) + 1)]
    start = relay_pb2.RelayStart(body=_PROMPT)
    for call in calls:
        link.open(call, start)
    ended = asyncio.gather(*(call.ended for call in calls), return_exceptions=True)
    either: list[asyncio.Future[Any]] = [running, ended]
    await asyncio.wait(either, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await link.close()
    await server.stop(None)
    assert await ended == [None] * len(calls)
