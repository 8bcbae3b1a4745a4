"""Responses, OpenAI's newer API: asked for, whole or streamed; those that are stored read, repeated and deleted."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import responses_pb2
from msgspec import Meta

from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of, json_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import invalid_value, read_query
from maniac_edge.wires.handler import WireHandler
from maniac_edge.wires.responses.compact import CompactedResponse, ResponseCompact
from maniac_edge.wires.responses.request import parse_request
from maniac_edge.wires.responses.schema import Response as ResponseSchema
from maniac_edge.wires.responses.schema import ResponseCreate, ResponseEvent
from maniac_edge.wires.responses.stored import input_items, stored_events, stored_response

_PATH = "/responses/{response_id:str}"
_ID = {"response_id": "Id of the response."}
_ERRORS = (400, 401, 403, 404, 429, 500, 503)


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


class InputTokens(msgspec.Struct):
    """The tokens of a prompt."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


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


@operation(
    "POST",
    "/responses",
    tag="Responses",
    body=ResponseCreate,
    response=ResponseSchema,
    response_description="The response; with `stream: true` as server-sent events.",
    event=ResponseEvent,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def create_response(request: Request[Any, Any, Any], responses: WireHandler) -> AsgiResponse:
    """Create a response.

    OpenAI's Responses API, on any provider. Built-in tools and fields that only a provider of this API has are dropped
    elsewhere and named in `X-Maniac-Dropped-Params`.
    """
    return AsgiResponse(partial(responses.create, context=context_of(request)))


@operation(
    "POST",
    "/responses/input_tokens",
    tag="Responses",
    body=ResponseCreate,
    response=InputTokens,
    errors=(*_ERRORS, 413),
)
async def count_response_tokens(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Count the tokens of a response's input.

    Where the provider does not count, the gateway estimates, and says so with `X-Maniac-Estimated: true`.
    """
    asked = parse_request(await bodies.read(request.scope, request.receive))
    counted = await core.count_tokens(asked.start, context_of(request))
    return json_response(InputTokens(counted.input_tokens))


@operation(
    "POST",
    "/responses/compact",
    tag="Responses",
    body=ResponseCompact,
    response=CompactedResponse,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def compact_response(
    request: Request[Any, Any, Any], compaction: WireHandler
) -> AsgiResponse:
    """Compact a conversation.

    Its model writes a summary, which is limited, charged and captured as any response.
    """
    return AsgiResponse(partial(compaction.create, context=context_of(request)))


@operation(
    "GET",
    _PATH,
    tag="Responses",
    path_parameters=_ID,
    query=ResponseQuery,
    response=ResponseSchema,
    event=ResponseEvent,
    errors=_ERRORS,
)
async def get_response(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Get a stored response.

    Only responses asked for with `store: true` are found.
    """
    with invalid_value():
        query = read_query(request.scope["query_string"], ResponseQuery)
    found = await _find(request, core, response_id)
    if query.stream:
        events = stored_events(found, query.starting_after)
        return Response(events, media_type="text/event-stream; charset=utf-8")
    return Response(stored_response(found), media_type="application/json")


@operation(
    "DELETE",
    _PATH,
    tag="Responses",
    path_parameters=_ID,
    response=DeletedResponse,
    errors=(*_ERRORS, 409),
)
async def delete_response(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Delete a stored response.

    What was asked and answered is deleted for good; counts, usage and spend stay.
    """
    await core.call(
        core.responses.DeleteResponse,
        responses_pb2.DeleteResponseRequest(id=response_id),
        context_of(request),
    )
    return json_response(DeletedResponse(id=response_id))


@operation(
    "POST",
    f"{_PATH}/cancel",
    tag="Responses",
    path_parameters=_ID,
    response=ResponseSchema,
    errors=_ERRORS,
)
async def cancel_response(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """Cancel a response.

    A response that has ended is returned as it is.
    """
    found = await _find(request, core, response_id)
    return Response(stored_response(found), media_type="application/json")


@operation(
    "GET",
    f"{_PATH}/input_items",
    tag="Responses",
    path_parameters=_ID,
    query=ItemsQuery,
    response=ResponseItemList,
    errors=_ERRORS,
)
async def list_response_input_items(
    request: Request[Any, Any, Any], core: CoreClient, response_id: str
) -> Response[bytes]:
    """List the input of a stored response."""
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


HANDLERS = (
    compact_response,
    count_response_tokens,
    create_response,
    get_response,
    delete_response,
    cancel_response,
    list_response_input_items,
)
