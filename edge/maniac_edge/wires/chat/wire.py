"""POST /chat/completions: whole answers and streams."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.config import EdgeConfig
from maniac_edge.core.chat import ChatRequest
from maniac_edge.http.openapi import Operation
from maniac_edge.schemas.chat import ChatCompletionRequest
from maniac_edge.schemas.completions import ChatCompletion, ChatCompletionChunk
from maniac_edge.wires.chat.limits import ChatLimits
from maniac_edge.wires.chat.request import parse_request


class ChatWire:
    """OpenAI's chat; see Wire."""

    def __init__(self, config: EdgeConfig) -> None:
        self._limits = ChatLimits(
            messages=config.max_messages, parts=config.max_parts, tools=config.max_tools
        )
        self._strict = config.strict_requests

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, None]:
        """Check a request; see Wire."""
        del scope
        return ChatRequest(parse_request(body, strict=self._strict, limits=self._limits)), None


OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        operation_id="create_chat_completion",
        tag="Chat",
        summary="Create a chat completion",
        description="Keys that are not listed are passed on to the provider. Parameters that the provider's dialect"
        " cannot express are dropped and named in `X-Maniac-Dropped-Params`.",
        body=ChatCompletionRequest,
        response=ChatCompletion,
        response_description="The answer; with `stream: true` as server-sent events.",
        event=ChatCompletionChunk,
        errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
    ),
)
