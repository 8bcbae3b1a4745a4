"""The trail of a request: what was tried, in order, how it ended and what it cost."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Protocol

import msgspec

from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import Attempt, CompletionRecord, Outcome, UsageSource
from maniac_core.domain.errors import GatewayError, Reason, mapping_of
from maniac_core.domain.ids import now_us
from maniac_core.providers.base import UpstreamFailure
from maniac_core.services.routing.planner import Step

_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of an attempt."""

    usage: Usage
    source: UsageSource
    spend_nano_usd: int | None
    """None: unknown price."""


class Spans(Protocol):
    """The trace of one completion, where traces are exported."""

    def begin(self, step: Step) -> None:
        """An attempt starts."""

    def end(self, attempt: Attempt) -> None:
        """The running attempt is over."""

    def finish(self, record: CompletionRecord, kept: asyncio.Future[None]) -> None:
        """The completion is over; `kept` is done when its record is."""


class Trail:
    """The steps tried for one request, in order."""

    def __init__(self, spans: Spans | None = None) -> None:
        self._spans = spans
        self.attempts: list[Attempt] = []
        self.step: Step | None = None
        """The step that was tried last; one that was only skipped if there is no other."""
        self.upstream_us = 0
        """Time spent on attempts that are over, and on pauses between them."""
        self.is_open = False
        """Whether an attempt is running."""
        self.was_sent = False
        """Whether anything of the running attempt's request was sent."""
        self.was_called = False
        """Whether any provider was called."""
        self.charge_nano_usd = 0
        """The charge to budgets for the attempts that are over."""
        self._bill: Bill | None = None
        self._worst_nano_usd = 0
        """The reservation for what that bills."""
        self._bills: list[Bill] = []
        self._started_us = 0
        self._started = 0.0
        self._sent = 0.0
        self._first_token_us: int | None = None

    def begin(self, step: Step) -> None:
        """An attempt starts."""
        self.step = step
        self._bill = None
        self._started_us = now_us()
        self._started = time.perf_counter()
        self._first_token_us = None
        self.is_open = True
        self.was_sent = False
        if self._spans is not None:
            self._spans.begin(step)

    def sent(self) -> None:
        """The running attempt's request begins to be sent."""
        self.was_sent = True
        self._sent = time.perf_counter()

    @property
    def since_sent_s(self) -> float:
        """Seconds since then; only where anything was sent."""
        return time.perf_counter() - self._sent

    def first_content(self, now: float) -> None:
        """The running attempt produced its first content, at `now` by `time.perf_counter`."""
        self._first_token_us = int((now - self._started) * 1e6)

    def bill(self, bill: Bill, worst_nano_usd: int) -> None:
        """The running attempt costs that; `worst_nano_usd` is reserved for it."""
        self._bill = bill
        self._worst_nano_usd = worst_nano_usd

    def abandon(self) -> None:
        """The attempt that was begun is not made: nothing was sent, and nothing is recorded."""
        self.is_open = False

    def end(self, outcome: Outcome, failure: UpstreamFailure | GatewayError | None = None) -> None:
        """The running attempt is over. Does nothing when there is none."""
        if not self.is_open or self.step is None:
            return
        self.is_open = False
        self.was_called = True
        latency_us = int((time.perf_counter() - self._started) * 1e6)
        self.upstream_us += latency_us
        attempt = self._add(self.step, outcome, failure, latency_us)
        if self._spans is not None:
            self._spans.end(attempt)

    def skip(self, step: Step, reason: UpstreamFailure | GatewayError) -> None:
        """A step was skipped, or cannot express the request; nothing was sent."""
        self.is_open = False
        self._bill = None
        self._first_token_us = None
        self._started_us = now_us()
        if not self.was_called:
            self.step = step
        self._add(step, "skipped", reason, 0)

    def waited(self, seconds: float) -> None:
        """A pause between two attempts is over."""
        self.upstream_us += int(seconds * 1e6)

    def total(self) -> tuple[Usage, UsageSource]:
        """Return the usage of all attempts together, for a request that none of them answered."""
        if not self._bills:
            return Usage(), "none"
        if len(self._bills) == 1:
            return self._bills[0].usage, self._bills[0].source
        usages = [bill.usage for bill in self._bills]
        counts = {name: sum(getattr(usage, name) for usage in usages) for name in _COUNTS}
        is_estimated = any(bill.source == "estimated" for bill in self._bills)
        return Usage(**counts), "estimated" if is_estimated else "provider"

    def spend_nano_usd(self) -> int | None:
        """Return what all attempts cost; None when the price of one is unknown, and when there was nothing to pay."""
        spends = [bill.spend_nano_usd for bill in self._bills if bill.spend_nano_usd is not None]
        return sum(spends) if spends and len(spends) == len(self._bills) else None

    def _add(
        self,
        step: Step,
        outcome: Outcome,
        failure: UpstreamFailure | GatewayError | None,
        latency_us: int,
    ) -> Attempt:
        bill = self._bill
        if bill is not None:
            self._bills.append(bill)
            self.charge_nano_usd += self._charge(bill)
        http_status = 200 if outcome == "ok" else None
        if isinstance(failure, UpstreamFailure):
            http_status = failure.http_status
        attempt = Attempt(
            number=len(self.attempts),
            provider=step.candidate.provider,
            model=step.candidate.model,
            started_us=self._started_us,
            latency_us=latency_us,
            time_to_first_token_us=self._first_token_us,
            outcome=outcome,
            http_status=http_status,
            error_reason=reason_name(failure.reason) if failure else None,
            error_message=failure.message if failure else None,
            usage=bill.usage if bill else None,
            spend_nano_usd=bill.spend_nano_usd if bill else None,
        )
        self.attempts.append(attempt)
        return attempt

    def _charge(self, bill: Bill) -> int:
        if bill.spend_nano_usd is not None:
            return bill.spend_nano_usd
        # Nobody knows what it cost: at most what was reserved for it, which is nothing where no price is needed.
        return self._worst_nano_usd if bill.usage.total_tokens else 0


def reason_name(reason: Reason.ValueType) -> str:
    """Return a reason's name without its prefix."""
    return Reason.Name(reason).removeprefix("ERROR_REASON_")


@functools.cache
def error_code(name: str | None) -> str:
    """Return the `error.code` that callers see for a reason's name without its prefix; "" for none."""
    return mapping_of(Reason.Value(f"ERROR_REASON_{name}")).code if name else ""
