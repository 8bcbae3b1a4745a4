"""Capture: makes the one record of a request, whatever its outcome, and waits until it is durable."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import ChatRequest, Choice, Usage
from maniac_core.domain.completions import CompletionRecord, KeyClaim, Status, UsageSource
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import completion_id, now_s
from maniac_core.providers.pricing.prices import Prices
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.services.capture.attempt_log import Spans, Trail, reason_name
from maniac_core.services.capture.holds import Holds
from maniac_core.services.capture.spool import Recorder
from maniac_core.services.limits.rate_limiter import RateState, TokenHold
from maniac_core.services.routing.planner import Step
from maniac_core.storage.base import ClaimLostError, StorageError

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Claim(Protocol):
    """The claim on the key of a request, as its capture sees it."""

    @property
    def given(self) -> KeyClaim | None:
        """The claim for the record; None: the key could not be claimed, and the request ran without it."""

    def answered(
        self, record: CompletionRecord, choices: list[Choice], pending: asyncio.Future[None]
    ) -> None:
        """The request is completed; `pending` is done once its record is durable."""


class Place(Protocol):
    """Where a running call is noted, as its capture sees it."""

    @property
    def offset(self) -> int:
        """In the file of notes."""

    def settled(self, pending: asyncio.Future[None]) -> None:
        """`pending` is done: the record is durable, or it is lost."""


class Call(msgspec.Struct, kw_only=True):
    """One admitted request, and what its answer's head will say."""

    caller: Caller
    request_id: str
    deadline: float | None = None
    """Monotonic seconds. None: no limit but the providers' own."""
    read_by: float | None = None
    """Monotonic seconds until which a stream has to be read: its provider may take no longer either."""
    headers: dict[str, str] = {}
    """Headers that a dialect may forward, lower-case."""
    idempotency_key: str | None = None
    """Requests of a project under one key are done once."""
    claim: Claim | None = None
    """On that key."""
    is_large: bool = False
    """Whether work on its request is to be done in turns."""
    is_captured: bool = False
    """Whether there will be a record of it."""
    rate: RateState | None = None
    dropped: list[str] = []
    """Parameters that were accepted but not sent."""
    received: float = msgspec.field(default_factory=time.perf_counter)
    queue_us: int = 0
    """From receipt until the first provider was called."""
    first_token_us: int | None = None
    """From receipt until the first content."""
    upstream_us: int = 0
    """Spent on providers so far."""
    spans: Spans | None = None
    """None: no trace is made of it."""

    @property
    def forwarded(self) -> dict[str, str]:
        """The headers that say something of the request, and not of the hop."""
        return {name: value for name, value in self.headers.items() if name != "traceparent"}

    def elapsed_us(self) -> int:
        """Microseconds since the request was received."""
        return int((time.perf_counter() - self.received) * 1e6)


class Capture:
    """The state of one running request; `finish` turns it into its record, once."""

    def __init__(
        self, store: Recorder, call: Call, request: ChatRequest, *, streamed: bool
    ) -> None:
        self.id = completion_id(request.wire)
        self.created = now_s()
        self.call = call
        call.is_captured = True
        self.request = request
        self.trail = Trail(call.spans)
        self.steps: list[Step] = []
        self.folded = Accumulator()
        """The received part of the running attempt's answer, if it is streamed."""
        self.prices: Prices | None = None
        """By which the last attempt was billed."""
        self.holds: Holds | None = None
        """Reservations from budgets."""
        self.tokens: TokenHold | None = None
        """Reservations from windows of tokens."""
        self.streamed = streamed
        self.native: bytes | None = None
        """The answer as its provider made it, if it is passed on so."""
        self.place: Place | None = None
        """Where the running call is noted."""
        self._store = store
        self._is_recorded = False

    async def finish(
        self,
        status: Status,
        *,
        choices: list[Choice] | None = None,
        usage: Usage | None = None,
        usage_source: UsageSource = "none",
        error: GatewayError | None = None,
    ) -> None:
        """Record the request and wait for the commit.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE when the record could not be committed; CONFLICT when it was, and a
                repetition has taken over its idempotency key.
        """
        pending = self.submit(
            status, choices=choices, usage=usage, usage_source=usage_source, error=error
        )
        if pending is None:
            return
        try:
            await _until_done(pending)
        except ClaimLostError as err:
            raise GatewayError(
                Reason.ERROR_REASON_CONFLICT,
                "This request was delayed, and a repetition has taken over its Idempotency-Key; use the answer of the repetition.",
            ) from err
        except StorageError as err:
            raise GatewayError(
                Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
                "The completion could not be stored and was not returned. Try again shortly.",
                retry_after_s=1,
            ) from err

    def submit(
        self,
        status: Status,
        *,
        choices: list[Choice] | None = None,
        usage: Usage | None = None,
        usage_source: UsageSource = "none",
        error: GatewayError | None = None,
    ) -> asyncio.Future[None] | None:
        """Hand the record to the writer without waiting; None when there is one already."""
        if self._is_recorded:
            return None
        self._is_recorded = True
        record = self._record(status, choices, usage or Usage(), usage_source, error)
        if self.tokens is not None:
            self.tokens.settle(record.usage.total_tokens)
        pending = self._store.capture(record)
        if self.place is not None:
            pending.add_done_callback(self.place.settled)
        pending.add_done_callback(_log_lost)
        if self.call.claim is not None and status == "completed":
            self.call.claim.answered(record, choices or [], pending)
        if self.call.spans is not None:
            self.call.spans.finish(record, pending)
        return pending

    def _record(
        self,
        status: Status,
        choices: list[Choice] | None,
        usage: Usage,
        usage_source: UsageSource,
        error: GatewayError | None,
    ) -> CompletionRecord:
        request, call, step = self.request, self.call, self.trail.step
        store = request.store
        finish_reason = choices[0].finish_reason if choices else None
        if status == "failed":
            finish_reason = "error"
        return CompletionRecord(
            id=self.id,
            caller=call.caller,
            created=self.created,
            request_id=call.request_id,
            status=status,
            store=store,
            streamed=self.streamed,
            requested_model=request.model or next(iter(request.fallbacks), ""),
            model=step.candidate.slug if step else None,
            provider=step.candidate.provider if step else None,
            model_id=step.candidate.model_id if step else None,
            container=step.container.key if step and step.container else None,
            container_label=step.container.label if step and step.container else None,
            finish_reason=finish_reason,
            error_reason=reason_name(error.reason) if error else None,
            error_message=error.message if error and store else None,
            usage=usage,
            usage_source=usage_source,
            spend_nano_usd=self.trail.spend_nano_usd(),
            time_to_first_token_us=call.first_token_us,
            latency_us=call.elapsed_us(),
            tags=request.tags if store else (),
            metadata=bytes(request.metadata) if store and request.metadata is not None else None,
            trace=request.trace,
            input=self._input(step) if store else None,
            output=_encode(choices_json(choices)) if store and choices else None,
            route=self._route(step) if self.steps else None,
            attempts=tuple(self.trail.attempts)
            if store
            else tuple(
                msgspec.structs.replace(attempt, error_message=None)
                for attempt in self.trail.attempts
            ),
            charge_nano_usd=self.trail.charge_nano_usd,
            holds=self.holds.close() if self.holds is not None else (),
            claim=call.claim.given if call.claim is not None and status == "completed" else None,
            replay_of=request.replay.of if request.replay is not None else None,
        )

    def _input(self, step: Step | None) -> bytes:
        if step is None:
            return _encode({"messages": self.request.messages, **self.request.parameters})
        return _encode({"messages": step.prompt.messages, **step.prompt.parameters})

    def _route(self, last: Step | None) -> bytes:
        route: dict[str, Any] = {
            "candidates": [step.candidate.slug for step in self.steps],
            "dropped": self.call.dropped,
            "prices": self.prices.usd_json if self.prices is not None else None,
        }
        request = self.request
        if request.wire != "chat":
            route["wire"] = request.wire
        if request.store:
            if request.native is not None:
                route["native_request"] = request.native.body
            if self.native is not None:
                kind = "native_events" if self.streamed else "native_answer"
                route[kind] = self.native.decode(errors="replace")
            # The rest that is needed to send the request again.
            if request.stream_options is not None:
                route["stream_options"] = request.stream_options
            if forwarded := self.call.forwarded:
                route["headers"] = forwarded
            if last is not None and last.added is not None:
                route["added"] = last.added
        return _encode(route)


async def _until_done(pending: asyncio.Future[None]) -> None:
    """Wait for a record, which is committed even when the caller stops waiting for it; raises what it does."""
    if not pending.done():
        waiter: asyncio.Future[None] = pending.get_loop().create_future()

        def wake(_: asyncio.Future[None]) -> None:
            if not waiter.done():
                waiter.set_result(None)

        pending.add_done_callback(wake)
        await waiter
    pending.result()


def choices_json(choices: list[Choice]) -> list[dict[str, Any]]:
    """Return the form in which an answer is stored."""
    return [
        {
            "index": choice.index,
            "message": choice.message,
            "finish_reason": choice.finish_reason,
            "logprobs": None,
        }
        for choice in choices
    ]


def _log_lost(pending: asyncio.Future[None]) -> None:
    error = None if pending.cancelled() else pending.exception()
    if isinstance(error, ClaimLostError):
        _log.warning("a request was held up for so long that a repetition took its idempotency key")
    elif error is not None:
        _log.error("a record could not be committed: %s", error)
