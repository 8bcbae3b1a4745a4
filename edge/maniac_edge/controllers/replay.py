"""POST /chat/completions/{id}/replay: a captured request, sent once more."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request
from litestar.types import Receive, Scope, Send
from maniac_gateway.v1 import relay_pb2

from maniac_edge.core.chat import ChatRequest
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body
from maniac_edge.schemas.completions import ChatCompletion, ChatCompletionChunk, ChatReplay
from maniac_edge.wires.answerer import Answerer

_decoder = msgspec.json.Decoder(ChatReplay)


@operation(
    "POST",
    "/chat/completions/{completion_id:str}/replay",
    tag="Chat",
    path_parameters={"completion_id": "Id of the completion."},
    body=ChatReplay,
    body_required=False,
    response=ChatCompletion,
    response_description="The answer; with `stream: true` as server-sent events.",
    event=ChatCompletionChunk,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def replay_chat_completion(
    request: Request[Any, Any, Any],
    completion_id: str,
    answerer: Answerer,
    bodies: BodyReader,
) -> AsgiResponse:
    """Send a captured request once more.

    With the parameters that were sent, what its container had added, and the headers that were forwarded, to the
    model that served it or to another. It is limited, charged and captured as any request; the record's `replay_of`
    names the first. 409 if content is not stored any more.
    """
    body = await bodies.read(request.scope, request.receive)
    wanted = decode_body(body, _decoder) if body.strip() else ChatReplay()
    replay = relay_pb2.RelayReplay(id=unquote(completion_id), model=wanted.model or "")
    start = relay_pb2.RelayStart(
        stream=bool(wanted.stream), wire=relay_pb2.RELAY_WIRE_CHAT, replay=replay
    )
    context = context_of(request)

    async def send_answer(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await answerer.answer(ChatRequest(start), scope, send, context)

    return AsgiResponse(send_answer)


HANDLERS = (replay_chat_completion,)
