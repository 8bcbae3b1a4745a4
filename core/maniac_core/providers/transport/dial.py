"""Open TCP sockets, racing IPv6 against IPv4 where a name has both."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Sequence
from typing import Any

ATTEMPT_DELAY_S = 0.25
"""Head start of each address over the next one (RFC 8305, section 5)."""

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


async def dial(host: str, port: int) -> socket.socket:
    """Return a connected, non-blocking socket; on failure or cancellation none is left open.

    Not `loop.create_connection(happy_eyeballs_delay=…)`, which uvloop does not have.

    Raises:
        socket.gaierror: the name has no address.
        OSError: no address could be connected to; the first failure.

    """
    addresses = interleave(await resolve(host, port))
    if len(addresses) == 1:
        return await _connect(addresses[0])
    return await _race(addresses)


def interleave(addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
    """Alternate between address families, keeping the resolver's preference within and between."""
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rows = itertools.zip_longest(*families.values())
    return [address for row in rows for address in row if address is not None]


async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of a name, or of an address itself, as `getaddrinfo` does.

    Raises:
        socket.gaierror: the name has none.
    """
    try:
        # An IP literal is converted without a trip through the resolver's threads.
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _connect(address: AddressInfo) -> socket.socket:
    family, kind, proto, _, sockaddr = address
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


async def _race(addresses: list[AddressInfo]) -> socket.socket:
    waiting = list(reversed(addresses))
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: OSError | None = None
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.pop())))
            delay = ATTEMPT_DELAY_S if waiting else None
            done, _ = await asyncio.wait(
                attempts, timeout=delay, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = failure or error
    finally:
        for attempt in attempts:
            attempt.cancel()
            # An attempt may have succeeded in the very iteration that decided the race.
            attempt.add_done_callback(_close_result)
    raise failure or OSError("name has no address")


def _close_result(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
