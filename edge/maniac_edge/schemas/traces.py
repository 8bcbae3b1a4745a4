"""External traces and their spans."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maniac_edge.schemas.common import Offset
from maniac_edge.schemas.completions import Trace as TraceContext

_Time = Annotated[str | None, Meta(description="ISO 8601.")]
_Status = Annotated[
    Literal["completed", "failed", "cancelled", "truncated", "rejected", "registered", "unknown"]
    | None,
    Meta(description="What became of the last request."),
]


class TraceQuery(msgspec.Struct):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    offset: Offset = 0


class TraceListItem(msgspec.Struct, kw_only=True):
    """One external trace, summed up."""

    id: Annotated[str, Meta(description="As the caller chose it.")]
    name: Annotated[str | None, Meta(description="The last that was sent.")]
    source: Annotated[str | None, Meta(description="The last that was sent.")]
    first_seen: _Time
    last_seen: _Time
    request_count: int
    container_count: Annotated[
        int, Meta(description="Containers its requests were routed through.")
    ]
    spend: Annotated[int, Meta(description="Micro-USD, over the requests whose price is known.")]
    success_count: int
    error_count: Annotated[
        int,
        Meta(description="Without those that the caller cancelled, which are in neither count."),
    ]


class TraceList(msgspec.Struct, kw_only=True):
    """A page of traces."""

    object: Literal["list"] = "list"
    data: list[TraceListItem]
    total: Annotated[int, Meta(description="How many there are in all.")]


class TraceSpan(msgspec.Struct, kw_only=True):
    """The requests of one span; each is an attempt."""

    span_id: Annotated[str | None, Meta(description="Null: the requests that named no span.")]
    parent_span_id: Annotated[str | None, Meta(description="The last that was sent.")]
    first_seen: _Time
    last_seen: _Time
    attempt_count: int
    inference_log_ids: Annotated[
        list[str],
        Meta(description="Ids of its completions, oldest first; at most the last 100."),
    ]
    latest_inference_log_id: str | None
    latest_status: _Status
    container_count: int


class TraceDetail(msgspec.Struct, kw_only=True):
    """One external trace with its spans."""

    id: str
    name: str | None
    source: str | None
    trace_context: Annotated[
        TraceContext | None, Meta(description="As the last request brought it.")
    ]
    first_seen: _Time
    last_seen: _Time
    request_count: int
    container_count: int
    error_count: int
    spans: Annotated[
        list[TraceSpan],
        Meta(
            description="By `first_seen`, oldest first; at most the 1,000 seen last, made of the last 10,000 requests."
        ),
    ]
