"""A core that is told to stop, as its edges see it on the relay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import grpc
from gateway import CONFIG, KEY, Gateway
from grpc_health.v1 import health_pb2, health_pb2_grpc
from maniac_gateway.v1 import errors_pb2, relay_pb2, relay_pb2_grpc
from upstream import Exchange, Upstream, chunk

EDGE_KEY = "edge-0123456789abcdefghijklmnopqrstuvwxyz"


def start(call_id: int) -> relay_pb2.RelayRequest:
    """Return the message that opens a streamed call."""
    begin = relay_pb2.RelayStart(
        authorization=f"Bearer {KEY}",
        stream=True,
        initial_credit=64,
        wire=relay_pb2.RELAY_WIRE_CHAT,
        body=b'{"messages":[{"role":"user","content":"Hi"}],"model":"mock/m1"}',
    )
    return relay_pb2.RelayRequest(
        frames=[relay_pb2.RelayRequestFrame(call_id=call_id, start=begin)]
    )


class Edge:
    """What an edge has read from its stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.is_draining = False
        self.frames: list[relay_pb2.RelayResponseFrame] = []

    async def read_until(self, is_enough: Callable[[], bool]) -> None:
        """Read on."""
        while not is_enough():
            message = await self.stream.read()
            assert message is not grpc.aio.EOF
            self.is_draining = message.draining
            self.frames += message.frames

    def last(self, kind: str) -> bool:
        """Whether the last frame is of that kind."""
        return bool(self.frames) and self.frames[-1].WhichOneof("frame") == kind


async def test_a_core_that_stops_ends_what_it_has_begun_and_refuses_the_rest(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """It says that it drains, takes no call, which may go to another core, and waits for the edge to close."""
    go_on = upstream.event()

    async def slow(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("first"))
        await go_on.wait()
        await exchange.event(chunk(" last", finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    upstream.handler = slow
    config = CONFIG.format(base_url=upstream.base_url)
    gateway = await asyncio.to_thread(start_gateway, config, {"MANIAC_EDGE_KEY": EDGE_KEY})
    async with asyncio.timeout(60), grpc.aio.insecure_channel(gateway.grpc_target) as channel:
        stream = relay_pb2_grpc.RelayServiceStub(channel).Relay(
            metadata=(("x-maniac-edge-key", EDGE_KEY), ("x-maniac-relay-version", "2"))
        )
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await stream.write(start(1))
        edge = Edge(stream)
        await edge.read_until(lambda: edge.last("events"))
        for pid in gateway.children(" core"):
            os.kill(pid, signal.SIGTERM)
        await edge.read_until(lambda: edge.is_draining)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stream.write(start(2))
        await edge.read_until(lambda: edge.last("error"))
        refused = edge.frames.pop()
        upstream.set(go_on)
        await edge.read_until(lambda: edge.last("end"))
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        status = await stream.code()

    assert (refused.call_id, refused.not_taken) == (2, True)
    assert refused.error.reason == errors_pb2.ERROR_REASON_DEPENDENCY_UNAVAILABLE
    assert {frame.call_id for frame in edge.frames} == {1}
    events = b"".join(frame.events for frame in edge.frames).removesuffix(b"\n\n").split(b"\n\n")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    deltas = [choice["delta"].get("content", "") for one in chunks for choice in one["choices"]]
    assert "".join(deltas) == "first last"
    assert status is grpc.StatusCode.OK
    assert len(upstream.exchanges) == 1
