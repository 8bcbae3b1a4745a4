"""External traces: what the `trace` contexts of requests add up to."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import Status


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """All requests of one external trace, summed up. Times are Unix seconds."""

    id: str
    name: str | None
    """The last that was sent; the same for source."""
    source: str | None
    first_seen: int
    last_seen: int
    requests: int
    successes: int
    errors: int
    """Without those that the caller cancelled, which are in neither count."""
    containers: int
    spend_nano_usd: int
    """Sum over the requests whose price is known."""


class TraceSpan(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one span, each of them an attempt. Times are Unix seconds."""

    span_id: str | None
    """None: the requests that named no span."""
    parent_span_id: str | None
    """The last that was sent."""
    first_seen: int
    last_seen: int
    attempts: int
    completion_ids: tuple[str, ...]
    """The last ones, in the order of their requests."""
    latest_status: Status
    containers: int


class TraceDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One external trace with its spans."""

    summary: TraceSummary
    latest_context: Trace | None
    """As it was sent last. None: the ledger no longer has a request of it."""
    spans: tuple[TraceSpan, ...]
    """By the time they were first seen, ascending."""
