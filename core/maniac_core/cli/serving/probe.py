"""Waits until a server answers 200 over HTTP; by hand, as a library would double the time until the command is up."""

from __future__ import annotations

import asyncio

_POLL_S = 0.02
_TIMEOUT_S = 2.0


async def wait_until_ready(host: str, port: int, path: str) -> None:
    """Ask every 20 ms until the answer is 200."""
    while not await answers(host, port, path):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(_POLL_S)


async def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET of the path is answered with 200 within two seconds."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request.encode())
                status = (await reader.readline()).split(maxsplit=2)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return len(status) > 1 and status[1] == b"200"
