"""POST /v1/messages: whole answers and streams."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.core.chat import ChatRequest
from maniac_edge.http.openapi import Operation
from maniac_edge.wires.messages.answer import MessagesWriter
from maniac_edge.wires.messages.request import parse_request
from maniac_edge.wires.messages.schema import (
    MessageAnswer,
    MessageError,
    MessageEvent,
    MessagesRequest,
)

PATHS = ("/v1/messages", "/api/v1/messages", "/v1/v1/messages")
"""The last one is what Anthropic's clients make of a base URL that ends in /v1."""


class MessagesWire:
    """Anthropic's Messages; see Wire."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, MessagesWriter]:
        """Check and translate a request; see Wire."""
        del scope
        return ChatRequest(parse_request(body)), MessagesWriter()


OPERATIONS = (
    Operation(
        method="post",
        path="/v1/messages",
        operation_id="create_message",
        tag="Messages",
        summary="Create a message",
        description="Anthropic's Messages API, on any provider. A provider that speaks it gets the request as it was"
        " sent. Fields that another one cannot carry are dropped and named in `X-Maniac-Dropped-Params`.",
        body=MessagesRequest,
        response=MessageAnswer,
        response_description="The answer; with `stream: true` as server-sent events.",
        event=MessageEvent,
        error=MessageError,
        errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
    ),
)
