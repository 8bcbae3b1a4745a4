"""POST /chat/completions: a completion, whole or streamed."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request

from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of
from maniac_edge.schemas.chat import ChatCompletionRequest
from maniac_edge.schemas.completions import ChatCompletion, ChatCompletionChunk
from maniac_edge.wires.handler import WireHandler


@operation(
    "POST",
    "/chat/completions",
    tag="Chat",
    body=ChatCompletionRequest,
    response=ChatCompletion,
    response_description="The answer; with `stream: true` as server-sent events.",
    event=ChatCompletionChunk,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def create_chat_completion(
    request: Request[Any, Any, Any], chat: WireHandler
) -> AsgiResponse:
    """Create a chat completion.

    Keys that are not listed are passed on to the provider. Parameters that the provider's dialect cannot express are
    dropped and named in `X-Maniac-Dropped-Params`.
    """
    return AsgiResponse(partial(chat.create, context=context_of(request)))


HANDLERS = (create_chat_completion,)
