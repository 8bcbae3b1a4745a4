"""RelayService: many chat completions over one stream per edge worker, and one by an RPC of its own.

The stream exists because an RPC costs more than the rest of a request together. Both call the same service as
ChatService, with requests and answers as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable

from maniac_common.hop.calls import UNIMPLEMENTED, Status
from maniac_common.hop.server import Request
from maniac_gateway.v1 import relay_pb2

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.edges import is_local
from maniac_core.rpc.boundary.errors import abort
from maniac_core.rpc.boundary.heads import Context, head_metadata
from maniac_core.rpc.boundary.messages import Unreadable
from maniac_core.rpc.boundary.methods import unary, with_status
from maniac_core.rpc.relay.frames import (
    HOP,
    VERSION,
    Frame,
    RequestReader,
    draining,
    not_an_edge,
    other_version,
)
from maniac_core.rpc.relay.link import Link
from maniac_core.rpc.relay.outlets import Outlet, RpcOutlet, StreamOutlet, status_of
from maniac_core.services.capture.capture import Call as Admitted
from maniac_core.services.chat.counting import TokenCounter
from maniac_core.services.chat.idempotency import IdempotentCompletions

_METHOD = "/maniac_gateway.v1.RelayService/Relay"
# An edge has measured the JSON that it sends. What others send may become a hundred times as large when it is decoded.
_MAX_OPENINGS = 200_000


class RelayServicer:
    """Serves the streams of all edge workers."""

    def __init__(
        self,
        gate: Gate,
        completions: IdempotentCompletions,
        reader: RequestReader,
        counter: TokenCounter,
    ) -> None:
        self._gate = gate
        self._completions = completions
        self._reader = reader
        self._counter = counter
        self._links: set[Link] = set()
        self._is_draining = False
        self.local_offer = ""
        """File of the socket, beside the gRPC port's, where the event loop itself takes relays; empty: none."""
        self.offer = ""
        """Port of the same for edges on other machines; empty: none."""

    async def Relay(
        self,
        request_iterator: AsyncIterable[relay_pb2.RelayRequest | Unreadable],
        context: Context,
    ) -> None:
        """Serve one edge worker until its stream ends; its running calls are then cancelled."""
        metadata = tuple(context.invocation_metadata() or ())
        is_from_here = is_local(context)
        # Before anything is read of what the caller sends.
        refusal = self._refusal(metadata, is_local=is_from_here)
        if refusal is not None:
            await abort(context, refusal)
        outlet = RpcOutlet()
        link = self._open(outlet)
        reader = asyncio.create_task(outlet.read(request_iterator, link))
        offer = self.local_offer if is_from_here else self.offer
        try:
            # Tells the edge at once that the stream stands.
            await context.send_initial_metadata((VERSION, (HOP, offer)) if offer else (VERSION,))
            await outlet.write(context, link)
        finally:
            reader.cancel()
            self._end(link)
        if outlet.refusal is not None:
            await abort(context, outlet.refusal)

    def accept(self, request: Request) -> None:
        """Serve one edge worker as `Relay` does, by a stream that the event loop itself carries."""
        stream = request.stream
        if request.method != _METHOD:
            stream.finish(Status(UNIMPLEMENTED, "Here is the relay only; see the gRPC port."))
            return
        refusal = self._refusal(request.metadata, is_local=request.is_local)
        if refusal is not None:
            stream.finish(status_of(refusal))
            return
        outlet = StreamOutlet(stream, lambda: self._end(link))
        link = outlet.link = self._open(outlet)
        stream.begin((VERSION,), outlet)

    def _refusal(
        self, metadata: tuple[tuple[str, str | bytes], ...], *, is_local: bool
    ) -> GatewayError | None:
        if not self._gate.is_edge(dict(metadata), is_local=is_local):
            return not_an_edge()
        if VERSION not in metadata:
            return other_version()
        return draining() if self._is_draining else None

    def _open(self, outlet: Outlet) -> Link:
        link = Link(self._gate, self._completions, self._reader, outlet)
        self._links.add(link)
        return link

    def _end(self, link: Link) -> None:
        link.cancel_all()
        self._links.discard(link)

    @with_status
    async def Call(self, request: relay_pb2.CallRequest, context: Context) -> None:
        """Answer one request."""
        call = await self._gate.admit(context)
        start = request.start
        metadata = dict(context.invocation_metadata() or ())
        if not self._gate.is_edge(metadata, is_local=is_local(context)):
            _check_openings(start.body)
        with self._gate.counting(call):
            asked = await self._reader.read(call, start)
            if not start.stream:
                completion = await self._completions.create(call, asked.request)
                await context.send_initial_metadata(head_metadata(call))
                frame = Frame()
                asked.answer(frame, completion)
                await context.write(relay_pb2.CallResponse(frame=frame))
                return
            has_begun = False
            async with contextlib.aclosing(
                self._completions.stream(call, asked.request)
            ) as batches:
                async for batch in batches:
                    if not has_begun:
                        has_begun = True
                        await context.send_initial_metadata(head_metadata(call))
                    frame = Frame()
                    asked.events(frame, batch)
                    await context.write(relay_pb2.CallResponse(frame=frame))

    @unary
    async def CountTokens(
        self, request: relay_pb2.CountTokensRequest, call: Admitted
    ) -> relay_pb2.CountTokensResponse:
        """Say how large a prompt is."""
        asked = await self._reader.read(call, request.start)
        count, is_estimated = await self._counter.count(call, asked.request)
        return relay_pb2.CountTokensResponse(input_tokens=count, is_estimated=is_estimated)

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
