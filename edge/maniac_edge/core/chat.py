"""CoreChat: how chat requests reach the core and answers come back, whatever carries them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias

import grpc
from maniac_gateway.v1 import relay_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core.client import CoreClient, failed, take_headers
from maniac_edge.errors import EdgeError, internal_error

_Call: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, relay_pb2.CallResponse]"
# Of gRPC itself, where a core has no such method.
_NO_SUCH_METHOD = "Method not found!"
# Frames held for a reader that is slower than the core; then reading from the core stops.
_MAX_HELD = 64
# Frames that follow each other faster than this leave in one write: a write costs more than a frame.
_GATHER_S = 0.001


class ChatRequest:
    """A chat request on its way to the core."""

    __slots__ = ("is_native", "is_stream", "packed", "start")

    def __init__(self, start: relay_pb2.RelayStart) -> None:
        self.start = start
        self.is_stream = start.stream
        self.is_native = False
        """Whether the answer that has begun is in the form of the request's wire, and not in chat's."""
        self.packed: bytes | None = None
        """The whole message for an RPC, of a large request; its `start` is empty then."""

    def pack(self) -> bytes:
        """Encode it here and now: for a large one that takes long enough to be done in a thread."""
        if self.packed is None:
            self.packed = relay_pb2.CallRequest(start=self.start).SerializeToString()
            self.start = relay_pb2.RelayStart()
        return self.packed


class ChatStream(Protocol):
    """A streamed answer. Whoever opened it closes it."""

    on_failed: Callable[[], None] | None
    """Called when the answer fails, whether or not what came before is still to be read."""

    async def batch(self, timeout_s: float) -> bytes | None:
        """Return the events that are ready, at least one; nothing after the last one of a complete answer.

        Returns None if nothing came within `timeout_s`. The core's headers are in the context when it returns events.

        Raises:
            EdgeError: the answer failed; what was returned before is not complete.
        """

    def close(self) -> None:
        """End the call of the core if it still runs."""


class CoreChat(Protocol):
    """A transport of chat requests. The answer is what the client gets."""

    async def create(self, request: ChatRequest, context: RequestContext) -> bytes:
        """Return a whole answer, JSON. Cancelling the caller ends the call of the core.

        Raises:
            EdgeError: the call failed.
        """

    async def stream(self, request: ChatRequest, context: RequestContext) -> ChatStream:
        """Open a streamed answer."""


class RpcChat:
    """CoreChat with one RPC per request."""

    def __init__(self, core: CoreClient, config: EdgeConfig) -> None:
        self._core = core
        self._timeout_s = config.completion_timeout_s

    async def create(self, request: ChatRequest, context: RequestContext) -> bytes:
        """Return a whole answer; see CoreChat."""
        call = self._call(request, context)
        answer = b""
        try:
            take_headers(context, await call.initial_metadata())
            async for response in call:
                frame = response.frame
                request.is_native = frame.HasField("native_answer")
                answer = frame.native_answer if request.is_native else frame.answer
        except grpc.aio.AioRpcError as err:
            raise _failed(err, context) from err
        finally:
            call.cancel()
        return answer

    async def stream(self, request: ChatRequest, context: RequestContext) -> ChatStream:
        """Open a streamed answer; see CoreChat."""
        return _RpcStream(self._call(request, context), request, context)

    def _call(self, request: ChatRequest, context: RequestContext) -> _Call:
        return self._core.call_packed(
            request.pack(), timeout=self._timeout_s, metadata=self._core.metadata(context)
        )


class _RpcStream:
    """Reads ahead of its consumer, up to a bound, so that frames gather while a write is under way.

    A read of grpc.aio cannot be given up without ending its call, so waiting with a timeout needs this too.
    """

    def __init__(
        self,
        call: _Call,
        request: ChatRequest,
        context: RequestContext,
    ) -> None:
        self.on_failed: Callable[[], None] | None = None
        self._call = call
        self._request = request
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._held: deque[bytes] = deque()
        self._room = asyncio.Event()
        self._waiter: asyncio.Future[bool] | None = None
        # Anything but a good end is a failure, so that a broken answer never looks whole.
        self._failure: EdgeError | None = internal_error()
        self._ended = False
        self._last_batch = 0.0
        self._reader = self._loop.create_task(self._read())

    async def batch(self, timeout_s: float) -> bytes | None:
        """Return the events that are ready; see ChatStream."""
        if not self._held and not self._ended and not await self._wait(timeout_s):
            return None
        # The end is not waited for by anyone who reads, so only frames in mid-stream gather.
        if not self._ended and self._loop.time() - self._last_batch < _GATHER_S:
            await asyncio.sleep(_GATHER_S)
        events = b"".join(self._held)
        self._held.clear()
        self._room.set()
        if not events and self._failure is not None:
            raise self._failure
        self._last_batch = self._loop.time()
        return events

    def close(self) -> None:
        """End the call of the core if it still runs."""
        self._call.cancel()
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            take_headers(self._context, await self._call.initial_metadata())
            async for response in self._call:
                frame = response.frame
                if frame.HasField("native_events"):
                    self._request.is_native = True
                    self._held.append(frame.native_events)
                else:
                    self._held.append(frame.events)
                self._wake()
                if len(self._held) >= _MAX_HELD:
                    self._room.clear()
                    await self._room.wait()
            self._failure = None
        except grpc.aio.AioRpcError as err:
            self._failure = _failed(err, self._context)
            if self.on_failed is not None:
                self.on_failed()
        finally:
            self._ended = True
            self._wake()

    async def _wait(self, timeout_s: float) -> bool:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._time_out)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def _time_out(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)


def older_core() -> EdgeError:
    """Return the failure of a request for which there are only cores that are older than the edge."""
    return EdgeError(
        "DEPENDENCY_UNAVAILABLE",
        "The gateway's core is older than its edge: upgrade the cores, then the edges.",
        retry_after_s=5,
        from_core=True,
    )


def _failed(error: grpc.aio.AioRpcError, context: RequestContext) -> EdgeError:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED and error.details() == _NO_SUCH_METHOD:
        return older_core()
    return failed(error, context)
