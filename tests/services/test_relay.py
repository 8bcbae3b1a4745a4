"""The relay to an edge: what many answers need at once arrives."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self, cast

import grpc
import pytest
from maniac_common.hop.server import Server
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Choice, Completion, Usage
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.register import register
from maniac_core.rpc.relay.frames import RequestReader
from maniac_core.rpc.relay.servicer import RelayServicer
from maniac_core.services.access.seals import Seals
from maniac_core.services.capture.capture import Call
from maniac_core.services.chat.counting import TokenCounter
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.history.replay import Replayer
from maniac_core.services.history.responses import StoredResponses
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc

_SENDS_BYTES = 64 * 1024 * 1024
_TEXT = "x" * 250_000
_CALLS = _SENDS_BYTES // len(_TEXT) + 1
CALLER = Caller(key=1, project=1, organization=1, project_id="p", organization_id="o")


_VERSION = ("x-maniac-relay-version", "2")
_START = relay_pb2.RelayStart(
    wire=relay_pb2.RELAY_WIRE_CHAT,
    body=b'{"messages":[{"role":"user","content":"Hi"}],"model":"m"}',
)


class _Gate:
    def __init__(self, *, is_edge: bool = True) -> None:
        self._is_edge = is_edge
        self.has_come = asyncio.Event()
        self.has_gone = asyncio.Event()

    def is_edge(self, _metadata: object, *, is_local: bool) -> bool:
        del is_local
        return self._is_edge

    async def admit_headers(self, *_: Any, **__: Any) -> Call:
        self.has_come.set()
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self.has_gone.set())
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


class _Core:
    """A servicer on gRPC's server, or on the event loop's own."""

    def __init__(self, gate: _Gate, *, is_hop: bool) -> None:
        self.servicer = RelayServicer(
            cast(Gate, gate),
            cast(IdempotentCompletions, _Completions()),
            RequestReader(cast(Replayer, None), cast(StoredResponses, None), cast(Seals, None)),
            cast(TokenCounter, None),
        )
        self._is_hop = is_hop

    async def __aenter__(self) -> Self:
        if self._is_hop:
            self._hop = Server(self.servicer.accept, max_message_bytes=_SENDS_BYTES)
            self._port = await self._hop.listen("127.0.0.1", 0, None)
            return self
        self._grpc = grpc.aio.server(options=[("grpc.max_send_message_length", _SENDS_BYTES)])
        register(self._grpc, {"RelayService": self.servicer})
        self._port = self._grpc.add_insecure_port("127.0.0.1:0")
        await self._grpc.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await (self._hop.stop(0) if self._is_hop else self._grpc.stop(None))

    def channel(self) -> grpc.aio.Channel:
        """Return a channel of gRPC's, which both of them serve."""
        options = [("grpc.max_receive_message_length", -1)]
        return grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=options)


def _relay(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> Any:
    return relay_pb2_grpc.RelayServiceStub(channel).Relay(metadata=metadata or (_VERSION,))


@pytest.mark.parametrize("is_hop", [False, True])
async def test_large_answers_that_are_ready_together_are_more_than_one_message(
    is_hop: bool,
) -> None:
    """A core sends messages of a limited size, and one that is larger would end all calls of the stream."""
    answered: set[int] = set()
    async with _Core(_Gate(), is_hop=is_hop) as core, core.channel() as channel:
        stream = _relay(channel)
        frames = [relay_pb2.RelayRequestFrame(call_id=i, start=_START) for i in range(_CALLS)]
        await stream.write(relay_pb2.RelayRequest(frames=frames))
        async with asyncio.timeout(60):
            while len(answered) < _CALLS:
                response = cast(relay_pb2.RelayResponse, await stream.read())
                answered.update(f.call_id for f in response.frames if f.HasField("answer"))
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
    assert answered == set(range(_CALLS))


@pytest.mark.parametrize("is_hop", [False, True])
@pytest.mark.parametrize(
    ("metadata", "is_edge", "is_draining", "code"),
    [
        (_VERSION, False, False, grpc.StatusCode.PERMISSION_DENIED),
        (("x-maniac-relay-version", "1"), True, False, grpc.StatusCode.UNIMPLEMENTED),
        (_VERSION, True, True, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_stream_is_refused_before_anything_is_read(
    is_hop: bool,
    metadata: tuple[str, str],
    is_edge: bool,
    is_draining: bool,
    code: grpc.StatusCode,
) -> None:
    """By both servers with the same words."""
    gate = _Gate(is_edge=is_edge)
    async with _Core(gate, is_hop=is_hop) as core, core.channel() as channel:
        if is_draining:
            core.servicer.drain()
        stream = _relay(channel, metadata)
        assert await stream.code() is code
        assert (await stream.details()).endswith((".", "again shortly."))


@pytest.mark.parametrize("is_hop", [False, True])
async def test_what_no_edge_sends_ends_the_stream(is_hop: bool) -> None:
    """A message of too many frames, one that is none, and a call with the id of another."""
    frames = [relay_pb2.RelayRequestFrame(call_id=i) for i in range(1025)]
    many = relay_pb2.RelayRequest(frames=frames).SerializeToString()
    start = relay_pb2.RelayRequestFrame(call_id=1, start=_START)
    twice = relay_pb2.RelayRequest(frames=[start, start]).SerializeToString()
    async with _Core(_Gate(), is_hop=is_hop) as core, core.channel() as channel:
        for message in (many, b"\xff\xff", twice):
            stream: Any = channel.stream_stream("/maniac_gateway.v1.RelayService/Relay")(
                metadata=(_VERSION,)
            )
            await stream.write(message)
            assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("is_hop", [False, True])
async def test_a_core_that_drains_says_so_and_waits_for_the_edge(is_hop: bool) -> None:
    async with _Core(_Gate(), is_hop=is_hop) as core, core.channel() as channel:
        stream = _relay(channel)
        await stream.initial_metadata()
        core.servicer.drain()
        assert (await stream.read()).draining
        await stream.write(
            relay_pb2.RelayRequest(frames=[relay_pb2.RelayRequestFrame(call_id=1, start=_START)])
        )
        assert (await stream.read()).frames[0].not_taken
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("is_hop", [False, True])
async def test_an_edge_that_goes_lets_its_calls_go_at_once(is_hop: bool) -> None:
    gate = _Gate()
    async with _Core(gate, is_hop=is_hop) as core, core.channel() as channel:
        stream = _relay(channel)
        frame = relay_pb2.RelayRequestFrame(call_id=1, start=_START)
        await stream.write(relay_pb2.RelayRequest(frames=[frame]))
        async with asyncio.timeout(10):
            await gate.has_come.wait()
        gone = time.monotonic()
        stream.cancel()
        async with asyncio.timeout(10):
            await gate.has_gone.wait()
        assert time.monotonic() - gone < 0.1


async def test_another_method_is_not_served_by_the_event_loop() -> None:
    async with _Core(_Gate(), is_hop=True) as core, core.channel() as channel:
        call = relay_pb2_grpc.RelayServiceStub(channel).Call(relay_pb2.CallRequest())
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
