"""External traces: from the contract's messages to JSON."""

from __future__ import annotations

from maniac_gateway.v1 import chat_pb2, traces_pb2

from maniac_edge.convert.completions import trace_to_json as context_to_json
from maniac_edge.convert.containers import iso_time
from maniac_edge.schemas import traces as schema

_STATUS_PREFIX = "COMPLETION_STATUS_"


def summary_to_json(trace: traces_pb2.Trace) -> schema.TraceListItem:
    """Return a trace as it is listed."""
    return schema.TraceListItem(
        id=trace.id,
        name=trace.name if trace.HasField("name") else None,
        source=trace.source if trace.HasField("source") else None,
        first_seen=iso_time(trace.first_seen_time),
        last_seen=iso_time(trace.last_seen_time),
        request_count=trace.request_count,
        container_count=trace.container_count,
        # The official client takes whole numbers only.
        spend=round(trace.spend_nano_usd / 1000),
        success_count=trace.success_count,
        error_count=trace.error_count,
    )


def trace_to_json(trace: traces_pb2.Trace) -> schema.TraceDetail:
    """Return a trace with its spans."""
    context = trace.latest_context if trace.HasField("latest_context") else None
    return schema.TraceDetail(
        id=trace.id,
        name=trace.name if trace.HasField("name") else None,
        source=trace.source if trace.HasField("source") else None,
        trace_context=None if context is None else context_to_json(context),
        first_seen=iso_time(trace.first_seen_time),
        last_seen=iso_time(trace.last_seen_time),
        request_count=trace.request_count,
        container_count=trace.container_count,
        error_count=trace.error_count,
        spans=[_span(span) for span in trace.spans],
    )


def _span(span: traces_pb2.TraceSpan) -> schema.TraceSpan:
    status = chat_pb2.CompletionStatus.Name(span.latest_status).removeprefix(_STATUS_PREFIX)
    return schema.TraceSpan(
        span_id=span.span_id if span.HasField("span_id") else None,
        parent_span_id=span.parent_span_id if span.HasField("parent_span_id") else None,
        first_seen=iso_time(span.first_seen_time),
        last_seen=iso_time(span.last_seen_time),
        attempt_count=span.attempt_count,
        inference_log_ids=list(span.completion_ids),
        latest_inference_log_id=span.latest_completion_id or None,
        latest_status=status.lower() if span.latest_status else None,  # type: ignore[arg-type]
        container_count=span.container_count,
    )
