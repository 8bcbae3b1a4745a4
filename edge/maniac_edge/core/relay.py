"""RelayChat: chat requests multiplexed over one stream per core, because an RPC costs more than the rest together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from maniac_gateway.v1 import relay_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.chat import ChatRequest, ChatStream, RpcChat, older_core
from maniac_edge.core.client import CoreClient
from maniac_edge.core.link import Frame, Link
from maniac_edge.core.links import CoreLinks
from maniac_edge.errors import EdgeError, from_error

# Frames of events that a reader who stopped may leave waiting here; then the core stops reading from the provider.
_CREDIT = 64
_CREDIT_STEP = 16
# Well below what the core lets a reader leave unread.
_CREDIT_STEP_BYTES = 256 * 1024
# In tenths of milliseconds.
_TIMING = b"queue;dur=%d.%d, upstream;dur=%d.%d, first-token;dur=%d.%d, gateway;dur=%d.%d"
# The headers of a call, by their names in the metadata of an RPC.
_FIELDS = {
    "authorization": "authorization",
    "traceparent": "traceparent",
    "idempotency-key": "idempotency_key",
    "anthropic-beta": "anthropic_beta",
}


class RelayChat:
    """CoreChat over the relay; a call that is too large for a frame, or has no link, goes by an RPC of its own.

    A request that a core has not begun (it is about to stop, or died before the request was sent) is given to another
    core. One that a core may have begun is not: its provider may have been called, and would be paid twice.
    """

    def __init__(self, core: CoreClient, config: EdgeConfig, channels: CoreChannels) -> None:
        self.links = CoreLinks(channels)
        self._core = core
        self._rpc = RpcChat(core, config)
        self._timeout_ms = int(config.completion_timeout_s * 1000)
        self._access_timeout_s = config.read_timeout_s

    async def connect(self) -> None:
        """Begin to connect, and stay connected; does not wait for any core."""
        await self.links.connect()

    async def close(self) -> None:
        """Disconnect; calls that still run fail."""
        await self.links.close()

    async def create(self, request: ChatRequest, context: RequestContext) -> bytes:
        """Return a whole answer; see CoreChat."""
        link = self.links.next() or await self._find_link()
        if link is None or request.packed is not None:
            return await self._rpc.create(request, context)
        call = _RelayCall(self, self._start(request, context), context, request)
        call.open(link)
        try:
            await call.end()
        finally:
            call.close()
        return call.answer

    async def stream(self, request: ChatRequest, context: RequestContext) -> ChatStream:
        """Open a streamed answer; see CoreChat."""
        link = self.links.next() or await self._find_link()
        if link is None or request.packed is not None:
            return await self._rpc.stream(request, context)
        call = _RelayCall(self, self._start(request, context), context, request)
        call.open(link)
        return call

    async def _find_link(self) -> Link | None:
        link = await self.links.find()
        if link is None and self.links.are_of_other_versions:
            raise older_core()
        return link

    async def check_access(
        self, context: RequestContext, *, refused_code: str = "", body_follows: bool = False
    ) -> None:
        """Pass the gates of key and rate limit; see `bodies.Access`."""
        link = self.links.next() or await self.links.find()
        if link is None:
            await self._core.check_access(
                context, refused_code=refused_code, body_follows=body_follows
            )
            return
        access = relay_pb2.RelayAccess(
            authorization=dict(context.metadata).get("authorization", ""),
            request_id=context.request_id,
            client_address=context.client_address,
            refused_code=refused_code,
            body_follows=body_follows,
        )
        call = _RelayCall(self, access, context)
        call.open(link)
        try:
            async with asyncio.timeout(self._access_timeout_s):
                await call.end()
        except TimeoutError:
            raise EdgeError(
                "DEPENDENCY_UNAVAILABLE",
                "The gateway's core does not answer. Try again.",
                retry_after_s=1,
                from_core=True,
            ) from None
        finally:
            call.close()

    def _start(self, request: ChatRequest, context: RequestContext) -> relay_pb2.RelayStart:
        start = request.start
        for name, value in context.metadata:
            field = _FIELDS.get(name)
            if field is not None:
                setattr(start, field, value)
        start.request_id = context.request_id
        start.client_address = context.client_address
        start.timeout_ms = self._timeout_ms
        if request.is_stream:
            start.initial_credit = _CREDIT
        return start


class _RelayCall:
    """One call on a link; a ChatStream."""

    id = 0
    _link: Link

    def __init__(
        self,
        relay: RelayChat,
        opening: relay_pb2.RelayStart | relay_pb2.RelayAccess,
        context: RequestContext,
        request: ChatRequest | None = None,
    ) -> None:
        self.on_failed: Callable[[], None] | None = None
        self.answer = b""
        """JSON, if it is a whole one."""
        self._relay = relay
        self._opening = opening
        self._context = context
        self._request = request
        self._held: list[bytes] = []
        self._failure: EdgeError | None = None
        self._ended = False
        self._is_taken = True
        self._waiter: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._give_up_at = 0.0
        self._consumed = 0
        self._consumed_bytes = 0

    def open(self, link: Link) -> None:
        """Give the call to a core."""
        self._link = link
        link.open(self, self._opening)

    async def end(self) -> None:
        """Wait for the end.

        Raises:
            EdgeError: it failed.
        """
        if not self._ended:
            self._waiter = self._link.loop.create_future()
            await self._waiter
        if self._failure is not None:
            if not await self._move():
                raise self._failure
            await self.end()

    async def batch(self, timeout_s: float) -> bytes | None:
        """Return the events that are ready; see ChatStream."""
        # The next request for frames means that the last ones were written: only then is there room for more.
        if self._consumed >= _CREDIT_STEP or self._consumed_bytes >= _CREDIT_STEP_BYTES:
            self._give_credit()
        if not self._held and not self._ended and not await self._wait(timeout_s):
            return None
        held, self._held = self._held, []
        events = held[0] if len(held) == 1 else b"".join(held)
        self._consumed += len(held)
        self._consumed_bytes += len(events)
        if not events and self._failure is not None:
            if await self._move():
                return await self.batch(timeout_s)
            raise self._failure
        return events

    def _give_credit(self) -> None:
        if self._ended:
            return
        credit = relay_pb2.RelayCredit(frames=self._consumed)
        self._link.send(Frame(call_id=self.id, credit=credit))
        self._consumed = self._consumed_bytes = 0

    def close(self) -> None:
        """End the call of the core if it still runs."""
        if self._timer is not None:
            self._timer.cancel()
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
        if kind == "events":
            self._held.append(frame.events)
        elif kind == "native_events":
            assert self._request is not None, "only requests have events"
            self._request.is_native = True
            self._held.append(frame.native_events)
        else:
            if kind == "answer":
                self.answer = frame.answer
            elif kind == "native_answer":
                assert self._request is not None, "only requests have answers"
                self._request.is_native = True
                self.answer = frame.native_answer
            elif kind == "error":
                self._failure = from_error(frame.error)
            self._link.forget(self.id)
            self._ended = True
            if self._failure is not None and self.on_failed is not None:
                self.on_failed()
        self._notify(came=True)

    def fail(self, failure: EdgeError, *, is_taken: bool) -> None:
        """End the call with a failure; see LinkedCall."""
        self._failure = failure
        self._is_taken = is_taken
        self._ended = True
        if is_taken and self.on_failed is not None:
            self.on_failed()
        self._notify(came=True)

    async def _move(self) -> bool:
        """Give a call that failed to another core, if that is safe and there is one; return whether it was."""
        if self._is_taken:
            return False
        link = self._relay.links.next() or await self._relay.links.find()
        if link is None:
            return False
        self._failure = None
        self._is_taken = True
        self._ended = False
        self.open(link)
        return True

    async def _wait(self, timeout_s: float) -> bool:
        loop = self._link.loop
        self._waiter = loop.create_future()
        # One timer for all the waiting of a stream: to start and cancel one for each costs as much as a frame.
        self._give_up_at = loop.time() + timeout_s
        if self._timer is None:
            self._timer = loop.call_later(timeout_s, self._check_time)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _check_time(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        left_s = self._give_up_at - self._link.loop.time()
        if left_s <= 0:
            self._notify()
        else:
            self._timer = self._link.loop.call_later(left_s, self._check_time)

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
        headers[b"server-timing"] = _TIMING % (
            *divmod((timing.queue_us + 50) // 100, 10),
            *divmod((timing.upstream_us + 50) // 100, 10),
            *divmod((timing.first_token_us + 50) // 100, 10),
            *divmod((timing.gateway_us + 50) // 100, 10),
        )
