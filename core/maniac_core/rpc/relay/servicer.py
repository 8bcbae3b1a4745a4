"""RelayService: many chat completions over one stream per edge worker, and one by an RPC of its own.

The stream exists because an RPC costs more than the rest of a request together. Both call the same service as
ChatService, with requests and answers as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable

from maniac_gateway.v1 import relay_pb2

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.errors import abort
from maniac_core.rpc.boundary.heads import Context, head_metadata
from maniac_core.rpc.boundary.messages import Unreadable
from maniac_core.rpc.boundary.methods import with_status
from maniac_core.rpc.chat.json_answer import ChunkEncoder, completion_to_json
from maniac_core.rpc.relay.frames import (
    VERSION,
    Frame,
    draining,
    not_an_edge,
    other_version,
    read_request,
)
from maniac_core.rpc.relay.link import Link
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.history.replay import Replayer

# An edge has measured the JSON that it sends. What others send may become a hundred times as large when it is decoded.
_MAX_OPENINGS = 200_000


class RelayServicer:
    """Serves the streams of all edge workers."""

    def __init__(self, gate: Gate, completions: IdempotentCompletions, replayer: Replayer) -> None:
        self._gate = gate
        self._completions = completions
        self._replayer = replayer
        self._links: set[Link] = set()
        self._is_draining = False

    async def Relay(
        self,
        request_iterator: AsyncIterable[relay_pb2.RelayRequest | Unreadable],
        context: Context,
    ) -> None:
        """Serve one edge worker until its stream ends; its running calls are then cancelled."""
        # Before anything is read of what the caller sends.
        if not self._gate.is_edge(context):
            await abort(context, not_an_edge())
        if VERSION not in (context.invocation_metadata() or ()):
            await abort(context, other_version())
        if self._is_draining:
            await abort(context, draining())
        link = Link(self._gate, self._completions, self._replayer)
        self._links.add(link)
        reader = asyncio.create_task(link.read(request_iterator))
        try:
            # Tells the edge at once that the stream stands.
            await context.send_initial_metadata((VERSION,))
            await link.write(context)
        finally:
            reader.cancel()
            link.cancel_all()
            self._links.discard(link)
        if link.refusal is not None:
            await abort(context, link.refusal)

    @with_status
    async def Call(self, request: relay_pb2.CallRequest, context: Context) -> None:
        """Answer one request."""
        call = await self._gate.admit(context)
        start = request.start
        if not self._gate.is_edge(context):
            _check_openings(start.body)
        with self._gate.counting(call):
            asked = await read_request(self._replayer, call, start)
            if not start.stream:
                completion = await self._completions.create(call, asked)
                await context.send_initial_metadata(head_metadata(call))
                frame = Frame(answer=completion_to_json(completion))
                await context.write(relay_pb2.CallResponse(frame=frame))
                return
            encoder = ChunkEncoder(include_usage=asked.include_usage)
            has_begun = False
            async with contextlib.aclosing(self._completions.stream(call, asked)) as batches:
                async for batch in batches:
                    if not has_begun:
                        has_begun = True
                        await context.send_initial_metadata(head_metadata(call))
                    frame = Frame(events=encoder.events(batch))
                    await context.write(relay_pb2.CallResponse(frame=frame))

    def drain(self) -> None:
        """Take no new calls or streams; each edge ends its stream when the calls that run on it have ended."""
        self._is_draining = True
        for link in self._links:
            link.drain()


def _check_openings(body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") > _MAX_OPENINGS:
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE,
            f"The request holds more than {_MAX_OPENINGS} objects and arrays. Send less at once.",
        )
