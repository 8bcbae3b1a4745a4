"""POST /v1/responses: whole answers and streams."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.core.chat import ChatRequest
from maniac_edge.http.openapi import Operation
from maniac_edge.wires.responses.answer import ResponsesWriter
from maniac_edge.wires.responses.request import parse_request
from maniac_edge.wires.responses.schema import Response, ResponseCreate, ResponseEvent

PATHS = ("/v1/responses", "/api/v1/responses")


class ResponsesWire:
    """OpenAI's Responses; see Wire."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, ResponsesWriter]:
        """Check and translate a request; see Wire."""
        del scope
        asked = parse_request(body)
        return ChatRequest(asked.start), ResponsesWriter(asked)


OPERATIONS = (
    Operation(
        method="post",
        path="/v1/responses",
        operation_id="create_response",
        tag="Responses",
        summary="Create a response",
        description="OpenAI's Responses API, on any provider. Built-in tools and fields that only a provider of this API"
        " has are dropped elsewhere and named in `X-Maniac-Dropped-Params`.",
        body=ResponseCreate,
        response=Response,
        response_description="The response; with `stream: true` as server-sent events.",
        event=ResponseEvent,
        errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
    ),
)
