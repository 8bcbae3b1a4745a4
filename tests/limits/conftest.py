"""A Redis to count in, and a connection to it that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from maniac_core.services.limits import MemoryWindows, Windows
from maniac_core.services.redis_windows import RedisWindows

WINDOW_S = 60
Make = Callable[..., RedisWindows]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of the machine's Redis, or of one that is started for the tests."""
    if _answers(6379):
        yield 6379
        return
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no Redis: install redis-server or valkey-server, or run one on port 6379")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not _answers(port):
            assert time.monotonic() < deadline, "redis-server does not answer"
            # There is no event across processes to wait for.
            time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


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

    def make(port: int = redis_port, *, timeout_s: float = 5.0) -> RedisWindows:
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
