"""POST /messages: Anthropic's Messages API, whole or streamed."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request

from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of
from maniac_edge.wires.handler import WireHandler
from maniac_edge.wires.messages.schema import (
    MessageAnswer,
    MessageError,
    MessageEvent,
    MessagesRequest,
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


HANDLERS = (create_message,)
