"""Traces: what the `trace` of requests adds up to."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from maniac_gateway.v1 import traces_pb2

from maniac_edge.convert import traces as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.path_ids import by_given_id
from maniac_edge.requests.validation import read_query
from maniac_edge.schemas import traces as schema


@operation(
    "GET",
    "/traces",
    tag="Traces",
    query=schema.TraceQuery,
    response=schema.TraceList,
    response_description="A page.",
    errors=(400, 401, 403, 422, 429, 500, 501, 503),
)
async def list_traces(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List traces.

    Newest first, by the time of their first request.
    """
    query = read_query(request.scope["query_string"], schema.TraceQuery)
    page = await core.call(
        core.traces.ListTraces,
        traces_pb2.ListTracesRequest(page_size=query.limit, skip=query.offset),
        context_of(request),
    )
    data = [convert.summary_to_json(trace) for trace in page.traces]
    return list_response(
        request,
        schema.TraceList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=page.total_size - query.offset - len(data),
    )


@operation(
    "GET",
    "/traces/{trace_id:path}",
    tag="Traces",
    path_parameters={"trace_id": "The `trace.id` of the requests; any characters."},
    response=schema.TraceDetail,
    response_description="The trace.",
    errors=(400, 401, 403, 404, 409, 422, 429, 500, 501, 503),
)
async def get_trace(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Get a trace with its spans.

    Requests that name the same span are attempts of it.
    """
    context = context_of(request)
    found = await by_given_id(
        request,
        "traces",
        lambda trace_id: core.call(
            core.traces.GetTrace, traces_pb2.GetTraceRequest(id=trace_id), context
        ),
    )
    return json_response(convert.trace_to_json(found.trace))


HANDLERS = (list_traces, get_trace)
