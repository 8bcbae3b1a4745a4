"""POST /chat/completions: whole answers and streams."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from litestar.types import Receive, Scope, Send

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.convert.chat import parse_request
from maniac_edge.convert.chat_limits import ChatLimits
from maniac_edge.core.chat import ChatRequest, ChatStream, CoreChat
from maniac_edge.errors import ClientGoneError, stream_frame
from maniac_edge.exception_handlers import to_edge_error
from maniac_edge.http import sse
from maniac_edge.http.client_connection import ClientWatch, until_gone
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import send_json
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.schemas.chat import ChatCompletionRequest
from maniac_edge.schemas.completions import ChatCompletion, ChatCompletionChunk

# Above it a request is read in a thread, and goes to the core by an RPC of its own: frames of the relay are smaller.
_LARGE_BYTES = 256 * 1024
# How long the client of a stream that failed may take to read what came before.
_LAST_READ_S = 10.0


class Answerer:
    """Answers requests that a transport carries to the core: whole, or as a stream."""

    def __init__(self, chat: CoreChat, config: EdgeConfig) -> None:
        self._chat = chat
        self._keep_alive_s = config.keep_alive_comment_s

    async def answer(
        self, request: ChatRequest, scope: Scope, send: Send, context: RequestContext
    ) -> None:
        """Answer one request, as long as its client is there.

        Raises:
            EdgeError: nothing was sent yet.
        """
        try:
            with until_gone(scope) as watch:
                if request.is_stream:
                    await self._stream(request, send, context, watch)
                else:
                    await send_json(send, await self._chat.create(request, context))
        except ClientGoneError:
            # Leaving the block has cancelled the call of the core, and nobody reads an answer.
            context.client_gone = True

    async def _stream(
        self, request: ChatRequest, send: Send, context: RequestContext, watch: ClientWatch
    ) -> None:
        """Send the answer as events.

        The status line is held until the core's first event, so that a failure before it has its true status. If
        nothing came for `keep_alive_comment_s`, the 200 leaves with a comment, because proxies give up on silent
        connections; from then on a failure is an error frame.
        """
        events = sse.EventStream(send, context)
        stream = await self._chat.stream(request, context)
        # A client that does not read would keep the content before the failure in memory forever.
        stream.on_failed = lambda: watch.drop(_LAST_READ_S)
        try:
            await self._relay(stream, events)
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

    async def _relay(self, stream: ChatStream, events: sse.EventStream) -> None:
        while (data := await stream.batch(self._keep_alive_s)) != b"":
            await events.write(sse.KEEP_ALIVE if data is None else data)


class ChatHandler(Answerer):
    """Answers chat requests through a transport to the core."""

    def __init__(self, chat: CoreChat, bodies: BodyReader, config: EdgeConfig) -> None:
        super().__init__(chat, config)
        self._bodies = bodies
        self._limits = ChatLimits(
            messages=config.max_messages, parts=config.max_parts, tools=config.max_tools
        )
        # One after the other, so that they take turns with everything else and not with each other.
        self._large = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-request")
        self._strict = config.strict_requests

    async def create(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        """Answer one chat request.

        Raises:
            EdgeError: nothing was sent yet.
            ClientGoneError: the client closed its connection before its request was read.
        """
        body = await self._bodies.read(scope, receive)
        if len(body) <= _LARGE_BYTES:
            request = self._parse(body)
        else:
            loop = asyncio.get_running_loop()
            request = await loop.run_in_executor(self._large, self._parse, body)
        await self.answer(request, scope, send, context)

    def _parse(self, body: bytes) -> ChatRequest:
        request = ChatRequest(parse_request(body, strict=self._strict, limits=self._limits))
        if len(body) > _LARGE_BYTES or len(request.start.body) > _LARGE_BYTES:
            request.pack()
        return request


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
