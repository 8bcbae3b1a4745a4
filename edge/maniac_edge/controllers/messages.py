"""POST /messages: Anthropic's Messages API, whole or streamed."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request, Response

from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of, json_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.wires.handler import WireHandler
from maniac_edge.wires.messages.request import parse_request
from maniac_edge.wires.messages.schema import (
    MessageAnswer,
    MessageError,
    MessageEvent,
    MessagesCount,
    MessagesRequest,
    TokenCount,
)


@operation(
    "POST",
    "/messages",
    # What Anthropic's clients make of a base URL that ends in /v1.
    also_at=("/v1/messages",),
    tag="Messages",
    body=MessagesRequest,
    response=MessageAnswer,
    response_description="The answer; with `stream: true` as server-sent events.",
    event=MessageEvent,
    error=MessageError,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def create_message(request: Request[Any, Any, Any], messages: WireHandler) -> AsgiResponse:
    """Create a message.

    Anthropic's Messages API, on any provider. A provider that speaks it gets the request as it was sent. Fields that
    another one cannot carry are dropped and named in `X-Maniac-Dropped-Params`.
    """
    return AsgiResponse(partial(messages.create, context=context_of(request)))


@operation(
    "POST",
    "/messages/count_tokens",
    also_at=("/v1/messages/count_tokens",),
    tag="Messages",
    body=MessagesCount,
    response=TokenCount,
    error=MessageError,
    errors=(400, 401, 403, 404, 413, 429, 500, 501, 503),
)
async def count_message_tokens(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Count the tokens of a message.

    Anthropic counts what is for its models. Of others the gateway estimates, and says so with `X-Maniac-Estimated: true`.
    """
    body = await bodies.read(request.scope, request.receive)
    start = parse_request(body, is_count=True)
    counted = await core.count_tokens(start, context_of(request))
    return json_response(TokenCount(counted.input_tokens))


HANDLERS = (create_message, count_message_tokens)
