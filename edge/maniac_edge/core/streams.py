"""What carries a link: a stream that the event loop reads and writes itself, or an RPC of gRPC's."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from maniac_common.hop import client as hop
from maniac_common.hop.calls import INTERNAL, OK, Status
from maniac_common.hop.hpack import Headers
from maniac_common.hop.stream import Stream
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc

from maniac_edge.core.channel import CoreChannels, Metadata

_METHOD = "/maniac_gateway.v1.RelayService/Relay"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class StreamError(Exception):
    """A stream was refused, or broke."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class Receiver(Protocol):
    """A link, as its stream sees it."""

    def receive(self, message: relay_pb2.RelayResponse) -> None:
        """Take a message of the core."""

    def resume(self) -> None:
        """There is room for messages again."""


class RelayStream(Protocol):
    """A stream of the relay, on a connection of its own."""

    @property
    def is_ready(self) -> bool:
        """Whether there is room for a message; if not, the receiver's `resume` is called later."""

    async def connect(self) -> dict[str, str]:
        """Wait until the core has accepted the stream, and return what it says then.

        Raises:
            StreamError: it cannot be reached, or refuses.
        """

    async def run(self, receiver: Receiver) -> None:
        """Receive until the stream ends.

        Raises:
            StreamError: it did not end well.
        """

    def send(self, message: relay_pb2.RelayRequest) -> None:
        """Send a message, at the next flush at the latest."""

    def flush(self) -> None:
        """Write what was sent."""

    def half_close(self) -> None:
        """Send nothing more."""

    async def close(self) -> None:
        """Disconnect."""


class RpcStream:
    """A stream by an RPC; every core has it."""

    def __init__(self, target: str, channels: CoreChannels, metadata: Metadata) -> None:
        self._channel = channels.open(target)
        self._call = relay_pb2_grpc.RelayServiceStub(self._channel).Relay(metadata=metadata)
        self._messages: deque[relay_pb2.RelayRequest] = deque()
        self._is_half_closed = False
        self._wake = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether nothing is being written."""
        return not self._messages

    async def connect(self) -> dict[str, str]:
        """Wait for the initial metadata; see RelayStream."""
        try:
            metadata = await self._call.initial_metadata()
            if self._call.done():
                # Raises its status: there is nothing to read.
                await self._call.read()
        except grpc.aio.AioRpcError as err:
            raise _stream_error(err) from err
        return {key: value for key, value in metadata or () if isinstance(value, str)}

    async def run(self, receiver: Receiver) -> None:
        """Receive; see RelayStream."""
        writer = asyncio.create_task(self._write(receiver))
        try:
            async for message in self._call:
                receiver.receive(message)
        except grpc.aio.AioRpcError as err:
            raise _stream_error(err) from err
        finally:
            writer.cancel()

    def send(self, message: relay_pb2.RelayRequest) -> None:
        """Queue a message."""
        self._messages.append(message)
        self._wake.set()

    def flush(self) -> None:
        """Nothing: the writer has been woken."""

    def half_close(self) -> None:
        """Close our side when all is written."""
        self._is_half_closed = True
        self._wake.set()

    async def close(self) -> None:
        """Disconnect."""
        self._call.cancel()
        await self._channel.close()

    async def _write(self, receiver: Receiver) -> None:
        # Where writing fails, the reader learns of it as well, and every call fails.
        with contextlib.suppress(
            grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError
        ):
            while True:
                while self._messages:
                    await self._call.write(self._messages[0])
                    self._messages.popleft()
                if self._is_half_closed:
                    await self._call.done_writing()
                    return
                receiver.resume()
                if not self._messages and not self._is_half_closed:
                    self._wake.clear()
                    await self._wake.wait()


class HopStream:
    """A stream of the event loop; also what hears of it."""

    def __init__(self, target: str, offer: str, channels: CoreChannels, metadata: Metadata) -> None:
        """`offer`: where the core takes such streams, as it said over gRPC.

        Raises:
            ValueError: that is no place.
        """
        self._address = _address(target, offer)
        self._channels = channels
        self._metadata = metadata
        self._client: hop.Client | None = None
        self._stream = cast(Stream, None)
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[dict[str, str] | Status] = loop.create_future()
        self._status: asyncio.Future[Status] = loop.create_future()

    @property
    def is_ready(self) -> bool:
        """Whether the core reads what is sent."""
        return self._stream.is_ready

    async def connect(self) -> dict[str, str]:
        """Connect, and wait for the initial metadata; see RelayStream."""
        tls = None if self._address.path else self._channels.tls
        try:
            self._client = await hop.connect(
                self._address,
                _METHOD,
                self._metadata,
                self,
                tls=tls,
                server_name=self._channels.server_name,
            )
        except OSError as err:
            raise StreamError(grpc.StatusCode.UNAVAILABLE, str(err)) from err
        self._stream = self._client.stream
        answer = await self._answer
        if isinstance(answer, Status):
            raise _status_error(answer)
        return answer

    async def run(self, receiver: Receiver) -> None:
        """Receive; see RelayStream."""
        self._receiver = receiver
        early, self._early = self._early, []
        for data in early:
            self.message(data)
        receiver.resume()
        status = await self._status
        if status.code != OK:
            raise _status_error(status)

    def send(self, message: relay_pb2.RelayRequest) -> None:
        """Send a message at the next flush."""
        self._stream.send(message.SerializeToString())

    def flush(self) -> None:
        """Write what was sent."""
        self._stream.flush()

    def half_close(self) -> None:
        """Close our side after what was sent."""
        self._stream.half_close()

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close()

    def head(self, metadata: Headers) -> None:
        """The core has accepted the stream."""
        if not self._answer.done():
            self._answer.set_result(dict(metadata))

    def message(self, data: bytes) -> None:
        """A message of the core came."""
        if self._receiver is None:
            # The link has not begun to run yet.
            self._early.append(data)
            return
        try:
            message = relay_pb2.RelayResponse.FromString(data)
        except DecodeError:
            self._stream.reset()
            self.ended(Status(INTERNAL, "a message cannot be parsed"))
            return
        self._receiver.receive(message)

    def half_closed(self) -> None:
        """Nothing: that is the server's."""

    def ready(self) -> None:
        """The core reads again."""
        if self._receiver is not None:
            self._receiver.resume()

    def ended(self, status: Status) -> None:
        """The stream is over."""
        for waiting in (self._answer, self._status):
            if not waiting.done():
                waiting.set_result(status)


def _address(target: str, offer: str) -> hop.Address:
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        if "/" in offer:
            raise ValueError(f"{offer!r} is not the name of a file")
        path = rest.removeprefix("//") if rest.startswith("///") else rest
        return hop.Address(path=f"{path.rpartition('/')[0] or '.'}/{offer}")
    port = int(offer)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    # `ipv4:1.2.3.4:4141`, `ipv6:[::1]:4141`.
    return hop.Address(host=rest.rpartition(":")[0].strip("[]"), port=port)


def _stream_error(error: grpc.aio.AioRpcError) -> StreamError:
    return StreamError(error.code(), error.details() or "")


def _status_error(status: Status) -> StreamError:
    return StreamError(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
