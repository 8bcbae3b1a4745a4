"""What carries a link: an RPC of gRPC's, or a stream that the event loop reads and writes itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Protocol, cast

from maniac_common.hop.calls import WELL, Status
from maniac_common.hop.hpack import Headers
from maniac_common.hop.stream import Stream
from maniac_gateway.v1 import relay_pb2

from maniac_core.domain.errors import GatewayError
from maniac_core.rpc.boundary.heads import Context
from maniac_core.rpc.boundary.messages import Unreadable, readable, reader

_read = reader(relay_pb2.RelayRequest.DESCRIPTOR)


class Outlet(Protocol):
    """Where a link writes."""

    @property
    def is_ready(self) -> bool:
        """Whether there is room for a message; if not, the link's `resume` is called later."""

    def send(self, message: relay_pb2.RelayResponse) -> None:
        """Send a message, at the next flush at the latest."""

    def flush(self) -> None:
        """Write what was sent."""

    def end(self, refusal: GatewayError | None) -> None:
        """End the stream, after what was sent. `refusal`: why, if the edge has not asked for it."""


class CarriedLink(Protocol):
    """A link, as what carries it sees it."""

    def receive(self, message: relay_pb2.RelayRequest) -> None:
        """Take a message of the edge; one that no edge sends is refused."""

    def close(self, refusal: GatewayError | None = None) -> None:
        """The edge sends nothing more, or nothing more is taken of it."""

    def resume(self) -> None:
        """There is room again."""

    def cancel_all(self) -> None:
        """Nobody reads any more."""


class RpcOutlet:
    """A link by an RPC."""

    def __init__(self) -> None:
        self.refusal: GatewayError | None = None
        """Why the stream ended; None: the edge ended it."""
        self._messages: deque[relay_pb2.RelayResponse] = deque()
        self._wake = asyncio.Event()
        self._is_over = False

    @property
    def is_ready(self) -> bool:
        """Whether nothing is being written."""
        return not self._messages

    def send(self, message: relay_pb2.RelayResponse) -> None:
        """Queue a message."""
        self._messages.append(message)
        self._wake.set()

    def flush(self) -> None:
        """Nothing: the writer has been woken."""

    def end(self, refusal: GatewayError | None) -> None:
        """End the stream when all is written."""
        self.refusal = refusal
        self._is_over = True
        self._wake.set()

    async def read(
        self, messages: AsyncIterable[relay_pb2.RelayRequest | Unreadable], link: CarriedLink
    ) -> None:
        """Give the edge's messages to the link, until the edge closes its side."""
        try:
            async for message in messages:
                link.receive(readable(message))
        except GatewayError as error:
            link.close(error)
        finally:
            link.close()

    async def write(self, context: Context, link: CarriedLink) -> None:
        """Write until the link ends the stream."""
        while True:
            while self._messages:
                await context.write(self._messages[0])
                self._messages.popleft()
            if self._is_over:
                return
            link.resume()
            if not self._messages and not self._is_over:
                self._wake.clear()
                await self._wake.wait()


class StreamOutlet:
    """A link by a stream of the event loop; also what hears of the stream."""

    link: CarriedLink

    def __init__(self, stream: Stream, on_over: Callable[[], None]) -> None:
        """`on_over` is called once, when the stream has ended."""
        self.flush = stream.flush
        self._stream = stream
        self._on_over = on_over

    @property
    def is_ready(self) -> bool:
        """Whether the edge reads what is sent."""
        return self._stream.is_ready

    def send(self, message: relay_pb2.RelayResponse) -> None:
        """Send a message at the next flush."""
        self._stream.send(message.SerializeToString())

    def end(self, refusal: GatewayError | None) -> None:
        """End the stream after what was sent."""
        self._stream.finish(WELL if refusal is None else status_of(refusal))
        self._stream.flush()
        self._on_over()

    def head(self, metadata: Headers) -> None:
        """Nothing: a server answers."""

    def message(self, data: bytes) -> None:
        """A message of the edge came."""
        try:
            self.link.receive(cast(relay_pb2.RelayRequest, readable(_read(data))))
        except GatewayError as error:
            self.link.close(error)

    def half_closed(self) -> None:
        """The edge has closed its side."""
        self.link.close()

    def ready(self) -> None:
        """The edge reads again."""
        self.link.resume()

    def ended(self, status: Status) -> None:
        """The edge or the connection is gone."""
        del status
        self._on_over()


def status_of(refusal: GatewayError) -> Status:
    """Return the status of a stream that is refused."""
    return Status(refusal.mapping.grpc_code, refusal.message)
