"""Link: the stream of one edge worker, and the calls that run on it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque

from maniac_gateway.v1 import relay_pb2

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.errors import unexpected
from maniac_core.rpc.boundary.scopes import insufficient_scope
from maniac_core.rpc.relay.frames import (
    MAX_REQUEST_FRAMES,
    Asked,
    Frame,
    RequestReader,
    call_id_used_twice,
    draining,
    error_to_proto,
    fill_head,
    fill_rate,
    too_many_calls,
    too_many_frames,
)
from maniac_core.rpc.relay.outlets import Outlet
from maniac_core.services.capture.capture import Call
from maniac_core.services.chat.idempotency import IdempotentCompletions

# What one slow reader may leave unread at its edge, whatever the size of frames.
_MAX_UNREAD_BYTES = 512 * 1024
# In one message, whose size is limited.
_MAX_FRAMES = 64
# While so many calls run, a message waits this long for more frames, since each message has a cost of its own.
_MANY_CALLS = 16
# An edge has far fewer calls than this.
_MAX_CALLS = 20_000
_GATHER_S = 0.001
# A stream that has not begun by then tells the rate limit ahead: the edge may send its first bytes, a comment, before
# there is any chunk. Most streams begin earlier, and save the frame.
_ANNOUNCE_AFTER_S = 0.2


class Link:
    """One stream: its running calls and the frames that wait to be sent."""

    def __init__(
        self,
        gate: Gate,
        completions: IdempotentCompletions,
        reader: RequestReader,
        outlet: Outlet,
    ) -> None:
        self._gate = gate
        self._completions = completions
        self._reader = reader
        self._outlet = outlet
        # Kept, because asking for it costs a system call each time.
        self.loop = asyncio.get_running_loop()
        self._calls: dict[int, RelayCall] = {}
        self._frames: list[Frame] = []
        self._is_scheduled = False
        self._is_draining = False
        self._told_draining = False
        self._is_closed = False
        self._refusal: GatewayError | None = None

    def receive(self, message: relay_pb2.RelayRequest) -> None:
        """Handle the edge's frames.

        Raises:
            GatewayError: this is nothing that an edge sends.
        """
        if self._is_closed:
            return
        if len(message.frames) > MAX_REQUEST_FRAMES:
            raise too_many_frames()
        for frame in message.frames:
            self._handle(frame)

    def close(self, refusal: GatewayError | None = None) -> None:
        """End the stream when the frames that wait are sent: the edge has closed its side, or is refused.

        Only so a stream ends that drains: the edge alone knows that no call is on its way any more.
        """
        if not self._is_closed:
            self._is_closed = True
            self._refusal = refusal
            self._schedule()

    def send(self, frame: Frame) -> None:
        """Queue a frame."""
        self._frames.append(frame)
        self._schedule()

    def resume(self) -> None:
        """There is room for frames again."""
        if not self._is_scheduled:
            self._flush()

    def _schedule(self) -> None:
        if self._is_scheduled:
            return
        self._is_scheduled = True
        # All frames of one turn of the loop go together, and under load those of a little more.
        if len(self._calls) >= _MANY_CALLS:
            self.loop.call_later(_GATHER_S, self._flush)
        else:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        outlet = self._outlet
        while self._frames or self._is_draining is not self._told_draining:
            if not outlet.is_ready:
                break
            frames, self._frames = self._frames[:_MAX_FRAMES], self._frames[_MAX_FRAMES:]
            self._told_draining = self._is_draining
            outlet.send(relay_pb2.RelayResponse(frames=frames, draining=self._is_draining))
        else:
            if self._is_closed:
                outlet.end(self._refusal)
        outlet.flush()

    def drain(self) -> None:
        """Take no new calls."""
        self._is_draining = True
        self._schedule()

    def cancel_all(self) -> None:
        """Nobody reads any more: stop what runs."""
        for call in list(self._calls.values()):
            call.task.cancel()

    def _handle(self, frame: relay_pb2.RelayRequestFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind in {"start", "access"}:
            if self._is_draining or len(self._calls) >= _MAX_CALLS:
                refusal = error_to_proto(draining() if self._is_draining else too_many_calls())
                self.send(Frame(call_id=frame.call_id, error=refusal, not_taken=True))
                return
            if frame.call_id in self._calls:
                raise call_id_used_twice()
            relay_call = RelayCall(self, frame.call_id, frame.start.initial_credit)
            self._calls[frame.call_id] = relay_call
            relay_call.task = self.loop.create_task(
                self._run(relay_call, frame.start)
                if kind == "start"
                else self._check_access(relay_call, frame.access)
            )
            # Not a `finally` of the task: one that is cancelled before its first step never gets there.
            relay_call.task.add_done_callback(functools.partial(self._ended, frame.call_id))
            return
        running = self._calls.get(frame.call_id)
        if running is None:
            # Ended while the frame was on its way.
            return
        if kind == "cancel":
            running.task.cancel()
        elif kind == "credit":
            running.give(frame.credit.frames)

    async def _run(self, relay_call: RelayCall, start: relay_pb2.RelayStart) -> None:
        head = relay_pb2.RelayHead()
        call: Call | None = None
        try:
            call = await self._admit(start, head)
            asked = await self._reader.read(call, start)
            if start.stream:
                await self._stream(relay_call, call, asked, head)
            else:
                completion = await self._completions.create(call, asked.request)
                fill_head(head, call)
                frame = Frame(call_id=relay_call.id, head=head)
                asked.answer(frame, completion)
                self.send(frame)
        except GatewayError as error:
            if call is not None:
                self._gate.refused(call, error)
            self.send(
                Frame(
                    call_id=relay_call.id,
                    head=None if relay_call.has_begun else head,
                    error=error_to_proto(error),
                )
            )
        except asyncio.CancelledError:
            # The edge asked for it, or is gone.
            pass
        except Exception as error:  # noqa: BLE001 - the boundary: logged and returned as INTERNAL
            self.send(Frame(call_id=relay_call.id, error=error_to_proto(unexpected(error))))

    async def _check_access(self, relay_call: RelayCall, access: relay_pb2.RelayAccess) -> None:
        head = relay_pb2.RelayHead()
        answer = Frame(call_id=relay_call.id, end=relay_pb2.RelayEnd())
        metadata = {"authorization": access.authorization} if access.authorization else {}
        metadata["x-request-id"] = access.request_id
        try:
            call = await self._gate.admit_headers(
                metadata,
                address=access.client_address,
                via_edge=True,
                deadline=None,
                announce=lambda rate: fill_rate(head, rate),
                counts=not access.body_follows,
            )
            self._gate.refused_by_edge(call, access.refused_code)
        except GatewayError as error:
            answer = Frame(call_id=relay_call.id, error=error_to_proto(error))
        except Exception as error:  # noqa: BLE001 - the boundary, as above
            answer = Frame(call_id=relay_call.id, error=error_to_proto(unexpected(error)))
        answer.head.CopyFrom(head)
        self.send(answer)

    def _ended(self, call_id: int, _task: asyncio.Task[None]) -> None:
        del self._calls[call_id]

    async def _admit(self, start: relay_pb2.RelayStart, head: relay_pb2.RelayHead) -> Call:
        given = {
            "authorization": start.authorization,
            "x-request-id": start.request_id,
            "traceparent": start.traceparent,
            "idempotency-key": start.idempotency_key,
            "anthropic-beta": start.anthropic_beta,
        }
        metadata = {key: value for key, value in given.items() if value}
        deadline = time.monotonic() + start.timeout_ms / 1000 if start.timeout_ms else None
        call = await self._gate.admit_headers(
            metadata,
            address=start.client_address,
            via_edge=True,
            deadline=deadline,
            announce=lambda rate: fill_rate(head, rate),
        )
        if "inference" not in call.caller.scopes:
            raise insufficient_scope("inference")
        return call

    async def _stream(
        self, relay_call: RelayCall, call: Call, asked: Asked, head: relay_pb2.RelayHead
    ) -> None:
        batches = self._completions.stream(call, asked.request)
        ahead = self.loop.call_later(
            _ANNOUNCE_AFTER_S, self.send, Frame(call_id=relay_call.id, head=head)
        )
        try:
            async for batch in batches:
                ahead.cancel()
                if not relay_call.may_send:
                    await relay_call.wait_for_credit(call.read_by or call.deadline)
                frame = Frame(call_id=relay_call.id)
                size = asked.events(frame, batch)
                if not relay_call.has_begun:
                    relay_call.has_begun = True
                    fill_head(head, call)
                    frame.head.CopyFrom(head)
                relay_call.note_sent(size)
                self.send(frame)
        finally:
            ahead.cancel()
            await batches.aclose()
        self.send(Frame(call_id=relay_call.id, end=relay_pb2.RelayEnd()))


class RelayCall:
    """One running call."""

    task: asyncio.Task[None]

    def __init__(self, link: Link, call_id: int, credit: int) -> None:
        self.id = call_id
        self.credit = credit
        self.has_begun = False
        self._link = link
        self._waiter: asyncio.Future[None] | None = None
        self._unread: deque[int] = deque()
        self._unread_bytes = 0

    @property
    def may_send(self) -> bool:
        """Whether the reader has room: for another frame, and for more bytes."""
        return self.credit > 0 and self._unread_bytes < _MAX_UNREAD_BYTES

    def note_sent(self, size: int) -> None:
        """A frame of so many bytes is on its way."""
        self.credit -= 1
        self._unread.append(size)
        self._unread_bytes += size

    def give(self, frames: int) -> None:
        """The reader has taken so many frames, in order."""
        self.credit += frames
        for _ in range(min(frames, len(self._unread))):
            self._unread_bytes -= self._unread.popleft()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait_for_credit(self, deadline: float | None) -> None:
        """Wait until the reader has room; meanwhile nothing is read from the provider.

        `deadline` is monotonic seconds.

        Raises:
            GatewayError: UPSTREAM_TIMEOUT: the reader took too long, and the provider is let go.
        """
        timeout_s = None if deadline is None else deadline - time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                while not self.may_send:
                    self._waiter = self._link.loop.create_future()
                    await self._waiter
        except TimeoutError:
            raise GatewayError(
                Reason.ERROR_REASON_UPSTREAM_TIMEOUT, "The answer was not read in time."
            ) from None
        self._waiter = None
