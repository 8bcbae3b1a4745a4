"""Addresses are tried in a fair order, early enough, and no socket is left behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from maniac_core.providers.transport.dial import dial, interleave

if TYPE_CHECKING:
    from maniac_core.providers.transport.dial import AddressInfo

    from tests.transport.conftest import Peer, Serve


def info(address: str, port: int = 80) -> AddressInfo:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, 0, "", (address, port))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: AddressInfo) -> None:
    async def resolve(_host: str, _port: int) -> list[AddressInfo]:
        return list(addresses)

    monkeypatch.setattr("maniac_core.providers.transport.dial.resolve", resolve)


@pytest.fixture
def black_hole() -> Iterator[AddressInfo]:
    """An address that neither accepts nor refuses: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        yield info(*server.getsockname())
        for filler in fillers:
            filler.close()


def test_families_alternate_from_the_preferred_one() -> None:
    """The resolver's order is kept within a family, and decides which comes first."""
    six, four = [info("::1"), info("::2"), info("::3")], [info("127.0.0.1")]

    assert interleave([*six, *four]) == [six[0], four[0], six[1], six[2]]


async def test_refused_address_is_followed_by_the_next(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, refusing_port: int
) -> None:
    """A refusal starts the next attempt at once."""

    async def script(peer: Peer) -> None:
        await peer.gone()

    server = await serve(script)
    resolve_to(monkeypatch, info("127.0.0.1", refusing_port), info("127.0.0.1", server.port))

    with await dial("two.test", 80) as sock:
        assert sock.getpeername()[1] == server.port
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_silent_address_is_raced_by_the_next(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, black_hole: AddressInfo
) -> None:
    """An address that does not answer delays the next by a fraction of a second only."""

    async def script(peer: Peer) -> None:
        await peer.gone()

    server = await serve(script)
    resolve_to(monkeypatch, black_hole, info("127.0.0.1", server.port))

    async with asyncio.timeout(5):
        with await dial("two.test", 80) as sock:
            assert sock.getpeername()[1] == server.port
    assert await attempts_left() == 0


async def attempts_left() -> int:
    """Let cancelled attempts end, and count those that go on."""
    await asyncio.sleep(0)
    return sum("_connect" in repr(task) for task in asyncio.all_tasks())


async def test_first_failure_is_reported_when_all_fail(
    monkeypatch: pytest.MonkeyPatch, refusing_port: int
) -> None:
    """With no address left the error is that of the preferred one."""
    resolve_to(monkeypatch, info("127.0.0.1", refusing_port), info("127.0.0.2", refusing_port))

    with pytest.raises(ConnectionRefusedError) as failure:
        await dial("two.test", 80)

    assert "127.0.0.2" not in str(failure.value)


async def test_cancelled_race_stops_all_attempts(
    monkeypatch: pytest.MonkeyPatch, black_hole: AddressInfo
) -> None:
    """Nothing goes on connecting for a caller who has left."""
    monkeypatch.setattr("maniac_core.providers.transport.dial.ATTEMPT_DELAY_S", 0.001)
    resolve_to(monkeypatch, black_hole, black_hole, black_hole)
    task = asyncio.create_task(dial("three.test", 80))
    while await attempts_left() < 3:
        pass
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await attempts_left() == 0
