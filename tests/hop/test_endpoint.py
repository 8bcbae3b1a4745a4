"""Connections on sockets: peers that fall silent, do not read, or never say who they are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hop_peers import METHOD, ClientSide, Heard
from maniac_common.hop import calls, endpoint, frames, server
from maniac_common.hop.client import Address, connect
from maniac_common.hop.server import Request, Server

_HOST = "127.0.0.1"


class _Ended(Heard):  # type: ignore[misc]  # mypy does not see helpers beside tests
    def __init__(self) -> None:
        super().__init__()
        self.has_ended = asyncio.Event()
        self.is_ready = asyncio.Event()

    def ended(self, status: calls.Status) -> None:
        super().ended(status)
        self.has_ended.set()

    def ready(self) -> None:
        super().ready()
        self.is_ready.set()


class _Served:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.heard = _Ended()
        self.has_come = asyncio.Event()

    def accept(self, request: Request) -> None:
        self.requests.append(request)
        request.stream.begin((), self.heard)
        self.has_come.set()


@pytest.fixture
def served() -> _Served:
    return _Served()


@pytest_asyncio.fixture
async def port(served: _Served) -> AsyncIterator[int]:
    listener = Server(served.accept, max_message_bytes=1 << 20)
    yield await listener.listen(_HOST, 0, None)
    await listener.stop(0)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "TICK_S", 0.05)


@pytest.mark.usefixtures("_quick")
async def test_a_server_that_says_nothing_is_given_up() -> None:
    """As one whose machine is gone, of which a socket tells nothing."""
    with socket.create_server((_HOST, 0)) as silent:
        heard = _Ended()
        client = await connect(Address(host=_HOST, port=silent.getsockname()[1]), METHOD, (), heard)
        async with asyncio.timeout(5):
            await heard.has_ended.wait()
        client.close()
    assert [status.code for status in heard.statuses] == [calls.UNAVAILABLE]


@pytest.mark.usefixtures("_quick")
async def test_peers_that_answer_stay_connected(served: _Served, port: int) -> None:
    heard = _Ended()
    client = await connect(Address(host=_HOST, port=port), METHOD, (), heard)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await heard.has_ended.wait()
    assert served.heard.statuses == []
    client.close()


@pytest.mark.usefixtures("_quick")
async def test_who_opens_no_call_is_let_go(port: int) -> None:
    """And who does not even begin."""
    for opening in (b"", b"PRI * HTTP/2.0\r\n"):
        reader, writer = await asyncio.open_connection(_HOST, port)
        writer.write(opening)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()


async def test_a_client_that_does_not_read_is_waited_for(served: _Served, port: int) -> None:
    """The server's stream is not ready, until the client reads; then all arrives."""
    reader, writer = await asyncio.open_connection(_HOST, port, limit=1 << 24)
    client = ClientSide()
    writer.write(client.connection.take() + frames.window_update(0, 1 << 30))
    writer.write(frames.window_update(1, 1 << 30))
    transport = writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    await served.has_come.wait()
    stream = served.requests[0].stream
    sent = 0
    async with asyncio.timeout(20):
        while stream.is_ready or sent < 3:
            stream.send(bytes(100_000))
            stream.flush()
            sent += 1
            await asyncio.sleep(0)
        transport.resume_reading()  # type: ignore[attr-defined]
        stream.finish()
        stream.flush()
        while len(client.heard.messages) < sent:
            client.connection.receive(await reader.read(1 << 16))
    writer.close()


async def test_a_server_that_does_not_take_the_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is over does not wait for its peer for ever."""
    monkeypatch.setattr(endpoint, "_LINGER_S", 0.1)
    with socket.create_server((_HOST, 0)) as deaf:
        deaf.setblocking(False)
        heard = _Ended()
        client = await connect(Address(host=_HOST, port=deaf.getsockname()[1]), METHOD, (), heard)
        peer, _ = await asyncio.get_running_loop().sock_accept(deaf)
        # As if it took everything by a window that never ends, and read nothing.
        client.stream.send_window = client._endpoint.connection.send_window = 1 << 30
        client.stream.send(bytes(1 << 25))
        client.stream.flush()
        lost = asyncio.Event()
        client._endpoint._on_lost = lambda _: lost.set()
        client.close()
        async with asyncio.timeout(5):
            await lost.wait()
        peer.close()
    assert heard.statuses == []


async def test_connections_beyond_the_limit_are_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_CONNECTIONS", 2)
    taken = [await asyncio.open_connection(_HOST, port) for _ in range(2)]
    reader, writer = await asyncio.open_connection(_HOST, port)
    async with asyncio.timeout(5):
        await reader.read()
        assert reader.at_eof()
    for _, each in (*taken, (reader, writer)):
        each.close()
