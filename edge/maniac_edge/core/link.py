"""Link: one relay stream to one core, and the calls that run on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import grpc
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc

from maniac_edge.core.channel import CoreChannels
from maniac_edge.errors import EdgeError, from_error

# A core that has accepted the connection but not the stream by then is as good as down.
_CONNECT_S = 5.0
# In one message. With the largest frames it is well below what a core takes.
_MAX_FRAMES = 64
_VERSION = ("x-maniac-relay-version", "2")
"""What this edge speaks. A core of an earlier version has none; one of a later one may refuse the stream."""
Frame = relay_pb2.RelayRequestFrame


class OtherVersionError(Exception):
    """The core speaks another version of the relay."""


class LinkedCall(Protocol):
    """A call, as its link sees it."""

    id: int

    def receive(self, frame: relay_pb2.RelayResponseFrame) -> None:
        """Take a frame of the core."""

    def fail(self, failure: EdgeError, *, is_taken: bool) -> None:
        """End with a failure. Unless it is taken, no core has seen the call, and another one may be given it."""


class Link:
    """A stream on a connection of its own; each is used for one connection only."""

    def __init__(
        self, target: str, channels: CoreChannels, on_draining: Callable[[Link], None]
    ) -> None:
        """`on_draining` is called when the core stops accepting new calls."""
        # Kept, because asking for it costs a system call each time.
        self.loop = asyncio.get_running_loop()
        self.is_draining = False
        self._on_draining = on_draining
        self._channel = channels.open(target)
        self._stream = relay_pb2_grpc.RelayServiceStub(self._channel).Relay(
            metadata=(*channels.credential, _VERSION)
        )
        self._calls: dict[int, LinkedCall] = {}
        self._last_id = 0
        self._frames: list[Frame] = []
        self._wake = asyncio.Event()

    @property
    def running(self) -> int:
        """How many calls run."""
        return len(self._calls)

    async def connect(self) -> None:
        """Wait until the core has accepted the stream, which its initial metadata says.

        Raises:
            AioRpcError: it cannot be reached, takes no new calls, offers no relay, or does not take this for an edge.
            OtherVersionError: it would not understand the frames.
            TimeoutError: it does not answer.
        """
        async with asyncio.timeout(_CONNECT_S):
            metadata = await self._stream.initial_metadata()
            if self._stream.done():
                # Raises its status: there is nothing to read.
                await self._stream.read()
        if _VERSION not in tuple(metadata or ()):
            raise OtherVersionError

    async def run(self) -> None:
        """Carry frames until the stream ends, or the core drains and the last call has ended."""
        writer = asyncio.create_task(self._write())
        try:
            async for message in self._stream:
                if message.draining and not self.is_draining:
                    self.drain()
                for frame in message.frames:
                    call = self._calls.get(frame.call_id)
                    if call is None:
                        continue
                    if frame.not_taken:
                        self.forget(frame.call_id)
                        call.fail(from_error(frame.error), is_taken=False)
                    else:
                        call.receive(frame)
        finally:
            writer.cancel()

    async def close(self) -> None:
        """Disconnect; what still runs has failed."""
        self._stream.cancel()
        unsent = {
            frame.call_id
            for frame in self._frames
            if frame.WhichOneof("frame") in {"start", "access"}
        }
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(_broken(), is_taken=call.id not in unsent)
        await self._channel.close()

    def open(self, call: LinkedCall, opening: relay_pb2.RelayStart | relay_pb2.RelayAccess) -> None:
        """Send a new call."""
        self._last_id += 1
        call.id = self._last_id
        self._calls[call.id] = call
        if isinstance(opening, relay_pb2.RelayStart):
            self.send(Frame(call_id=call.id, start=opening))
        else:
            self.send(Frame(call_id=call.id, access=opening))

    def send(self, frame: Frame) -> None:
        """Queue a frame."""
        self._frames.append(frame)
        self._wake.set()

    def forget(self, call_id: int) -> bool:
        """Drop a call; return whether it was still running."""
        was_running = self._calls.pop(call_id, None) is not None
        if self.is_draining and not self._calls:
            self._wake.set()
        return was_running

    def drain(self) -> None:
        """Open no more calls here, and end the stream when the last one has ended."""
        self.is_draining = True
        self._wake.set()
        self._on_draining(self)

    async def _write(self) -> None:
        # Where writing fails, the reader learns of it as well, and every call fails.
        with contextlib.suppress(
            grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError
        ):
            while True:
                if not self._frames:
                    if self.is_draining and not self._calls:
                        await self._stream.done_writing()
                        return
                    self._wake.clear()
                    await self._wake.wait()
                    # While each turn of the loop brings more, the message can wait.
                    count = 0
                    while count < len(self._frames) < _MAX_FRAMES:
                        count = len(self._frames)
                        await asyncio.sleep(0)
                    continue
                frames, self._frames = self._frames[:_MAX_FRAMES], self._frames[_MAX_FRAMES:]
                await self._stream.write(relay_pb2.RelayRequest(frames=frames))


def _broken() -> EdgeError:
    return EdgeError(
        "DEPENDENCY_UNAVAILABLE",
        "The gateway's core broke off. Try again.",
        retry_after_s=1,
        from_core=True,
    )
