"""RelayChat: chat requests multiplexed over one stream to the core, because an RPC costs more than the rest together."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import grpc
from maniac_gateway.v1 import chat_pb2, relay_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core_chat import ChatStream, CoreChat
from maniac_edge.core_client import CoreClient
from maniac_edge.errors import EdgeError, from_error

_log = logging.getLogger(__name__)
_MAX_FRAME_BYTES = 256 * 1024
# Delta frames that a reader who stopped may leave waiting here; then the core stops reading from the provider.
_CREDIT = 64
_CREDIT_STEP = 16
# Well below what the core lets a reader leave unread.
_CREDIT_STEP_BYTES = 256 * 1024
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
Frame = relay_pb2.RelayRequestFrame


class RelayChat:
    """CoreChat over the relay; what is too large for a frame, or comes while there is no stream, goes by `rpc`."""

    def __init__(self, core: CoreClient, rpc: CoreChat, config: EdgeConfig) -> None:
        self._core = core
        self._rpc = rpc
        self._timeout_ms = int(config.completion_timeout_s * 1000)
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Begin to connect, and stay connected; does not wait for the core."""
        self._keeper = asyncio.create_task(self._keep_connected())

    async def close(self) -> None:
        """Disconnect; calls that still run fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    async def create(
        self, params: chat_pb2.ChatCompletionParams, context: RequestContext
    ) -> chat_pb2.ChatCompletion:
        """Return a whole answer; see CoreChat."""
        link = self._link
        if link is None or link.is_draining or params.ByteSize() > _MAX_FRAME_BYTES:
            return await self._rpc.create(params, context)
        call = _RelayCall(link, context)
        link.open(call, self._start(params, context, stream=False))
        try:
            return await call.whole()
        finally:
            call.close()

    def stream(self, params: chat_pb2.ChatCompletionParams, context: RequestContext) -> ChatStream:
        """Open a streamed answer; see CoreChat."""
        link = self._link
        if link is None or link.is_draining or params.ByteSize() > _MAX_FRAME_BYTES:
            return self._rpc.stream(params, context)
        call = _RelayCall(link, context)
        link.open(call, self._start(params, context, stream=True))
        return call

    def _start(
        self, params: chat_pb2.ChatCompletionParams, context: RequestContext, *, stream: bool
    ) -> relay_pb2.RelayStart:
        given = dict(context.metadata)
        return relay_pb2.RelayStart(
            authorization=given.get("authorization", ""),
            request_id=context.request_id,
            traceparent=given.get("traceparent", ""),
            idempotency_key=given.get("idempotency-key", ""),
            anthropic_beta=given.get("anthropic-beta", ""),
            client_address=context.client_address,
            timeout_ms=self._timeout_ms,
            stream=stream,
            initial_credit=_CREDIT,
            params=params,
        )

    async def _keep_connected(self) -> None:
        pause_s = _FIRST_PAUSE_S
        told: grpc.StatusCode | None = None
        while True:
            link = _Link(self._core)
            try:
                await link.connect()
                self._link = link
                pause_s = _FIRST_PAUSE_S
                told = None
                await link.run()
            except grpc.aio.AioRpcError as err:
                # Once per cause: a core that is down is tried every second.
                if err.code() is not told:
                    told = err.code()
                    _log.info("no relay to the core yet: %s", told.name)
            finally:
                self._link = None
                link.fail_all()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


class _Link:
    """One stream to a core, and the calls that run on it."""

    def __init__(self, core: CoreClient) -> None:
        # Kept, because asking for it costs a system call each time.
        self.loop = asyncio.get_running_loop()
        self._stream = core.relay.Relay()
        self._calls: dict[int, _RelayCall] = {}
        self._last_id = 0
        self._frames: list[Frame] = []
        self._wake = asyncio.Event()
        self.is_draining = False
        """Whether the core takes no new calls on this stream."""

    async def connect(self) -> None:
        """Wait until the core has accepted the stream, which its initial metadata says.

        Raises:
            AioRpcError: it cannot be reached, or offers no relay.
        """
        await self._stream.initial_metadata()
        if self._stream.done():
            # Raises its status: there is nothing to read.
            await self._stream.read()

    async def run(self) -> None:
        """Carry frames until the stream ends or the core drains and the last call has ended."""
        writer = asyncio.create_task(self._write())
        try:
            async for message in self._stream:
                self.is_draining = message.draining
                for frame in message.frames:
                    call = self._calls.get(frame.call_id)
                    if call is not None:
                        call.receive(frame)
        finally:
            writer.cancel()
            self._stream.cancel()

    def open(self, call: _RelayCall, start: relay_pb2.RelayStart) -> None:
        """Send a new call."""
        self._last_id += 1
        call.id = self._last_id
        self._calls[call.id] = call
        self.send(Frame(call_id=call.id, start=start))

    def send(self, frame: Frame) -> None:
        """Queue a frame."""
        self._frames.append(frame)
        self._wake.set()

    def forget(self, call_id: int) -> bool:
        """Drop a call; return whether it was still running."""
        return self._calls.pop(call_id, None) is not None

    def fail_all(self) -> None:
        """The stream is gone, and with it every call; clients may try again."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(
                EdgeError(
                    "DEPENDENCY_UNAVAILABLE",
                    "The gateway's core broke off. Try again.",
                    retry_after_s=1,
                    from_core=True,
                )
            )

    async def _write(self) -> None:
        while True:
            if not self._frames:
                self._wake.clear()
                await self._wake.wait()
                # Whatever became ready in the same turn of the loop shares the message.
                await asyncio.sleep(0)
            frames, self._frames = self._frames, []
            try:
                await self._stream.write(relay_pb2.RelayRequest(frames=frames))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The reader learns of it as well, and fails every call.
                return


class _RelayCall:
    """One call on a link; a ChatStream."""

    id = 0

    def __init__(self, link: _Link, context: RequestContext) -> None:
        self._link = link
        self._context = context
        self._held: list[chat_pb2.ChatCompletionChunk] = []
        self._completion: chat_pb2.ChatCompletion | None = None
        self._failure: EdgeError | None = None
        self._ended = False
        self._waiter: asyncio.Future[bool] | None = None
        self._consumed = 0
        self._consumed_bytes = 0

    async def whole(self) -> chat_pb2.ChatCompletion:
        """Return the whole answer."""
        if not self._ended:
            self._waiter = self._link.loop.create_future()
            await self._waiter
        if self._failure is not None:
            raise self._failure
        assert self._completion is not None
        return self._completion

    async def batch(self, timeout_s: float) -> list[chat_pb2.ChatCompletionChunk] | None:
        """Return the chunks that are ready; see ChatStream."""
        # Who asks again has written what it got: only then is there room for more.
        self._give_credit()
        if not self._held and not self._ended and not await self._wait(timeout_s):
            return None
        chunks, self._held = self._held, []
        self._consumed += len(chunks)
        self._consumed_bytes += sum([chunk.ByteSize() for chunk in chunks])
        if not chunks and self._failure is not None:
            raise self._failure
        return chunks

    def _give_credit(self) -> None:
        if self._ended or (
            self._consumed < _CREDIT_STEP and self._consumed_bytes < _CREDIT_STEP_BYTES
        ):
            return
        credit = relay_pb2.RelayCredit(frames=self._consumed)
        self._link.send(Frame(call_id=self.id, credit=credit))
        self._consumed = self._consumed_bytes = 0

    def close(self) -> None:
        """End the call of the core if it still runs."""
        if self._link.forget(self.id):
            self._link.send(Frame(call_id=self.id, cancel=relay_pb2.RelayCancel()))

    def receive(self, frame: relay_pb2.RelayResponseFrame) -> None:
        """Take a frame of the core."""
        if frame.HasField("head"):
            _take_head(self._context, frame.head)
        kind = frame.WhichOneof("frame")
        if kind is None:
            # Headers ahead of the answer; nobody waits for them alone.
            return
        if kind == "chunk":
            self._held.append(frame.chunk)
        else:
            if kind == "completion":
                self._completion = frame.completion
            elif kind == "error":
                self._failure = from_error(frame.error)
            self._link.forget(self.id)
            self._ended = True
        self._notify(came=True)

    def fail(self, failure: EdgeError) -> None:
        """End the call with a failure."""
        self._failure = failure
        self._ended = True
        self._notify(came=True)

    async def _wait(self, timeout_s: float) -> bool:
        loop = self._link.loop
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._notify)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _notify(self, *, came: bool = False) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(came)


def _take_head(context: RequestContext, head: relay_pb2.RelayHead) -> None:
    headers = context.response_headers
    if head.HasField("rate_limit"):
        headers[b"x-ratelimit-limit"] = b"%d" % head.rate_limit.limit
        headers[b"x-ratelimit-remaining"] = b"%d" % head.rate_limit.remaining
        headers[b"x-ratelimit-reset"] = b"%d" % head.rate_limit.reset
    if head.dropped_params:
        headers[b"x-maniac-dropped-params"] = ",".join(head.dropped_params).encode()
    if head.HasField("server_timing"):
        timing = head.server_timing
        headers[b"server-timing"] = (
            f"queue;dur={timing.queue_us / 1000:.1f}, upstream;dur={timing.upstream_us / 1000:.1f}, "
            f"first-token;dur={timing.first_token_us / 1000:.1f}, "
            f"gateway;dur={timing.gateway_us / 1000:.1f}"
        ).encode()
