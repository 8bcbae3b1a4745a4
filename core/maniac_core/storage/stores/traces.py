"""External traces, read back from their sums and from the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from maniac_core.domain.paging import Page
from maniac_core.domain.traces import TraceDetail, TraceSpan, TraceSummary
from maniac_core.storage.base import Database, Row
from maniac_core.storage.stores.completions import trace_of

_LAST = 1 << 62
MAX_REQUESTS = 10_000
"""How many of a trace's requests, the last ones, its spans are made of: bounds what one read costs."""
MAX_SPANS = 1000
"""How many spans are returned, those that were seen last."""
MAX_COMPLETION_IDS = 100
"""How many completions of a span are named, the last ones."""


class TraceStore:
    """Traces of all projects; every method sees one project only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, project: int, trace_id: str) -> TraceDetail | None:
        """Return a trace with its spans, or None."""
        row = await self._database.fetch_one("find_trace", {"project": project, "id": trace_id})
        if row is None:
            return None
        key = {"project": project, "trace": trace_id}
        context = await self._database.fetch_one("find_trace_context", key)
        requests = await self._database.fetch_all(
            "list_trace_requests", {**key, "limit": MAX_REQUESTS}
        )
        return TraceDetail(
            summary=_summary(row),
            latest_context=None if context is None else trace_of(context),
            spans=_spans(requests),
        )

    async def list(self, project: int, page: Page) -> list[TraceSummary]:
        """Return a page, the last that began first; an unknown `after` gives an empty page."""
        first_seen, first_seq, trace_id = _LAST, _LAST, ""
        if page.after is not None:
            last = await self._database.fetch_one(
                "find_trace", {"project": project, "id": page.after}
            )
            if last is None:
                return []
            first_seen, first_seq = last["first_seen"], last["first_seq"]
            trace_id = last["id"]
        rows = await self._database.fetch_all(
            "list_traces",
            {
                "project": project,
                "first_seen": first_seen,
                "first_seq": first_seq,
                "id": trace_id,
                "limit": page.limit,
                "skip": page.skip,
            },
        )
        return [_summary(row) for row in rows]

    async def count(self, project: int) -> int:
        """Return how many traces there are."""
        row = await self._database.fetch_one("count_traces", {"project": project})
        return int(row["total"]) if row is not None else 0


def _summary(row: Row) -> TraceSummary:
    return TraceSummary(**{name: row[name] for name in TraceSummary.__struct_fields__})


def _spans(requests: Sequence[Row]) -> tuple[TraceSpan, ...]:
    """Return the spans of requests that come newest first."""
    by_span: dict[str | None, list[Row]] = {}
    for request in requests:
        by_span.setdefault(request["span_id"], []).append(request)
    seen_last = list(by_span.values())[:MAX_SPANS]
    return tuple(sorted(map(_span, reversed(seen_last)), key=lambda span: span.first_seen))


def _span(requests: Sequence[Row]) -> TraceSpan:
    parents = (request["parent_span_id"] for request in requests)
    containers = {request["container"] for request in requests} - {None}
    return TraceSpan(
        span_id=requests[0]["span_id"],
        parent_span_id=next((parent for parent in parents if parent is not None), None),
        first_seen=requests[-1]["created"],
        last_seen=requests[0]["created"],
        attempts=len(requests),
        completion_ids=tuple(request["id"] for request in reversed(requests[:MAX_COMPLETION_IDS])),
        latest_status=requests[0]["status"],
        containers=len(containers),
    )
