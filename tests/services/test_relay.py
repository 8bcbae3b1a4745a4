"""The relay to an edge: what many answers need at once arrives."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Choice, Completion, Usage
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.register import register
from maniac_core.rpc.relay.servicer import RelayServicer
from maniac_core.services.capture.capture import Call
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.history.replay import Replayer
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc

_SENDS_BYTES = 64 * 1024 * 1024
_TEXT = "x" * 250_000
_CALLS = _SENDS_BYTES // len(_TEXT) + 1
CALLER = Caller(key=1, project=1, organization=1, project_id="p", organization_id="o")


class _Gate:
    def is_edge(self, _context: object) -> bool:
        return True

    async def admit_headers(self, *_: Any, **__: Any) -> Call:
        return Call(caller=CALLER, request_id="r")


class _Completions:
    """Answers all calls once the last one has come."""

    def __init__(self) -> None:
        self._count = 0
        self._all_came = asyncio.Event()

    async def create(self, *_: Any) -> Completion:
        self._count += 1
        if self._count == _CALLS:
            self._all_came.set()
        await self._all_came.wait()
        message = {"role": "assistant", "content": _TEXT}
        return Completion(
            id="c",
            created=0,
            model="m",
            provider="p",
            container=None,
            choices=[Choice(index=0, message=message, finish_reason="stop")],
            usage=Usage(),
        )


async def test_large_answers_that_are_ready_together_are_more_than_one_message() -> None:
    """A core sends messages of a limited size, and one that is larger would end all calls of the stream."""
    servicer = RelayServicer(
        cast(Gate, _Gate()),
        cast(IdempotentCompletions, _Completions()),
        cast(Replayer, None),
    )
    server = grpc.aio.server(options=[("grpc.max_send_message_length", _SENDS_BYTES)])
    register(server, {"RelayService": servicer})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1)]
    body = b'{"messages":[{"role":"user","content":"Hi"}],"model":"m"}'
    start = relay_pb2.RelayStart(wire=relay_pb2.RELAY_WIRE_CHAT, body=body)
    answered: set[int] = set()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        version = (("x-maniac-relay-version", "2"),)
        stream = relay_pb2_grpc.RelayServiceStub(channel).Relay(metadata=version)
        frames = [relay_pb2.RelayRequestFrame(call_id=i, start=start) for i in range(_CALLS)]
        await stream.write(relay_pb2.RelayRequest(frames=frames))
        async with asyncio.timeout(60):
            while len(answered) < _CALLS:
                response = cast(relay_pb2.RelayResponse, await stream.read())
                answered.update(f.call_id for f in response.frames if f.HasField("answer"))
        await stream.done_writing()
    await server.stop(None)
    assert answered == set(range(_CALLS))
