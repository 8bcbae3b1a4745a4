"""Link: one relay stream to one core, and the calls that run on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from maniac_gateway.v1 import relay_pb2

from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.streams import HopStream, RelayStream, RpcStream, StreamError
from maniac_edge.errors import EdgeError, from_error

_log = logging.getLogger(__name__)
# A core that has accepted the connection but not the stream by then is as good as down.
_CONNECT_S = 5.0
# The core stands, and only the other way to it may be closed.
_HOP_CONNECT_S = 2.0
# In one message. With the largest frames it is well below what a core takes.
_MAX_FRAMES = 64
# While so many calls run, a message waits for more frames, since each message has a cost of its own.
_MANY_CALLS = 16
_HOP = "x-maniac-hop"
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
        self._target = target
        self._channels = channels
        self._metadata = (*channels.credential, _VERSION)
        self._stream: RelayStream = RpcStream(target, channels, self._metadata)
        self._calls: dict[int, LinkedCall] = {}
        self._last_id = 0
        self._frames: list[Frame] = []
        self._is_scheduled = False
        self._waiting = 0
        self._is_half_closed = False

    @property
    def running(self) -> int:
        """How many calls run."""
        return len(self._calls)

    async def connect(self) -> None:
        """Wait until the core has accepted the stream, which its initial metadata says.

        Raises:
            StreamError: it cannot be reached, takes no new calls, offers no relay, or does not take this for an edge.
            OtherVersionError: it would not understand the frames.
            TimeoutError: it does not answer.
        """
        async with asyncio.timeout(_CONNECT_S):
            said = await self._stream.connect()
        if said.get(_VERSION[0]) != _VERSION[1]:
            raise OtherVersionError
        offer = said.get(_HOP)
        if offer:
            await self._change_to_hop(offer)

    async def _change_to_hop(self, offer: str) -> None:
        """Go on by a stream that costs less, if it can be had; else by the one that stands."""
        try:
            stream = HopStream(self._target, offer, self._channels, self._metadata)
        except ValueError as err:
            _log.warning("the core %s offers a relay that is none: %s", self._target, err)
            return
        why = "no answer"
        try:
            async with asyncio.timeout(_HOP_CONNECT_S):
                await stream.connect()
            why = ""
        except StreamError as err:
            why = str(err)
        except TimeoutError:
            pass
        if why:
            await stream.close()
            _log.info(
                "the relay to the core %s goes by its gRPC port, since %s cannot be reached: %s",
                self._target,
                offer,
                why,
            )
            return
        rpc, self._stream = self._stream, stream
        await rpc.close()

    async def run(self) -> None:
        """Carry frames until the stream ends, or the core drains and the last call has ended.

        Raises:
            StreamError: the stream broke.
        """
        await self._stream.run(self)

    def receive(self, message: relay_pb2.RelayResponse) -> None:
        """Take a message of the core."""
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

    async def close(self) -> None:
        """Disconnect; what still runs has failed."""
        unsent = {
            frame.call_id
            for frame in self._frames
            if frame.WhichOneof("frame") in {"start", "access"}
        }
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(_broken(), is_taken=call.id not in unsent)
        await self._stream.close()

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
        self._schedule()

    def forget(self, call_id: int) -> bool:
        """Drop a call; return whether it was still running."""
        was_running = self._calls.pop(call_id, None) is not None
        if self.is_draining and not self._calls:
            self._schedule()
        return was_running

    def drain(self) -> None:
        """Open no more calls here, and end the stream when the last one has ended."""
        self.is_draining = True
        self._schedule()
        self._on_draining(self)

    def resume(self) -> None:
        """There is room for frames again."""
        if not self._is_scheduled:
            self._flush()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        count = len(self._frames)
        if len(self._calls) >= _MANY_CALLS and self._waiting < count < _MAX_FRAMES:
            # While each turn of the loop brings more, the message can wait.
            self._waiting = count
            self.loop.call_soon(self._flush)
            return
        self._waiting = 0
        self._is_scheduled = False
        stream = self._stream
        while self._frames and stream.is_ready:
            frames, self._frames = self._frames[:_MAX_FRAMES], self._frames[_MAX_FRAMES:]
            stream.send(relay_pb2.RelayRequest(frames=frames))
        if (
            self.is_draining
            and not (self._calls or self._frames or self._is_half_closed)
            and stream.is_ready
        ):
            self._is_half_closed = True
            stream.half_close()
        stream.flush()


def _broken() -> EdgeError:
    return EdgeError(
        "DEPENDENCY_UNAVAILABLE",
        "The gateway's core broke off. Try again.",
        retry_after_s=1,
        from_core=True,
    )
