"""Memory of the gateway while many connections are open: idle ones, and streams.

python -m bench.connections --idle 10000 --streams 1000
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
from pathlib import Path

import uvloop

from bench import procstat
from bench.gateway import gateway
from bench.process import Running, stop_on_sigterm
from bench.run import mock_upstream
from bench.target import Script, chat_request, request_head

_SLOW = Script(deltas=300, pause_ms=1000, per_write=1)
"""A stream that is still open when everything is counted."""
_AT_ONCE = 100
_MIB = 2**20

_Streams = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def _open(running: Running, request: bytes, until: bytes, count: int) -> _Streams:
    """Open connections, send the request on each and read until that text."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with limit:
            reader, writer = await asyncio.open_connection(*running.target.address)
            writer.write(request)
            async with asyncio.timeout(60):
                await reader.readuntil(until)
            return reader, writer

    return await asyncio.gather(*[one() for _ in range(count)])


async def hold(running: Running, *, idle: int, streams: int) -> dict[str, dict[str, int]]:
    """Return the PSS of each role, in bytes: with no connection, with the idle ones, with the streams as well.

    Raises:
        TimeoutError: a connection was not answered within a minute.
    """
    target = running.target
    # A request of its own makes each a kept-alive connection and not merely an accepted one.
    hello = request_head(target, "GET", "/chat/completions?limit=1", 0).encode()
    stages = {"start": _pss(running)}
    opened = await _open(running, hello, b"}", idle)
    stages[f"{idle:,} idle connections"] = _pss(running)
    opened += await _open(running, chat_request(target, _SLOW), b"lorem", streams)
    stages[f"and {streams:,} open streams"] = _pss(running)
    for _, writer in opened:
        writer.transport.abort()
    return stages


def _pss(running: Running) -> dict[str, int]:
    return {role: used.pss for role, used in procstat.memory_by_role(running.roles).items()}


def main() -> int:
    """Measure; the exit status is 1 when edge and core need more than allowed."""
    parser = argparse.ArgumentParser(description="memory with many open connections")
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--limit-mb", type=float, default=500.0, help="edge and core together")
    options = parser.parse_args()
    stop_on_sigterm()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as directory,
        mock_upstream(Path(directory)) as upstream,
        gateway(upstream.target.url, Path(directory) / "data") as running,
    ):
        stages = uvloop.run(hold(running, idle=options.idle, streams=options.streams))
    together = 0.0
    for stage, used in stages.items():
        together = (used["edge"] + used["core"]) / 1e6
        parts = ", ".join(f"{role} {pss / _MIB:.0f} MiB" for role, pss in used.items())
        print(f"{stage}: edge and core {together:.0f} MB (PSS: {parts})")
    return 0 if together <= options.limit_mb else 1


if __name__ == "__main__":
    sys.exit(main())
