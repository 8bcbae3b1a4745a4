"""POST /chat/completions: whole answers and streams."""

from __future__ import annotations

from litestar.types import Receive, Scope, Send
from maniac_gateway.v1 import chat_pb2

from maniac_edge import sse
from maniac_edge.config import EdgeConfig
from maniac_edge.connection import read_body, until_gone
from maniac_edge.context import RequestContext
from maniac_edge.convert.chat import parse_request
from maniac_edge.convert.chunks import ChunkEncoder
from maniac_edge.convert.completions import completion_to_json
from maniac_edge.core_chat import ChatStream, CoreChat
from maniac_edge.errors import ClientGoneError, stream_frame
from maniac_edge.failures import to_edge_error
from maniac_edge.openapi import Operation
from maniac_edge.responses import encode, send_json
from maniac_edge.schemas.chat import ChatCompletionRequest
from maniac_edge.schemas.completions import ChatCompletion, ChatCompletionChunk


class ChatHandler:
    """Answers chat requests through a transport to the core."""

    def __init__(self, chat: CoreChat, config: EdgeConfig) -> None:
        self._chat = chat
        self._limit = config.max_body_bytes
        self._strict = config.strict_requests
        self._keep_alive_s = config.keep_alive_comment_s

    async def create(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        """Answer one chat request.

        Raises:
            EdgeError: nothing was sent yet.
            ClientGoneError: the client closed its connection before its request was read.
        """
        body = await read_body(scope, receive, self._limit)
        params, is_stream = parse_request(body, strict=self._strict)
        del body  # Up to 32 MiB that nobody needs while the answer is under way.
        try:
            async with until_gone(scope):
                if is_stream:
                    await self._stream(params, send, context)
                else:
                    completion = await self._chat.create(params, context)
                    await send_json(send, encode(completion_to_json(completion)))
        except ClientGoneError:
            # Leaving the block has cancelled the call of the core, and nobody reads an answer.
            context.client_gone = True

    async def _stream(
        self, params: chat_pb2.ChatCompletionParams, send: Send, context: RequestContext
    ) -> None:
        """Send the answer as events.

        The status line is held until the core's first chunk, so that a failure before it has its true status. If
        nothing came for `keep_alive_comment_s`, the 200 leaves with a comment, because proxies give up on silent
        connections; from then on a failure is an error frame.
        """
        events = sse.EventStream(send, context)
        stream = await self._chat.stream(params, context)
        try:
            await self._relay(stream, events, include_usage=params.include_usage)
        except Exception as exc:
            if not events.is_open:
                raise
            error = to_edge_error(exc, context)
            context.error_code = error.code
            await events.end(sse.frame(stream_frame(error)) + sse.DONE)
        else:
            await events.end(sse.DONE)
        finally:
            stream.close()

    async def _relay(
        self, stream: ChatStream, events: sse.EventStream, *, include_usage: bool
    ) -> None:
        encoder = ChunkEncoder(include_usage=include_usage)
        while (chunks := await stream.batch(self._keep_alive_s)) != []:
            if chunks is None:
                await events.write(sse.KEEP_ALIVE)
                continue
            if data := encoder.events(chunks):
                await events.write(data)


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
