"""Usage: reports of requests, tokens and spend."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from maniac_edge.convert import usage as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response
from maniac_edge.requests.validation import read_query
from maniac_edge.schemas import usage as schema


@operation(
    "GET",
    "/usage",
    tag="Usage",
    query=schema.UsageQuery,
    response=schema.UsageReport,
    response_description="A page of groups, and the totals of all.",
    errors=(400, 401, 403, 422, 429, 500, 501, 503),
)
async def get_usage(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Report requests, tokens and spend.

    Of the key's project, from daily sums that every request is in once it is answered. By day, newest first, then
    by the other groups in their order.
    """
    query = read_query(request.scope["query_string"], schema.UsageQuery)
    report = await core.call(
        core.usage.GetUsage, convert.request_from_json(query), context_of(request)
    )
    return json_response(convert.report_to_json(report))


HANDLERS = (get_usage,)
