"""A Redis to count in, and a connection to it that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

import pytest
from maniac_core.services.limits.rate_limiter import MemoryWindows, Windows
from maniac_core.services.limits.redis_windows import RedisWindows
from redis_server import RedisServer, answers

WINDOW_S = 60
Make = Callable[..., RedisWindows]


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """Return the port of the machine's Redis, or of one that is started for the tests."""
    if answers(6379):
        yield 6379
        return
    program = RedisServer.program()
    if program is None:
        pytest.skip("no Redis: install redis-server or valkey-server, or run one on port 6379")
    server = RedisServer(program)
    server.start()
    yield server.port
    server.remove()


class Wire:
    """A TCP proxy in front of Redis."""

    def __init__(self, port: int) -> None:
        self.mode: Literal["open", "silent", "broken"] = "open"
        self.connections = 0
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and break what is connected."""
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break what is connected."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.mode == "broken":
            writer.transport.abort()
            return
        remote_reader, remote = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, remote}
        back = asyncio.create_task(self._pump(remote_reader, writer))
        await self._pump(reader, remote)
        await back

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.mode == "open":
                    writer.write(data)
        writer.close()


@pytest.fixture
async def wire(redis_port: int) -> AsyncIterator[Wire]:
    wire = Wire(redis_port)
    await wire.start()
    yield wire
    await wire.close()


@pytest.fixture
async def make_redis(redis_port: int) -> AsyncIterator[Make]:
    """Return a function that makes the windows of one core; all of a test share their counts."""
    prefix = f"maniac-test-{os.getpid()}-{uuid.uuid4().hex}"
    made: list[RedisWindows] = []

    def make(port: int = redis_port, *, timeout_s: float = 50.0) -> RedisWindows:
        url = f"redis://127.0.0.1:{port}/0"
        windows = RedisWindows(url, window_s=WINDOW_S, timeout_s=timeout_s, prefix=prefix)
        made.append(windows)
        return windows

    yield make
    for windows in made:
        await windows.aclose()


@pytest.fixture(params=["memory", "redis"])
def windows(request: pytest.FixtureRequest) -> Windows:
    """Return each place to count in."""
    if request.param == "memory":
        return MemoryWindows()
    make: Make = request.getfixturevalue("make_redis")
    return make()
