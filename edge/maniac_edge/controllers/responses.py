"""Stored responses: read, repeated, deleted. New ones are asked for on their wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, delete, get, post
from maniac_gateway.v1 import responses_pb2
from msgspec import Meta

from maniac_edge.core.client import CoreClient
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import context_of, json_response
from maniac_edge.requests.validation import invalid_value, read_query
from maniac_edge.wires.responses.schema import Response as ResponseSchema
from maniac_edge.wires.responses.schema import ResponseEvent
from maniac_edge.wires.responses.stored import input_items, stored_events, stored_response

_PATH = "/responses/{response_id:str}"


class ResponseQuery(msgspec.Struct):
    """How a response is to be sent."""

    stream: Annotated[bool, Meta(description="As the events by which it came about.")] = False
    starting_after: Annotated[
        int, Meta(ge=-1, description="Only events with a larger `sequence_number`.")
    ] = -1


class ItemsQuery(msgspec.Struct):
    """A page of the input."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: Annotated[str | None, Meta(description="Id of the last item of the page before.")] = None


class DeletedResponse(msgspec.Struct):
    """A response is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ResponseItemList(msgspec.Struct):
    """A page of the input."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


@get(_PATH, include_in_schema=False)
async def get_response(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Answer one."""
    with invalid_value():
        query = read_query(request.scope["query_string"], ResponseQuery)
    found = await _find(request, core, response_id)
    if query.stream:
        events = stored_events(found, query.starting_after)
        return Response(events, media_type="text/event-stream; charset=utf-8")
    return Response(stored_response(found), media_type="application/json")


@delete(_PATH, status_code=200, include_in_schema=False)
async def delete_response(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Delete one."""
    await core.call(
        core.responses.DeleteResponse,
        responses_pb2.DeleteResponseRequest(id=response_id),
        context_of(request),
    )
    return json_response(DeletedResponse(id=response_id))


@post(f"{_PATH}/cancel", status_code=200, include_in_schema=False)
async def cancel_response(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Answer one as it is: what is stored has ended."""
    found = await _find(request, core, response_id)
    return Response(stored_response(found), media_type="application/json")


@get(f"{_PATH}/input_items", include_in_schema=False)
async def list_input_items(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Answer a page of the input."""
    with invalid_value():
        query = read_query(request.scope["query_string"], ItemsQuery)
    items = input_items(await _find(request, core, response_id))
    if query.order == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    start = 0
    if query.after is not None:
        start = ids.index(query.after) + 1 if query.after in ids else len(ids)
    page = items[start : start + query.limit]
    return json_response(
        ResponseItemList(
            data=page,
            first_id=page[0]["id"] if page else None,
            last_id=page[-1]["id"] if page else None,
            has_more=start + query.limit < len(items),
        )
    )


async def _find(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> responses_pb2.StoredResponse:
    found = await core.call(
        core.responses.GetResponse,
        responses_pb2.GetResponseRequest(id=response_id),
        context_of(request),
    )
    return found.response


HANDLERS = (get_response, delete_response, cancel_response, list_input_items)
_ID = {"response_id": "Id of the response."}
_ERRORS = (400, 401, 403, 404, 429, 500, 503)
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/responses/{response_id}",
        operation_id="get_response",
        tag="Responses",
        summary="Get a stored response",
        description="Only responses asked for with `store: true` are found.",
        path_parameters=_ID,
        query=ResponseQuery,
        response=ResponseSchema,
        event=ResponseEvent,
        errors=_ERRORS,
    ),
    Operation(
        method="delete",
        path="/v1/responses/{response_id}",
        operation_id="delete_response",
        tag="Responses",
        summary="Delete a stored response",
        description="What was asked and answered is deleted for good; counts, usage and spend stay.",
        path_parameters=_ID,
        response=DeletedResponse,
        errors=(*_ERRORS, 409),
    ),
    Operation(
        method="post",
        path="/v1/responses/{response_id}/cancel",
        operation_id="cancel_response",
        tag="Responses",
        summary="Cancel a response",
        description="A response that has ended is returned as it is.",
        path_parameters=_ID,
        response=ResponseSchema,
        errors=_ERRORS,
    ),
    Operation(
        method="get",
        path="/v1/responses/{response_id}/input_items",
        operation_id="list_response_input_items",
        tag="Responses",
        summary="List the input of a stored response",
        path_parameters=_ID,
        query=ItemsQuery,
        response=ResponseItemList,
        errors=_ERRORS,
    ),
)
