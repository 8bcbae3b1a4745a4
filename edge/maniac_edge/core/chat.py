"""CoreChat: how chat requests reach the core and answers come back, whatever carries them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import grpc
from maniac_gateway.v1 import chat_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core.client import CoreClient, failed, finish, take_headers
from maniac_edge.errors import EdgeError, internal_error

# Chunks held for a reader that is slower than the core; then reading from the core stops.
_MAX_HELD_CHUNKS = 64
# Chunks that follow each other faster than this leave in one write: a write costs more than a chunk.
_GATHER_S = 0.001


class ChatRequest:
    """A chat request on its way to the core."""

    __slots__ = ("include_usage", "is_stream", "packed", "params")

    def __init__(self, params: chat_pb2.ChatCompletionParams, *, is_stream: bool) -> None:
        self.params = params
        self.is_stream = is_stream
        self.include_usage = params.include_usage
        self.packed: bytes | None = None
        """The whole message for an RPC, of a large request; its `params` are empty then."""

    def pack(self) -> None:
        """Encode it here and now: for a large one that takes long enough to be done in a thread."""
        kind = (
            chat_pb2.StreamChatCompletionRequest
            if self.is_stream
            else chat_pb2.CreateChatCompletionRequest
        )
        self.packed = kind(params=self.params).SerializeToString()
        self.params = chat_pb2.ChatCompletionParams()


class ChatStream(Protocol):
    """A streamed answer. Whoever opened it closes it."""

    on_failed: Callable[[], None] | None
    """Called when the answer fails, whether or not what came before is still to be read."""

    async def batch(self, timeout_s: float) -> list[chat_pb2.ChatCompletionChunk] | None:
        """Return the chunks that are ready, at least one; none at all after the last one of a complete answer.

        A chunk may hold several choices, each an event of its own; only the first one needs to carry the identity.

        Returns None if nothing came within `timeout_s`. The core's headers are in the context when it returns chunks.

        Raises:
            EdgeError: the answer failed; what was returned before is not complete.
        """

    def close(self) -> None:
        """End the call of the core if it still runs."""


class CoreChat(Protocol):
    """A transport of chat requests."""

    async def create(
        self, request: ChatRequest, context: RequestContext
    ) -> chat_pb2.ChatCompletion:
        """Return a whole answer. Cancelling the caller ends the call of the core.

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

    async def create(
        self, request: ChatRequest, context: RequestContext
    ) -> chat_pb2.ChatCompletion:
        """Return a whole answer; see CoreChat."""
        if request.packed is None:
            request.pack()
        call = self._core.create_packed(
            request.packed, timeout=self._timeout_s, metadata=self._core.metadata(context)
        )
        return (await finish(call, context)).completion

    async def stream(self, request: ChatRequest, context: RequestContext) -> ChatStream:
        """Open a streamed answer; see CoreChat."""
        if request.packed is None:
            request.pack()
        call = self._core.stream_packed(
            request.packed, timeout=self._timeout_s, metadata=self._core.metadata(context)
        )
        return RpcStream(call, context)


class RpcStream:
    """Reads ahead of its consumer, up to a bound, so that chunks gather while a write is under way.

    A read of grpc.aio cannot be given up without ending its call, so waiting with a timeout needs this too.
    """

    def __init__(
        self,
        call: grpc.aio.UnaryStreamCall[Any, Any],
        context: RequestContext,
    ) -> None:
        self.on_failed: Callable[[], None] | None = None
        self._call = call
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._held: deque[chat_pb2.ChatCompletionChunk] = deque()
        self._room = asyncio.Event()
        self._waiter: asyncio.Future[bool] | None = None
        # Anything but a good end is a failure, so that a broken answer never looks whole.
        self._failure: EdgeError | None = internal_error()
        self._ended = False
        self._last_batch = 0.0
        self._reader = self._loop.create_task(self._read())

    async def batch(self, timeout_s: float) -> list[chat_pb2.ChatCompletionChunk] | None:
        """Return the chunks that are ready; see ChatStream."""
        if not self._held and not self._ended and not await self._wait(timeout_s):
            return None
        # The end is not waited for by anyone who reads, so only chunks in mid-stream gather.
        if not self._ended and self._loop.time() - self._last_batch < _GATHER_S:
            await asyncio.sleep(_GATHER_S)
        chunks = list(self._held)
        self._held.clear()
        self._room.set()
        if not chunks and self._failure is not None:
            raise self._failure
        self._last_batch = self._loop.time()
        return chunks

    def close(self) -> None:
        """End the call of the core if it still runs."""
        self._call.cancel()
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            take_headers(self._context, await self._call.initial_metadata())
            async for response in self._call:
                self._held.append(response.chunk)
                self._wake()
                if len(self._held) >= _MAX_HELD_CHUNKS:
                    self._room.clear()
                    await self._room.wait()
            self._failure = None
        except grpc.aio.AioRpcError as err:
            self._failure = failed(err, self._context)
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
