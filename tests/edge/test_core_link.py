"""The stream to a core: what many calls send at once arrives."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Self

import grpc
import pytest
from maniac_common import supervised
from maniac_common.hop.calls import UNAVAILABLE, Status
from maniac_common.hop.hpack import Headers
from maniac_common.hop.server import Request, Server
from maniac_common.hop.stream import Stream
from maniac_edge.config import EdgeConfig
from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.link import Link
from maniac_edge.core.links import CoreLinks
from maniac_edge.core.streams import StreamError
from maniac_edge.core_address import CoreTarget
from maniac_edge.errors import EdgeError
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc

_CORE_TAKES_BYTES = 64 * 1024 * 1024
_PROMPT = b"x" * 250_000


_METHOD = "/maniac_gateway.v1.RelayService/Relay"
_VERSION = ("x-maniac-relay-version", "2")


def _ends(message: relay_pb2.RelayRequest) -> relay_pb2.RelayResponse:
    return relay_pb2.RelayResponse(
        frames=[
            relay_pb2.RelayResponseFrame(call_id=frame.call_id, end=relay_pb2.RelayEnd())
            for frame in message.frames
        ]
    )


class _Relay(relay_pb2_grpc.RelayServiceServicer):
    """A core that answers every call at once."""

    def __init__(self, offer: str) -> None:
        self.offer = offer
        self.messages = 0

    async def Relay(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[relay_pb2.RelayRequest], context: Any
    ) -> AsyncGenerator[relay_pb2.RelayResponse, None]:
        offer = (("x-maniac-hop", self.offer),) if self.offer else ()
        await context.send_initial_metadata((_VERSION, *offer))
        async for message in request_iterator:
            self.messages += 1
            yield _ends(message)


class _HopRelay:
    """The same, by a stream of the event loop."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.messages: list[relay_pb2.RelayRequest] = []
        self.answers = True
        self.has_come = asyncio.Event()
        self.is_half_closed = asyncio.Event()
        self.is_over = asyncio.Event()

    def head(self, metadata: Headers) -> None:
        """Nothing."""

    def message(self, data: bytes) -> None:
        message = relay_pb2.RelayRequest.FromString(data)
        self.messages.append(message)
        self.has_come.set()
        if self.answers:
            self.say(_ends(message))

    def say(self, message: relay_pb2.RelayResponse) -> None:
        self.stream.send(message.SerializeToString())
        self.stream.flush()

    def half_closed(self) -> None:
        self.is_half_closed.set()
        self.stream.finish()
        self.stream.flush()

    def ready(self) -> None:
        """Nothing."""

    def ended(self, status: Status) -> None:
        del status
        self.is_over.set()


class _Core:
    """A core that offers both, unless `offer` says that the hop is elsewhere, or "" that there is none."""

    def __init__(self, offer: str | None = None, *, answers: bool = True) -> None:
        self.streams: list[_HopRelay] = []
        self._offer = offer
        self._answers = answers
        self.hop = Server(self._accept, max_message_bytes=_CORE_TAKES_BYTES)
        self.refusal: Status | None = None

    def _accept(self, request: Request) -> None:
        assert request.method == _METHOD
        assert _VERSION in request.metadata
        if self.refusal is not None:
            request.stream.finish(self.refusal)
            return
        relay = _HopRelay(request.stream)
        relay.answers = self._answers
        self.streams.append(relay)
        request.stream.begin((_VERSION,), relay)

    async def __aenter__(self) -> Self:
        port = await self.hop.listen("127.0.0.1", 0, None)
        self.rpc = _Relay(str(port) if self._offer is None else self._offer)  # type: ignore[abstract]
        self._grpc = grpc.aio.server(
            options=[("grpc.max_receive_message_length", _CORE_TAKES_BYTES)]
        )
        relay_pb2_grpc.add_RelayServiceServicer_to_server(self.rpc, self._grpc)
        self.target = f"ipv4:127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        await self._grpc.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hop.stop(0)
        await self._grpc.stop(None)


class _Call:
    id = 0

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_taken: bool | None = None

    def receive(self, frame: relay_pb2.RelayResponseFrame) -> None:
        del frame
        self.ended.set_result(None)

    def fail(self, failure: EdgeError, *, is_taken: bool) -> None:
        self.is_taken = is_taken
        if not self.ended.done():
            self.ended.set_exception(failure)


@contextlib.asynccontextmanager
async def _linked(
    core: _Core, on_draining: Callable[[Link], None] = lambda _: None
) -> AsyncIterator[tuple[Link, asyncio.Task[None]]]:
    link = Link(core.target, CoreChannels(EdgeConfig(core=core.target)), on_draining)
    async with asyncio.timeout(60):
        await link.connect()
        running = asyncio.create_task(link.run())
        try:
            yield link, running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await link.close()


def _open(link: Link, body: bytes = b"{}") -> _Call:
    call = _Call()
    link.open(call, relay_pb2.RelayStart(body=body))
    return call


@pytest.mark.parametrize("offer", ["", None])
async def test_large_requests_that_come_together_are_more_than_one_message(
    offer: str | None,
) -> None:
    """A core takes messages of a limited size, and one that is larger would end all calls of the stream."""
    async with _Core(offer) as core, _linked(core) as (link, _):
        calls = [_open(link, _PROMPT) for _ in range(_CORE_TAKES_BYTES // len(_PROMPT) + 1)]
        await asyncio.gather(*(call.ended for call in calls))
        assert bool(core.streams) == (offer is None)


async def test_a_core_that_offers_the_hop_is_called_by_it() -> None:
    """And gRPC's stream, by which it said so, carries nothing."""
    async with _Core() as core, _linked(core) as (link, _):
        await _open(link).ended
        assert len(core.streams[0].messages) == 1
        assert core.rpc.messages == 0


@pytest.mark.parametrize(
    "offer", ["1", "0", "70000", "../core.hop", "no port", "refused", "silent"]
)
async def test_without_the_hop_the_relay_goes_by_grpc(
    offer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An offer that cannot be reached, is none, is refused, or is of something else."""
    caplog.set_level("INFO")

    async def close(_: object, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with _Core(None if offer == "refused" else offer) as core:
        core.refusal = Status(UNAVAILABLE, "not here")
        if offer == "silent":
            other = await asyncio.start_server(close, "127.0.0.1", 0)
            core.rpc.offer = str(other.sockets[0].getsockname()[1])
        async with _linked(core) as (link, _):
            await _open(link).ended
            assert core.rpc.messages == 1
        if offer == "silent":
            other.close()
    assert any("relay" in record.message for record in caplog.records)


async def test_a_core_that_breaks_off_fails_what_it_had_at_once() -> None:
    """What was sent may have been done; the link learns that it is over."""
    async with _Core(answers=False) as core, _linked(core) as (link, running):
        call = _open(link)
        (stream,) = core.streams
        await stream.has_come.wait()
        broke = time.monotonic()
        await core.hop.stop(0)
        with pytest.raises(StreamError) as caught:
            await running
        assert time.monotonic() - broke < 0.1
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        await link.close()
        assert call.is_taken
        call.ended.exception()


async def test_a_core_that_drains_is_left_after_the_last_call() -> None:
    drains = asyncio.Event()
    async with (
        _Core(answers=False) as core,
        _linked(core, lambda _: drains.set()) as (link, running),
    ):
        call = _open(link)
        (stream,) = core.streams
        await stream.has_come.wait()
        stream.say(relay_pb2.RelayResponse(draining=True))
        stream.say(relay_pb2.RelayResponse(frames=[relay_pb2.RelayResponseFrame(call_id=99)]))
        await drains.wait()
        assert not stream.is_half_closed.is_set()
        link.forget(call.id)
        await stream.is_half_closed.wait()
        await running


async def test_a_core_that_does_not_read_has_not_taken_what_waits() -> None:
    """So it may be given to another core."""
    async with _Core(answers=False) as core, _linked(core) as (link, _):
        (stream,) = core.streams
        # As if the core's window were used up.
        link_stream: Any = link._stream
        link_stream._client.stream.send_window = 0
        sent = _open(link)
        # After the turn of the loop in which it is written.
        await asyncio.sleep(0)
        waiting = _open(link)
        await asyncio.sleep(0)
        await link.close()
        assert (sent.is_taken, waiting.is_taken) == (True, False)
        for call in (sent, waiting):
            call.ended.exception()
        await stream.is_over.wait()


async def test_a_message_that_is_none_ends_the_link() -> None:
    async with _Core(answers=False) as core, _linked(core) as (_, running):
        (stream,) = core.streams
        stream.stream.send(b"\xff\xff")
        stream.stream.flush()
        with pytest.raises(StreamError):
            await running
        await stream.is_over.wait()


@pytest.mark.parametrize("place", ["addresses", "open"])
async def test_a_mistake_while_connecting_is_made_good(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In looking a core up, or in opening a stream to it; the log says what happened."""
    monkeypatch.setattr(supervised, "_FIRST_PAUSE_S", 0.001)
    owner = CoreTarget if place == "addresses" else CoreChannels
    right, mistakes = getattr(owner, place), [AttributeError("odd")]

    def mistaken(*arguments: Any) -> Any:
        if mistakes:
            raise mistakes.pop()
        return right(*arguments)

    monkeypatch.setattr(owner, place, mistaken)
    async with _Core() as core:
        links = CoreLinks(CoreChannels(EdgeConfig(core=core.target)))
        await links.connect()
        async with asyncio.timeout(60):
            while (link := links.next()) is None:
                await links.find()
        await _open(link).ended
        await links.close()
    assert "failed and starts again" in caplog.text
