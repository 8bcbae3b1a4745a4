"""Mixed load for a long time, to show that memory stays flat: the slope is judged, not the size.

    python -m bench.soak --minutes 60
    python -m bench.soak --minutes 3

After the warm-up, what each process would grow by until the end, from the median slope of its own memory, must be
less than a tenth of what it has. Mapped files are left out: they grow with the database.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from bench import procstat
from bench.client import Connection, Exchange
from bench.gateway import gateway
from bench.process import Running, stop_on_sigterm
from bench.quantiles import slope
from bench.run import mock_upstream
from bench.target import SCRIPTS, Target, chat_request, request_head

_SAMPLE_S = 2.0
_ALLOWED_GROWTH = 0.10
_MIB = 2**20


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one role's memory; bytes, and bytes per second."""

    role: str
    first: float
    last: float
    slope_per_s: float
    seconds: float

    @property
    def is_flat(self) -> bool:
        """Whether the slope leads to less than the allowed growth."""
        return self.slope_per_s * self.seconds < self.first * _ALLOWED_GROWTH


class _Load:
    """Everything at once: whole answers, streams, streams that are left, reads, refusals."""

    def __init__(self, target: Target, seconds: float) -> None:
        self._target = target
        self._deadline = time.perf_counter() + seconds
        self.answers = 0
        self.failures = 0
        self.left = 0

    async def run(self) -> None:
        """Run until the deadline."""
        target = self._target
        paced, separate = chat_request(target, SCRIPTS["paced"]), SCRIPTS["separate"]
        listing = request_head(target, "GET", "/chat/completions?limit=20", 0).encode()
        stranger = msgspec.structs.replace(target, key="mk-nobody")
        async with asyncio.TaskGroup() as group:
            for request, count, is_stream, status in (
                (chat_request(target), 4, False, 200),
                (paced, 8, True, 200),
                (chat_request(target, separate), 2, True, 200),
                (listing, 1, False, 200),
                (chat_request(stranger), 1, False, 401),
            ):
                for _ in range(count):
                    group.create_task(self._repeat(request, is_stream=is_stream, status=status))
            for _ in range(4):
                group.create_task(self._leave(paced))

    async def _repeat(self, request: bytes, *, is_stream: bool, status: int) -> None:
        def after(exchange: Exchange | None) -> bytes | None:
            if exchange is not None:
                is_right = exchange.status == status and (exchange.is_done or not is_stream)
                self.answers += is_right
                self.failures += not is_right
            return request if time.perf_counter() < self._deadline else None

        await Connection(self._target.address, after, is_stream=is_stream).run()

    async def _leave(self, request: bytes) -> None:
        """Open streams and close the connection in the middle of them."""
        while time.perf_counter() < self._deadline:
            reader, writer = await asyncio.open_connection(*self._target.address)
            try:
                writer.write(request)
                await reader.readuntil(b"lorem")
                self.left += 1
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


async def _watch(running: Running, seconds: float) -> list[tuple[float, dict[str, float]]]:
    """Sample the memory of each role until the time is up."""
    started, samples = time.monotonic(), []
    while (at := time.monotonic() - started) < seconds:
        used = procstat.memory_by_role(running.roles)
        samples.append((at, {role: float(memory.anonymous) for role, memory in used.items()}))
        await asyncio.sleep(_SAMPLE_S)
    return samples


async def soak(running: Running, *, seconds: float, warm_up_s: float) -> tuple[list[Growth], _Load]:
    """Load a gateway and return how each role's memory went after the warm-up, and what the load saw."""
    load = _Load(running.target, seconds)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        watch = group.create_task(_watch(running, seconds))
    samples = [sample for sample in watch.result() if sample[0] >= warm_up_s]
    growths = []
    for role in running.roles:
        points = [(at, used[role]) for at, used in samples]
        growths.append(
            Growth(
                role=role,
                first=points[0][1],
                last=points[-1][1],
                slope_per_s=slope(points),
                seconds=points[-1][0] - points[0][0],
            )
        )
    return growths, load


def main() -> int:
    """Soak; the exit status is 1 when memory grows or an answer was wrong."""
    parser = argparse.ArgumentParser(description="does memory stay flat under mixed load?")
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    stop_on_sigterm()
    seconds = options.minutes * 60
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as directory,
        mock_upstream(Path(directory)) as upstream,
        gateway(upstream.target.url, Path(directory) / "data") as running,
    ):
        growths, load = uvloop.run(
            soak(running, seconds=seconds, warm_up_s=min(300.0, seconds / 3))
        )
    print(f"{load.answers:,} right answers, {load.failures:,} wrong, {load.left:,} streams left")
    for growth in growths:
        print(
            f"{growth.role}: {growth.first / _MIB:.1f} MiB after the warm-up, "
            f"{growth.last / _MIB:.1f} MiB {growth.seconds / 60:.1f} min later, "
            f"slope {growth.slope_per_s * 60 / 1024:+.1f} KiB/min"
            f"{'' if growth.is_flat else ': GROWS'}"
        )
    is_good = load.answers > 0 and not load.failures and all(g.is_flat for g in growths)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
