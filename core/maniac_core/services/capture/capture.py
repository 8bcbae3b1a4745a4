"""Capture: makes the one record of a request, whatever its outcome, and waits until it is durable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import ChatRequest, Choice, Usage
from maniac_core.domain.completions import CompletionRecord, KeyClaim, Status, UsageSource
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import completion_id, now_s
from maniac_core.providers.pricing.prices import Prices
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.services.capture.attempt_log import Bill, Spans, Trail, reason_name
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


class Note(Protocol):
    """The note about a running call, as its capture sees it."""

    @property
    def offset(self) -> int:
        """In the file of notes."""

    def settled(self, pending: asyncio.Future[None]) -> None:
        """`pending` is done: the record is durable, or it is lost."""


class Call(msgspec.Struct, kw_only=True):
    """One admitted request, and what its answer's head will say.

    Its methods are the only place where it changes.
    """

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
    """Spent on providers, as far as it is known: until the answer is whole, from the first call to the first content."""

    @property
    def forwarded(self) -> dict[str, str]:
        """The headers that say something of the request, and not of the hop."""
        return {name: value for name, value in self.headers.items() if name != "traceparent"}

    def elapsed_us(self) -> int:
        """Microseconds since the request was received."""
        return int((time.perf_counter() - self.received) * 1e6)

    def gateway_us(self) -> int:
        """Microseconds of these that were not spent on providers."""
        return max(0, self.elapsed_us() - self.upstream_us)

    def add_headers(self, headers: dict[str, str]) -> None:
        """Forward these too, unless the caller has sent some of them itself."""
        self.headers = {**headers, **self.headers}

    def found_large(self) -> None:
        """Its request is large."""
        self.is_large = True

    def captured(self) -> None:
        """There will be a record of it."""
        self.is_captured = True

    def planned(self, dropped: Sequence[str]) -> None:
        """It is known where it may go, and that these parameters will not be sent."""
        self.dropped = list(dropped)

    def let_through(self) -> None:
        """The first provider is called from now on."""
        self.queue_us = self.elapsed_us()

    def read_within(self, seconds: float) -> None:
        """Its provider may take so long from now on."""
        self.read_by = time.monotonic() + seconds

    def first_content(self, now: float, dropped: Sequence[str]) -> None:
        """There is content, at `now` by `time.perf_counter`, of an answer to a request without these parameters too."""
        self.first_token_us = int((now - self.received) * 1e6)
        self.upstream_us = self.first_token_us - self.queue_us
        self.dropped += dropped

    def whole(self, upstream_us: int) -> None:
        """The answer is whole, and took that long of providers, with attempts that failed and pauses."""
        # Too short to be measured: what was known before holds.
        self.upstream_us = upstream_us or self.upstream_us


class Capture:
    """The state of one running request; `finish` turns it into its record, once.

    Whoever works on the request returns what it found; the methods here are the only place where that is noted.
    """

    def __init__(
        self,
        store: Recorder,
        call: Call,
        request: ChatRequest,
        *,
        streamed: bool,
        claim: Claim | None = None,
        spans: Spans | None = None,
    ) -> None:
        """`claim`: on the key of the request, if it has one. `spans`: None: no trace is made of it."""
        self.id = completion_id(request.wire)
        self.created = now_s()
        self.call = call
        call.captured()
        self.request = request
        self.trail = Trail(spans)
        self.steps: list[Step] = []
        self.folded = Accumulator()
        """The received part of the running attempt's answer, if it is streamed."""
        self.holds: Holds | None = None
        """Reservations from budgets."""
        self.note: Note | None = None
        """About the running call."""
        self.streamed = streamed
        self._claim = claim
        self._spans = spans
        self._prices: Prices | None = None
        """By which the last attempt was billed."""
        self._tokens: TokenHold | None = None
        """Reservations from windows of tokens."""
        self._native: bytes | None = None
        self._store = store
        self._is_recorded = False

    def planned(self, steps: list[Step]) -> None:
        """These steps may be tried, of which there is one at least."""
        self.steps = steps
        self.call.planned(steps[0].dropped)

    def admitted(self, tokens: TokenHold) -> None:
        """Tokens are reserved; they are settled with the record."""
        self._tokens = tokens

    def covered(self, holds: Holds) -> None:
        """The next attempt's cost is reserved; the record takes the reservations over."""
        self.holds = holds

    def noted(self, note: Note) -> None:
        """The next attempt is noted, until the record is durable."""
        self.note = note

    def fold(self) -> Accumulator:
        """Begin to receive the answer of the running attempt, in pieces that go where this returns."""
        self.folded = Accumulator()
        return self.folded

    def first_content(self, dropped: Sequence[str]) -> None:
        """The running attempt has content for the caller; `dropped`: the parameters that its dialect left out."""
        now = time.perf_counter()
        if self.streamed:
            self.trail.first_content(now)
        self.call.first_content(now, dropped)

    def bill(self, bill: Bill, prices: Prices | None) -> None:
        """The running attempt costs that, by these prices."""
        self._prices = prices
        self.trail.bill(bill, self.holds.worst_nano_usd if self.holds is not None else 0)

    async def finish(
        self,
        status: Status,
        *,
        choices: list[Choice] | None = None,
        usage: Usage | None = None,
        usage_source: UsageSource = "none",
        error: GatewayError | None = None,
        native: bytes | None = None,
    ) -> None:
        """Record the request and wait for the commit.

        `native`: the answer as its provider made it, if it is passed on so.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE when the record could not be committed; CONFLICT when it was, and a
                repetition has taken over its idempotency key.
        """
        pending = self.submit(
            status,
            choices=choices,
            usage=usage,
            usage_source=usage_source,
            error=error,
            native=native,
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
        native: bytes | None = None,
    ) -> asyncio.Future[None] | None:
        """Hand the record to the writer without waiting; None when there is one already."""
        if self._is_recorded:
            return None
        self._is_recorded = True
        self._native = native
        record = self._record(status, choices, usage or Usage(), usage_source, error)
        if self._tokens is not None:
            self._tokens.settle(record.usage.total_tokens)
        pending = self._store.capture(record)
        if self.note is not None:
            pending.add_done_callback(self.note.settled)
        pending.add_done_callback(_log_lost)
        if self._claim is not None and status == "completed":
            self._claim.answered(record, choices or [], pending)
        if self._spans is not None:
            self._spans.finish(record, pending)
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
            claim=self._claim.given if self._claim is not None and status == "completed" else None,
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
            "prices": self._prices.usd_json if self._prices is not None else None,
        }
        request = self.request
        if request.wire != "chat":
            route["wire"] = request.wire
        if request.store:
            if request.native is not None:
                route["native_request"] = request.native.body
            if self._native is not None:
                kind = "native_events" if self.streamed else "native_answer"
                route[kind] = self._native.decode(errors="replace")
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
