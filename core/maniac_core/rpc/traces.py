"""TraceService: external traces over plain RPCs."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import traces_pb2

from maniac_core.domain.traces import TraceSpan, TraceSummary
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.rpc.chat.answer import trace_to_proto
from maniac_core.rpc.chat.stored import status_to_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.traces import TraceService


class TraceServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, traces: TraceService) -> None:
        self._gate = gate
        self._traces = traces

    @unary
    async def GetTrace(
        self, request: traces_pb2.GetTraceRequest, call: Call
    ) -> traces_pb2.GetTraceResponse:
        """Read a trace with its spans."""
        found = await self._traces.get(call.caller, request.id)
        trace = _trace_to_proto(found.summary)
        if found.latest_context is not None:
            trace.latest_context.CopyFrom(trace_to_proto(found.latest_context))
        trace.spans.extend(_span_to_proto(span) for span in found.spans)
        return traces_pb2.GetTraceResponse(trace=trace)

    @unary
    async def ListTraces(
        self, request: traces_pb2.ListTracesRequest, call: Call
    ) -> traces_pb2.ListTracesResponse:
        """List traces."""
        page = page_from_proto(request)
        found, total = await self._traces.list(call.caller, page)
        return traces_pb2.ListTracesResponse(
            traces=[_trace_to_proto(trace) for trace in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )


def _trace_to_proto(trace: TraceSummary) -> traces_pb2.Trace:
    return traces_pb2.Trace(
        id=trace.id,
        name=trace.name,
        source=trace.source,
        first_seen_time=Timestamp(seconds=trace.first_seen),
        last_seen_time=Timestamp(seconds=trace.last_seen),
        request_count=trace.requests,
        success_count=trace.successes,
        error_count=trace.errors,
        container_count=trace.containers,
        spend_nano_usd=trace.spend_nano_usd,
    )


def _span_to_proto(span: TraceSpan) -> traces_pb2.TraceSpan:
    return traces_pb2.TraceSpan(
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        first_seen_time=Timestamp(seconds=span.first_seen),
        last_seen_time=Timestamp(seconds=span.last_seen),
        attempt_count=span.attempts,
        completion_ids=span.completion_ids,
        latest_completion_id=span.completion_ids[-1],
        latest_status=status_to_proto(span.latest_status),
        container_count=span.containers,
    )
