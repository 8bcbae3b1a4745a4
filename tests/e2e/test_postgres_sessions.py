"""PostgreSQL sessions that the server ends while nobody waits for it: they are replaced, and nothing else is seen."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from cli import run_command
from gateway import Gateway
from upstream import Upstream

CONFIG = """
[core]
database_url = "{database_url}"
database_pool = 4
rate_limit = 1000000
local_model = "off"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
"""
BODY = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
_READY = b"Z\0\0\0\5I"
_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
_FAREWELL = b"E" + (4 + len(_FIELDS)).to_bytes(4, "big") + _FIELDS


class Relay:
    """Stands before a PostgreSQL server, and can end its sessions after the next answer of each."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.port = 0
        self._server = server
        self._sessions: set[object] = set()
        self._ending: set[object] = set()
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self._is_up.wait()

    def end_sessions(self) -> None:
        """The sessions of now hear that they are over, where they next hear that the server is ready."""
        self._ending = set(self._sessions)

    def has_ended(self) -> bool:
        """Whether the client has given up all sessions that were to end."""
        return not self._ending & self._sessions

    def stop(self) -> None:
        """Break all sessions off."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._stopped.wait()
        listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = object()
        self._sessions.add(session)
        server_reader, server_writer = await asyncio.open_connection(*self._server)

        async def ask() -> None:
            while data := await reader.read(65536):
                server_writer.write(data)
            server_writer.close()

        asking = asyncio.create_task(ask())
        try:
            while data := await server_reader.read(65536):
                is_over = session in self._ending and data.endswith(_READY)
                writer.write(data + _FAREWELL if is_over else data)
        except (ConnectionError, asyncio.CancelledError):
            pass  # Either side has gone, or the test is over.
        finally:
            self._sessions.discard(session)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            for one in (writer, server_writer):
                one.close()


@pytest.fixture
def relay(postgres_url: str) -> Iterator[Relay]:
    address = urlsplit(postgres_url)
    made = Relay((address.hostname or "", address.port or 5432))
    yield made
    made.stop()


def test_sessions_that_the_server_ends_between_two_statements_are_replaced(
    start_gateway: Callable[..., Gateway], upstream: Upstream, postgres_url: str, relay: Relay
) -> None:
    """Nobody gets a 500, requests are soon answered again, and a key that is revoked later is refused."""
    given = urlsplit(postgres_url)
    user, separator, _ = given.netloc.rpartition("@")
    url = given._replace(netloc=f"{user}{separator}127.0.0.1:{relay.port}").geturl()
    gateway = start_gateway(CONFIG.format(database_url=url, base_url=upstream.base_url))
    secret = run_command(gateway, "keys", "create", "--name", "leaver").strip()
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers, timeout=30) as client:

        def statuses() -> list[int]:
            # One reads, one writes besides its record.
            key = {"idempotency-key": str(uuid.uuid4())}
            return [
                client.get("/usage").status_code,
                client.post("/chat/completions", json=BODY, headers=key).status_code,
            ]

        assert statuses() == [200, 200]
        relay.end_sessions()
        seen: set[int] = set()
        deadline = time.monotonic() + 20
        while not relay.has_ended() and time.monotonic() < deadline:
            seen.update(statuses())
        assert seen <= {200, 503}
        assert relay.has_ended()
        assert statuses() == [200, 200]

        listed = run_command(gateway, "keys", "list").splitlines()
        (prefix,) = [line.split()[0] for line in listed if "leaver" in line]
        run_command(gateway, "keys", "revoke", prefix)
        deadline = time.monotonic() + 20
        while statuses() != [401, 401]:
            assert time.monotonic() < deadline
