"""The record of a request: one for every outcome, with one row per attempt."""

from __future__ import annotations

from typing import Literal

import msgspec

from maniac_core.domain.budgets import Hold
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage

Status = Literal[
    "completed", "failed", "cancelled", "truncated", "rejected", "registered", "unknown"
]
"""`unknown`: the core died while a provider was called."""
UsageSource = Literal["none", "provider", "estimated", "caller"]
Outcome = Literal["ok", "failed", "timeout", "truncated", "cancelled", "skipped"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a provider."""

    number: int
    """0 for the first."""
    provider: str
    model: str
    """The provider's own name of the model."""
    started_us: int
    """Unix microseconds."""
    latency_us: int
    time_to_first_token_us: int | None
    outcome: Outcome
    http_status: int | None
    error_reason: str | None
    """Name of an ErrorReason without its prefix."""
    error_message: str | None
    usage: Usage | None
    spend_nano_usd: int | None


class KeyClaim(msgspec.Struct, frozen=True, kw_only=True):
    """The claim that a request has on an Idempotency-Key of its project."""

    key: str
    owner: str
    """Id of the claim: another request may have taken the key over."""
    until: int
    """Unix seconds. How long the key stands for the request once that is completed."""


class CompletionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is kept of one request."""

    id: str
    caller: Caller
    created: int
    """Unix seconds."""
    request_id: str
    status: Status
    store: bool
    """False: numbers only, neither listed nor retrievable."""
    streamed: bool
    requested_model: str
    model: str | None
    """Slug that served it; of a failed request, the last that was tried."""
    provider: str | None
    model_id: str | None = None
    container: int | None = None
    """The storage's key of the container."""
    container_label: str | None = None
    finish_reason: str | None
    error_reason: str | None = None
    error_message: str | None = None
    usage: Usage
    usage_source: UsageSource
    spend_nano_usd: int | None
    """None: unknown price."""
    time_to_first_token_us: int | None
    latency_us: int
    tags: tuple[str, ...] = ()
    metadata: bytes | None = None
    """A JSON object."""
    trace: Trace | None = None
    content_hash: bytes | None = None
    """Of the input and the output before they were encrypted; None: they are as they came."""
    input: bytes | None = None
    """The request as JSON: `{"messages": […], …parameters}` after merging. None when store is false."""
    output: bytes | None = None
    """The answer's choices, a JSON array. None when store is false or nothing came."""
    route: bytes | None = None
    """How it was routed, a JSON object: candidates, dropped parameters, prices; on other wires than chat also the wire,
    the client's own request, and the answer as its provider made it, where it went on as it was."""
    attempts: tuple[Attempt, ...] = ()
    charge_nano_usd: int | None = None
    """The charge to budgets if an amount was reserved. None: an earlier version spooled the record."""
    holds: tuple[Hold, ...] = ()
    """The reservations from budgets that this record releases."""
    claim: KeyClaim | None = None
    """Of a completed request: what makes this record the answer of its key."""
    replay_of: str | None = None
    """Id of the completion whose request this one sent once more."""

    @property
    def is_listed(self) -> bool:
        """Whether the record shows in lists: its content is stored and a provider was called."""
        return self.store and self.status != "rejected"


class StoredCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A captured completion as it is read back."""

    id: str
    created: int
    status: Status
    model: str | None
    provider: str | None
    container_label: str | None
    model_id: str | None
    finish_reason: str | None
    usage: Usage
    usage_source: UsageSource
    spend_nano_usd: int | None
    time_to_first_token_us: int | None
    latency_us: int
    tags: tuple[str, ...]
    metadata: bytes | None
    trace: Trace | None
    output: bytes | None
    """The answer's choices, a JSON array."""
    error_reason: str | None = None
    """Name of an ErrorReason without its prefix."""
    error_message: str | None = None
    """The message that the caller received. None: no error, or content was not stored."""
    replay_of: str | None = None
    """Id of the completion that this one sent once more."""
    unreadable: tuple[str, ...] = ()
    """Parts that do not have their shape and are left out: choices, metadata, tags, trace, usage."""


class StoredInput(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's request, as it is read back."""

    requested_model: str
    streamed: bool
    body: bytes | None
    """The request as JSON, after merging."""
    route: bytes | None
    """How it was routed, a JSON object."""


class CompletionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects captured completions; all set fields must match."""

    model: str | None = None
    """A normalised slug."""
    container: int | None = None
    metadata: tuple[tuple[str, bytes], ...] = ()
    """Keys and their values as canonical JSON."""
