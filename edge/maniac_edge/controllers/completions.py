"""GET /chat/completions, and GET and DELETE /chat/completions/{id}: captured completions."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import chat_pb2

from maniac_edge.convert.completions import messages_to_json, stored_to_json
from maniac_edge.convert.explanations import explanation_to_json
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, encode, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import query_pairs, read_object, read_query
from maniac_edge.schemas import completions as schema
from maniac_edge.schemas.explanations import Explanation

_PATH = "/chat/completions/{completion_id:str}"
_REGISTER = "/chat/completions/register"
"""Examples are posted to it. A GET or DELETE means the completion with the id `register`."""
_ID = {"completion_id": "Id of the completion."}
_ERRORS = (400, 401, 403, 404, 409, 422, 429, 500, 501, 503)


@operation(
    "GET",
    "/chat/completions",
    tag="Chat",
    query=schema.ChatCompletionQuery,
    body=dict[str, Any] | None,
    body_required=False,
    body_description="Optional filter: each key must equal the record's `metadata`.",
    response=schema.ChatCompletionList,
    response_description="A page.",
    errors=(400, 401, 403, 413, 422, 429, 500, 501, 503),
)
async def list_chat_completions(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """List captured completions.

    Newest first unless `order` says otherwise. `metadata[KEY]=VALUE` in the query filters as the body does, for values
    that are strings.
    """
    text = request.scope["query_string"]
    query = read_query(text, schema.ChatCompletionQuery)
    body = await bodies.read(request.scope, request.receive)
    metadata = {**_query_metadata(text), **_body_metadata(body)}
    wanted = chat_pb2.ListChatCompletionsRequest(
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
    page = await core.list_chat_completions(wanted, context_of(request))
    data = [stored_to_json(stored) for stored in page.completions]
    return list_response(
        request,
        schema.ChatCompletionList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=None if query.after else page.total_size - query.offset - len(data),
    )


@operation(
    "GET",
    _PATH,
    also_at=(_REGISTER,),
    tag="Chat",
    path_parameters=_ID,
    response=schema.StoredChatCompletion,
    response_description="The record.",
    errors=_ERRORS,
)
async def get_chat_completion(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Get a captured completion."""
    stored = await core.get_chat_completion(_id(request), context_of(request))
    return json_response(stored_to_json(stored))


@operation(
    "DELETE",
    _PATH,
    also_at=(_REGISTER,),
    tag="Chat",
    path_parameters=_ID,
    response=schema.ChatCompletionDeleted,
    response_description="It is deleted. 409 while a dataset holds it.",
    errors=_ERRORS,
)
async def delete_chat_completion(
    request: Request[Any, Any, Any], core: CoreClient
) -> Response[bytes]:
    """Delete a captured completion.

    What was asked and answered is gone for good, with tags and metadata. Usage and spend stay.
    """
    wanted = chat_pb2.DeleteChatCompletionRequest(id=_id(request))
    await core.call(core.chat.DeleteChatCompletion, wanted, context_of(request))
    return json_response(schema.ChatCompletionDeleted(id=wanted.id))


def _id(request: Request[Any, Any, Any]) -> str:
    return unquote(request.path_params.get("completion_id", "register"))


@operation(
    "GET",
    f"{_PATH}/explain",
    tag="Chat",
    path_parameters=_ID,
    response=Explanation,
    response_description="The explanation.",
    errors=_ERRORS,
)
async def explain_chat_completion(
    request: Request[Any, Any, Any], completion_id: str, core: CoreClient
) -> Response[bytes]:
    """Explain how a completion came about.

    Route, merged parameters, attempts and prices, of any request of the project; of one with `store: false` without
    content.
    """
    explained = await core.call(
        core.chat.ExplainChatCompletion,
        chat_pb2.ExplainChatCompletionRequest(id=unquote(completion_id)),
        context_of(request),
    )
    return json_response(explanation_to_json(explained))


@operation(
    "GET",
    f"{_PATH}/messages",
    tag="Chat",
    path_parameters=_ID,
    query=schema.StoredMessagesQuery,
    response=schema.StoredMessageList,
    response_description="A page.",
    errors=_ERRORS,
)
async def list_chat_completion_messages(
    request: Request[Any, Any, Any], completion_id: str, core: CoreClient
) -> Response[bytes]:
    """List the messages of a captured completion.

    What it was asked, with what its container added; empty if content is not stored any more.
    """
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
    list_chat_completions,
    get_chat_completion,
    delete_chat_completion,
    explain_chat_completion,
    list_chat_completion_messages,
)
