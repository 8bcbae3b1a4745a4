"""POST /completions: OpenAI's legacy completions."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request

from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of
from maniac_edge.wires.completions.schema import CompletionCreate, TextCompletion
from maniac_edge.wires.handler import WireHandler


@operation(
    "POST",
    "/completions",
    tag="Completions",
    body=CompletionCreate,
    response=TextCompletion,
    response_description="The answer; with `stream: true` as server-sent events.",
    event=TextCompletion,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def create_completion(
    request: Request[Any, Any, Any], text_completions: WireHandler
) -> AsgiResponse:
    """Create a legacy completion.

    The prompt is sent as a chat message of the user, to any provider. What chat has not, such as `suffix` and `logprobs`,
    is dropped and named in `X-Maniac-Dropped-Params`.
    """
    return AsgiResponse(partial(text_completions.create, context=context_of(request)))


HANDLERS = (create_completion,)
