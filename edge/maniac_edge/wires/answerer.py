"""Answers to requests for completions: whole, or as a stream."""

from __future__ import annotations

from litestar.types import Scope, Send

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core.chat import ChatRequest, ChatStream, CoreChat
from maniac_edge.errors import ClientGoneError, stream_frame
from maniac_edge.exception_handlers import to_edge_error
from maniac_edge.http import sse
from maniac_edge.http.client_connection import ClientWatch, until_gone
from maniac_edge.http.responses import send_json
from maniac_edge.wires.base import Writer

# How long the client of a stream that failed may take to read what came before.
_LAST_READ_S = 10.0


class Answerer:
    """Answers requests that a transport carries to the core: whole, or as a stream."""

    def __init__(self, chat: CoreChat, config: EdgeConfig) -> None:
        self._chat = chat
        self._keep_alive_s = config.keep_alive_comment_s

    async def answer(
        self,
        request: ChatRequest,
        scope: Scope,
        send: Send,
        context: RequestContext,
        writer: Writer | None = None,
    ) -> None:
        """Answer one request, as long as its client is there.

        `writer` translates the answer; without one it is sent as it comes from the core, in chat's form.

        Raises:
            EdgeError: nothing was sent yet.
        """
        try:
            with until_gone(scope) as watch:
                if request.is_stream:
                    await self._stream(request, send, context, watch, writer)
                    return
                answer = await self._chat.create(request, context)
                if writer is not None:
                    answer = (writer.native_whole if request.is_native else writer.whole)(answer)
                await send_json(send, answer)
        except ClientGoneError:
            # Leaving the block has cancelled the call of the core, and nobody reads an answer.
            context.client_gone = True

    async def _stream(
        self,
        request: ChatRequest,
        send: Send,
        context: RequestContext,
        watch: ClientWatch,
        writer: Writer | None,
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
            if writer is None:
                await self._relay(stream, events)
            else:
                await self._translate(stream, events, request, writer)
        except Exception as exc:
            if not events.is_open:
                raise
            error = to_edge_error(exc, context)
            context.error_code = error.code
            if writer is None:
                await events.end(sse.frame(stream_frame(error)) + sse.DONE)
            else:
                await events.end(writer.failed(error, context.request_id))
        else:
            await events.end(_end(request, writer))
        finally:
            stream.close()

    async def _relay(self, stream: ChatStream, events: sse.EventStream) -> None:
        while (data := await stream.batch(self._keep_alive_s)) != b"":
            await events.write(sse.KEEP_ALIVE if data is None else data)

    async def _translate(
        self, stream: ChatStream, events: sse.EventStream, request: ChatRequest, writer: Writer
    ) -> None:
        while (data := await stream.batch(self._keep_alive_s)) != b"":
            if data is None:
                await events.write(sse.KEEP_ALIVE)
            elif text := (writer.native_events if request.is_native else writer.events)(data):
                await events.write(text)


def _end(request: ChatRequest, writer: Writer | None) -> bytes:
    if writer is None:
        return sse.DONE
    return writer.native_end() if request.is_native else writer.end()
