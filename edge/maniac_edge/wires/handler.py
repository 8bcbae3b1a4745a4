"""Requests for completions on any wire: read, translated, answered."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from litestar.types import Receive, Scope, Send

from maniac_edge.context import RequestContext
from maniac_edge.core.chat import ChatRequest
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.wires.answerer import Answerer
from maniac_edge.wires.base import Wire, Writer

# Above it a request is read in a thread, and goes to the core by an RPC of its own: frames of the relay are smaller.
_LARGE_BYTES = 256 * 1024
# One after the other, so that they take turns with everything else and not with each other.
_large = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-request")


class WireHandler:
    """Answers the requests of one wire."""

    def __init__(self, wire: Wire, answerer: Answerer, bodies: BodyReader) -> None:
        self._wire = wire
        self._answerer = answerer
        self._bodies = bodies

    async def create(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        """Answer one request.

        Raises:
            EdgeError: nothing was sent yet.
            ClientGoneError: the client closed its connection before its request was read.
        """
        body = await self._bodies.read(scope, receive)
        if len(body) <= _LARGE_BYTES:
            request, writer = self._parse(body, scope)
        else:
            loop = asyncio.get_running_loop()
            request, writer = await loop.run_in_executor(_large, self._parse, body, scope)
        await self._answerer.answer(request, scope, send, context, writer)

    def _parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, Writer | None]:
        request, writer = self._wire.parse(body, scope)
        size = len(request.start.body) + len(request.start.native)
        if len(body) > _LARGE_BYTES or size > _LARGE_BYTES:
            request.pack()
        return request, writer
