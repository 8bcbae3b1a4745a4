"""Several cores behind one edge: how they are found, and what becomes of a request when one of them goes away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from maniac_edge.core_address import CoreTarget, parse_target
from maniac_gateway.v1 import errors_pb2, relay_pb2, relay_pb2_grpc
from ports import free_ports
from relayed import answer_of, events_of

URL = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
Reply = Callable[[relay_pb2.RelayRequestFrame], AsyncIterator[relay_pb2.RelayResponse]]


class Relay(relay_pb2_grpc.RelayServiceServicer):
    """The relay of a scripted core: one link, whose calls are answered one after the other."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.reply: Reply = self.answer
        self.version: tuple[tuple[str, str], ...] = (("x-maniac-relay-version", "2"),)
        self.starts: list[relay_pb2.RelayStart] = []
        self.linked = asyncio.Event()
        self.closed = asyncio.Event()
        """Set once the edge has closed its side."""

    async def Relay(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[relay_pb2.RelayRequest], context: Any
    ) -> AsyncGenerator[relay_pb2.RelayResponse, None]:
        """Answer frames."""
        await context.send_initial_metadata(self.version)
        self.linked.set()
        async for message in request_iterator:
            for frame in message.frames:
                if frame.HasField("start"):
                    self.starts.append(frame.start)
                    async for response in self.reply(frame):
                        yield response
                elif frame.HasField("access"):
                    granted = relay_pb2.RelayResponseFrame(
                        call_id=frame.call_id, end=relay_pb2.RelayEnd()
                    )
                    yield relay_pb2.RelayResponse(frames=[granted])
        self.closed.set()

    async def Call(  # noqa: N802 - the contract's name
        self, _request: relay_pb2.CallRequest, context: Any
    ) -> AsyncGenerator[relay_pb2.CallResponse, None]:
        """Answer as gRPC does where a core does not have the method."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        yield relay_pb2.CallResponse()

    async def CountTokens(  # noqa: N802 - as above
        self, _request: relay_pb2.CountTokensRequest, context: Any
    ) -> relay_pb2.CountTokensResponse:
        """Answer as gRPC does where a core does not have the method."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        return relay_pb2.CountTokensResponse()

    async def answer(
        self, frame: relay_pb2.RelayRequestFrame
    ) -> AsyncIterator[relay_pb2.RelayResponse]:
        """Answer whole, or in one chunk and the end."""
        parts: list[dict[str, Any]] = [{"answer": answer_of(self.core.completion())}]
        if frame.start.stream:
            chunk = self.core.chunk(role="assistant", content="Hello.", finish_reason="stop").chunk
            events = events_of(chunk, include_usage=False)
            parts = [{"events": events}, {"end": relay_pb2.RelayEnd()}]
        frames = [relay_pb2.RelayResponseFrame(call_id=frame.call_id, **part) for part in parts]
        yield relay_pb2.RelayResponse(frames=frames)

    async def refuse(
        self, frame: relay_pb2.RelayRequestFrame
    ) -> AsyncIterator[relay_pb2.RelayResponse]:
        """Take no call: the core is about to stop."""
        error = errors_pb2.Error(
            reason=errors_pb2.ERROR_REASON_DEPENDENCY_UNAVAILABLE, message="Stopping."
        )
        refusal = relay_pb2.RelayResponseFrame(call_id=frame.call_id, error=error, not_taken=True)
        yield relay_pb2.RelayResponse(frames=[refusal], draining=True)

    async def die(
        self, frame: relay_pb2.RelayRequestFrame
    ) -> AsyncIterator[relay_pb2.RelayResponse]:
        """Break off with a call under way."""
        del frame
        # Not from here: it would wait for itself.
        self.death = asyncio.create_task(self.core.server.stop(0))
        await asyncio.Event().wait()
        yield relay_pb2.RelayResponse()


@asynccontextmanager
async def running(
    shared_core: Any, count: int = 2
) -> AsyncGenerator[tuple[str, list[Relay]], None]:
    """Run cores; give what `[edge] core` says, and their relays."""
    ports = free_ports(count)
    relays = [Relay(type(shared_core)(f"127.0.0.1:{port}")) for port in ports]
    try:
        for relay in relays:
            await relay.core.start(relay)
        yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports), relays
    finally:
        for relay in relays:
            await relay.core.server.stop(0)
            # It must not outlive the event loop, and the garbage collector may be late.
            del relay.core.server


@asynccontextmanager
async def linked(
    start_edge: Any, target: str, relays: list[Relay]
) -> AsyncGenerator[httpx.AsyncClient, None]:
    """Run an edge that has found its cores."""
    async with start_edge(target) as edge, edge.client() as client:
        for relay in relays:
            await asyncio.wait_for(relay.linked.wait(), 60)
        yield client


async def ask(client: httpx.AsyncClient, *, stream: bool = False) -> httpx.Response:
    return await client.post(URL, json={**REQUEST, "stream": stream})


async def test_requests_are_spread_over_all_cores(start_edge: Any, shared_core: Any) -> None:
    """Each core gets its share."""
    async with (
        running(shared_core) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        answers = [await ask(client, stream=number % 2 == 0) for number in range(20)]
        # Both links are there, but the edge may have learned of one a little later than of the other.
        shares = [len(relay.starts) for relay in relays]

    assert [answer.status_code for answer in answers] == [200] * 20
    assert sum(shares) == 20
    assert min(shares) >= 8


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_that_a_stopping_core_refuses_goes_to_another(
    start_edge: Any, shared_core: Any, stream: bool
) -> None:
    """The client sees an answer; the core that stops gets nothing more, and its stream is closed by the edge."""
    async with (
        running(shared_core) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        stopping, other = relays
        stopping.reply = stopping.refuse
        while not stopping.starts:
            answer = await ask(client, stream=stream)
            assert answer.status_code == 200
            assert "Hello." in answer.text
        await asyncio.wait_for(stopping.closed.wait(), 60)
        refused = [start.request_id for start in stopping.starts]

    assert len(refused) == 1
    assert refused[0] in [start.request_id for start in other.starts]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_that_dies_with_its_core_is_not_repeated(
    start_edge: Any, shared_core: Any, stream: bool
) -> None:
    """Its provider may have been called: the client is told to try again, and the next one is served elsewhere."""
    async with (
        running(shared_core) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        dying, other = relays
        dying.reply = dying.die
        while not dying.starts:
            lost = await ask(client, stream=stream)
        answers = [await ask(client, stream=stream) for _ in range(5)]

    assert lost.status_code == 503
    assert lost.headers["retry-after"] == "1"
    assert "x-should-retry" not in lost.headers
    assert dying.starts[0].request_id not in [start.request_id for start in other.starts]
    assert [answer.status_code for answer in answers] == [200] * 5


async def test_the_only_core_that_stops_is_a_503_and_is_found_when_it_is_back(
    start_edge: Any, shared_core: Any
) -> None:
    """A request finds a core that has just come back; it does not have to wait for the edge's next try."""
    async with (
        running(shared_core, 1) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        (relay,) = relays
        await relay.core.server.stop(0)
        down = await ask(client)
        await relay.core.start(relay)
        async with asyncio.timeout(60):
            while (back := await ask(client)).status_code == 503:
                continue

    assert down.status_code == 503
    assert back.status_code == 200


async def test_a_core_of_an_earlier_version_is_a_503_that_says_so(
    start_edge: Any, shared_core: Any
) -> None:
    """It would not understand the frames, so it gets none, and one line of the log says what to do."""
    async with running(shared_core, 1) as (target, (relay,)):
        relay.version = ()
        async with start_edge(target) as edge, edge.client() as client:
            line = await edge.line(r"older than this edge: upgrade the cores, then the edges")
            answers = [await ask(client, stream=stream) for stream in (False, True)]
            large = await client.post(URL, json={**REQUEST, "user": "x" * 300_000})
            read = await client.get(f"{URL}/x")
            lines = [text for text in edge.lines if line.group() in text]

    assert [answer.status_code for answer in (*answers, large, read)] == [503, 503, 503, 200]
    assert "upgrade the cores, then the edges" in answers[0].json()["error"]["message"]
    assert relay.starts == []
    assert len(lines) == 1


async def test_an_rpc_that_a_core_does_not_know_is_a_503_that_says_so(
    start_edge: Any, shared_core: Any
) -> None:
    """Of several cores one may be older, and a large request come to it."""
    async with (
        running(shared_core, 1) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        large = await client.post(URL, json={**REQUEST, "user": "x" * 300_000})

    assert large.status_code == 503
    assert "older than its edge" in large.json()["error"]["message"]


async def test_a_core_is_found_by_its_name(start_edge: Any, shared_core: Any) -> None:
    """Chat and reads reach it."""
    async with (
        running(shared_core, 1) as (target, relays),
        linked(start_edge, f"localhost:{target.rpartition(':')[2]}", relays) as client,
    ):
        statuses = [(await ask(client)).status_code, (await client.get(f"{URL}/x")).status_code]

    assert statuses == [200, 200]


async def test_reads_are_asked_only_of_cores_that_serve(start_edge: Any, shared_core: Any) -> None:
    """Plain RPCs take turns, and pass over a core that says it does not serve."""
    async with (
        running(shared_core) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        first, second = (relay.core for relay in relays)
        await read_until_both_are_asked(client, first, second)
        await first.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        async with asyncio.timeout(60):
            before = -1
            while before != len(first.asked("get")):
                before = len(first.asked("get"))
                for _ in range(4):
                    assert (await client.get(f"{URL}/x")).status_code == 200


async def test_a_read_that_breaks_off_is_repeated(start_edge: Any, shared_core: Any) -> None:
    """It changes nothing, so another core is asked, and the client does not notice."""
    reached = asyncio.Event()

    async def hang(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with (
        running(shared_core) as (target, relays),
        linked(start_edge, target, relays) as client,
    ):
        first, second = (relay.core for relay in relays)
        await read_until_both_are_asked(client, first, second)
        second.on_get = hang
        reads = [asyncio.create_task(client.get(f"{URL}/x")) for _ in range(4)]
        await asyncio.wait_for(reached.wait(), 60)
        await second.server.stop(0)
        answers = await asyncio.gather(*reads)

    assert [answer.status_code for answer in answers] == [200] * 4


async def read_until_both_are_asked(client: httpx.AsyncClient, first: Any, second: Any) -> None:
    async with asyncio.timeout(60):
        while not (first.asked("get") and second.asked("get")):
            assert (await client.get(f"{URL}/x")).status_code == 200


TARGETS: list[tuple[str, str, tuple[str, ...], tuple[str, int] | None]] = [
    ("unix:data/core.sock", "unix:data/core.sock", ("unix:data/core.sock",), None),
    (
        "ipv4:10.0.0.1:1,10.0.0.2:2",
        "ipv4:10.0.0.1:1,10.0.0.2:2",
        ("ipv4:10.0.0.1:1", "ipv4:10.0.0.2:2"),
        None,
    ),
    ("ipv6:[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2", ("ipv6:[::1]:1", "ipv6:[::2]:2"), None),
    ("cores.internal:4141", "dns:///cores.internal:4141", (), ("cores.internal", 4141)),
    ("dns:///cores.internal:4141", "dns:///cores.internal:4141", (), ("cores.internal", 4141)),
    ("[::1]:4141", "dns:///[::1]:4141", (), ("::1", 4141)),
]


@pytest.mark.parametrize(("text", "channel", "fixed", "name"), TARGETS)
def test_targets(
    text: str, channel: str, fixed: tuple[str, ...], name: tuple[str, int] | None
) -> None:
    """What `[edge] core` may say, and what gRPC is told."""
    assert parse_target(text) == CoreTarget(channel, fixed, name)


WRONG = ["", "core", "core:", "core:0", "core:70000", "unix:", "ipv4:", "ipv6:::1:1", "dns:///core"]


@pytest.mark.parametrize("text", [*WRONG, "ipv4:10.0.0.1:1,10.0.0.1:1"])
def test_wrong_targets(text: str) -> None:
    """What it may not say."""
    with pytest.raises(ValueError, match="core: "):
        parse_target(text)


async def test_every_address_of_a_name_is_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, and of one family: a core that has addresses of both is still one core."""

    async def found(*_: object, **__: object) -> list[tuple[Any, ...]]:
        v4 = [(socket.AF_INET, 1, 6, "", (f"10.0.0.{n}", 41)) for n in (2, 1, 2)]
        return [(socket.AF_INET6, 1, 6, "", ("fd00::1", 41, 0, 0)), *v4]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    addresses = await parse_target("cores:41").addresses()

    assert addresses == ("ipv4:10.0.0.2:41", "ipv4:10.0.0.1:41")
