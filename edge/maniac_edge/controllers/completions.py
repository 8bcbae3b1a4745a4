"""GET /chat/completions, and GET and DELETE /chat/completions/{id}: captured completions."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, delete, get
from litestar.types import Receive, Scope, Send
from maniac_gateway.v1 import chat_pb2

from maniac_edge.context import RequestContext
from maniac_edge.convert.completions import messages_to_json, stored_to_json
from maniac_edge.convert.explanations import explanation_to_json
from maniac_edge.core.client import CoreClient
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import context_of, encode, json_response, list_body, send_json
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import query_pairs, read_object, read_query
from maniac_edge.schemas import completions as schema
from maniac_edge.schemas.explanations import Explanation


async def list_completions(
    scope: Scope,
    receive: Receive,
    send: Send,
    context: RequestContext,
    *,
    core: CoreClient,
    bodies: BodyReader,
) -> None:
    """Answer one page.

    Raises:
        EdgeError: VALIDATION_ERROR for the query or the filter, or what the core says.
    """
    query = read_query(scope["query_string"], schema.ChatCompletionQuery)
    body = await bodies.read(scope, receive)
    metadata = {**_query_metadata(scope["query_string"]), **_body_metadata(body)}
    request = chat_pb2.ListChatCompletionsRequest(
        page_size=query.limit,
        page_token=query.after or "",
        skip=query.offset,
        ascending=query.order == "asc",
        filter=chat_pb2.CompletionFilter(
            model=query.model or "",
            container=query.container or "",
            metadata_json=encode(metadata) if metadata else b"",
        ),
    )
    page = await core.list_chat_completions(request, context)
    answer = schema.ChatCompletionList(
        data=[stored_to_json(stored) for stored in page.completions], total=page.total_size
    )
    left = None if query.after else page.total_size - query.offset - len(answer.data)
    await send_json(
        send, list_body(scope["headers"], answer, next_page=page.next_page_token, left=left)
    )


@get("/chat/completions/{completion_id:str}", include_in_schema=False)
async def get_completion(
    request: Request[Any, Any, Any], completion_id: str, core: CoreClient
) -> Response[bytes]:
    """Answer one captured completion."""
    return await _get(request, core, unquote(completion_id))


@delete("/chat/completions/{completion_id:str}", status_code=200, include_in_schema=False)
async def delete_completion(
    request: Request[Any, Any, Any], completion_id: str, core: CoreClient
) -> Response[bytes]:
    """Delete the content of one captured completion."""
    return await _delete(request, core, unquote(completion_id))


@delete("/chat/completions/register", status_code=200, include_in_schema=False)
async def delete_completion_register(
    request: Request[Any, Any, Any], core: CoreClient
) -> Response[bytes]:
    """Delete the content of the completion whose id is also the path that examples are posted to."""
    return await _delete(request, core, "register")


async def _delete(
    request: Request[Any, Any, Any], core: CoreClient, completion_id: str
) -> Response[bytes]:
    await core.call(
        core.chat.DeleteChatCompletion,
        chat_pb2.DeleteChatCompletionRequest(id=completion_id),
        context_of(request),
    )
    return json_response(schema.ChatCompletionDeleted(id=completion_id))


@get("/chat/completions/register", include_in_schema=False)
async def get_completion_register(
    request: Request[Any, Any, Any], core: CoreClient
) -> Response[bytes]:
    """Answer the completion whose id is also the path that examples are posted to."""
    return await _get(request, core, "register")


async def _get(
    request: Request[Any, Any, Any], core: CoreClient, completion_id: str
) -> Response[bytes]:
    stored = await core.get_chat_completion(completion_id, context_of(request))
    return json_response(stored_to_json(stored))


@get("/chat/completions/{completion_id:str}/explain", include_in_schema=False)
async def explain_completion(
    request: Request[Any, Any, Any], completion_id: str, core: CoreClient
) -> Response[bytes]:
    """Answer how one completion came about."""
    explained = await core.call(
        core.chat.ExplainChatCompletion,
        chat_pb2.ExplainChatCompletionRequest(id=unquote(completion_id)),
        context_of(request),
    )
    return json_response(explanation_to_json(explained))


@get("/chat/completions/{completion_id:str}/messages", include_in_schema=False)
async def list_messages(
    request: Request[Any, Any, Any], completion_id: str, core: CoreClient
) -> Response[bytes]:
    """Answer what one captured completion was asked."""
    query = read_query(request.scope["query_string"], schema.StoredMessagesQuery)
    page = await core.call(
        core.chat.ListChatCompletionMessages,
        chat_pb2.ListChatCompletionMessagesRequest(
            id=unquote(completion_id),
            page_size=query.limit,
            page_token=query.after or "",
            descending=query.order == "desc",
        ),
        context_of(request),
    )
    return json_response(messages_to_json(page))


def _query_metadata(query: bytes) -> dict[str, Any]:
    return {
        key[len("metadata[") : -1]: value
        for key, value in query_pairs(query)
        if key.startswith("metadata[") and key.endswith("]")
    }


def _body_metadata(body: bytes) -> dict[str, msgspec.Raw]:
    # Clients announce JSON on every GET, and mostly send nothing.
    return {} if body.strip() in {b"", b"null"} else read_object(body)


HANDLERS = (
    get_completion,
    get_completion_register,
    delete_completion,
    delete_completion_register,
    explain_completion,
    list_messages,
)
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/chat/completions",
        operation_id="list_chat_completions",
        tag="Chat",
        summary="List captured completions",
        description="Newest first unless `order` says otherwise. `metadata[KEY]=VALUE` in the query filters as the"
        " body does, for values that are strings.",
        query=schema.ChatCompletionQuery,
        body=dict[str, Any] | None,
        body_required=False,
        body_description="Optional filter: each key must equal the record's `metadata`.",
        response=schema.ChatCompletionList,
        response_description="A page.",
        errors=(400, 401, 403, 413, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="get",
        path="/v1/chat/completions/{completion_id}",
        operation_id="get_chat_completion",
        tag="Chat",
        summary="Get a captured completion",
        path_parameters={"completion_id": "Id of the completion."},
        response=schema.StoredChatCompletion,
        response_description="The record.",
        errors=(400, 401, 403, 404, 409, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="delete",
        path="/v1/chat/completions/{completion_id}",
        operation_id="delete_chat_completion",
        tag="Chat",
        summary="Delete a captured completion",
        description="What was asked and answered is gone for good, with tags and metadata. Usage and spend stay.",
        path_parameters={"completion_id": "Id of the completion."},
        response=schema.ChatCompletionDeleted,
        response_description="It is deleted. 409 while a dataset holds it.",
        errors=(400, 401, 403, 404, 409, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="get",
        path="/v1/chat/completions/{completion_id}/explain",
        operation_id="explain_chat_completion",
        tag="Chat",
        summary="Explain how a completion came about",
        description="Route, merged parameters, attempts and prices, of any request of the project; of one with"
        " `store: false` without content.",
        path_parameters={"completion_id": "Id of the completion."},
        response=Explanation,
        response_description="The explanation.",
        errors=(400, 401, 403, 404, 409, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="get",
        path="/v1/chat/completions/{completion_id}/messages",
        operation_id="list_chat_completion_messages",
        tag="Chat",
        summary="List the messages of a captured completion",
        description="What it was asked, with what its container added; empty if content is not stored any more.",
        path_parameters={"completion_id": "Id of the completion."},
        query=schema.StoredMessagesQuery,
        response=schema.StoredMessageList,
        response_description="A page.",
        errors=(400, 401, 403, 404, 409, 422, 429, 500, 501, 503),
    ),
)
