"""The head of an answer: what its initial metadata says."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from maniac_core.services.capture.capture import Call
from maniac_core.services.limits.rate_limiter import RateState

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Metadata = tuple[tuple[str, str], ...]


def rate_metadata(state: RateState) -> Metadata:
    """Return a window as metadata."""
    return (
        ("x-ratelimit-limit", str(state.limit)),
        ("x-ratelimit-remaining", str(state.remaining)),
        ("x-ratelimit-reset", str(state.reset)),
    )


def head_metadata(call: Call) -> Metadata:
    """Return what an answer's initial metadata says."""
    metadata: Metadata = (("x-request-id", call.request_id),)
    if call.rate is not None:
        metadata += rate_metadata(call.rate)
    if call.dropped:
        metadata += (("x-maniac-dropped-params", ",".join(dict.fromkeys(call.dropped))),)
    if call.first_token_us is not None:
        metadata += (("server-timing", server_timing(call)),)
    return metadata


def server_timing(call: Call) -> str:
    """Return the Server-Timing header of an answer: durations in milliseconds."""
    parts = {
        "queue": call.queue_us,
        "upstream": call.upstream_us,
        "first-token": call.first_token_us or 0,
        "gateway": call.gateway_us(),
    }
    return ", ".join(f"{name};dur={value / 1000:.1f}" for name, value in parts.items())
