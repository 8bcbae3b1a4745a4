"""Load on an OpenAI-compatible server, from one process, with keep-alive connections; prints the result as JSON.

python -m bench.load --url http://127.0.0.1:4000/v1 --key mk-… --connections 32 --seconds 5
python -m bench.load --url … --connections 64 --stream paced
"""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec
import uvloop

from bench import wrk
from bench.client import Connection, Exchange
from bench.host import pin
from bench.quantiles import quantile
from bench.target import SCRIPTS, Script, Target, add_target_arguments, chat_request, target_of

_GRACE_S = 60.0
"""How long the last answers may take after the end."""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; latencies in microseconds."""

    driver: str
    """`wrk`, or `bench` for the client of this directory."""
    requests: int
    """Answers that were whole and had status 200."""
    errors: int
    """All others."""
    seconds: float
    p50_us: float
    """From the first byte sent to the last byte received."""
    p99_us: float
    deltas: int = 0
    ttft_p50_us: float = 0.0
    """To the first delta of a stream."""
    ttft_p99_us: float = 0.0
    first_error: str = ""

    @property
    def requests_per_s(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    @property
    def deltas_per_s(self) -> float:
        """Deltas per second, over all streams."""
        return self.deltas / self.seconds


class _Tally:
    """Collects exchanges until the time is up."""

    def __init__(self, target: Target, script: Script | None, seconds: float) -> None:
        self._request = chat_request(target, script)
        self._deltas = script.deltas if script else 0
        self._started = time.perf_counter()
        self._deadline = self._started + seconds
        self._latencies: list[float] = []
        self._first_deltas: list[float] = []
        self._errors = 0
        self._first_error = ""

    def after(self, exchange: Exchange | None) -> bytes | None:
        """Take note of an exchange; return the next request while there is time."""
        if exchange is not None:
            self._add(exchange)
        return self._request if time.perf_counter() < self._deadline else None

    def _add(self, exchange: Exchange) -> None:
        is_whole = exchange.deltas == self._deltas and (exchange.is_done or not self._deltas)
        if exchange.status != 200 or not is_whole:
            self._errors += 1
            if not self._first_error:
                text = exchange.body.decode(errors="replace")
                self._first_error = f"{exchange.status}, {exchange.deltas} deltas: {text}"
            return
        self._latencies.append((exchange.ended - exchange.sent) * 1e6)
        if exchange.first_delta is not None:
            self._first_deltas.append((exchange.first_delta - exchange.sent) * 1e6)

    def result(self) -> LoadResult:
        """Return the sums."""
        return LoadResult(
            driver="bench",
            requests=len(self._latencies),
            errors=self._errors,
            seconds=time.perf_counter() - self._started,
            p50_us=quantile(self._latencies, 0.5),
            p99_us=quantile(self._latencies, 0.99),
            deltas=len(self._latencies) * self._deltas,
            ttft_p50_us=quantile(self._first_deltas, 0.5),
            ttft_p99_us=quantile(self._first_deltas, 0.99),
            first_error=self._first_error,
        )


async def load(
    target: Target, *, connections: int, seconds: float, script: Script | None = None
) -> LoadResult:
    """Keep that many connections busy for that long; running answers are waited for.

    Raises:
        OSError: the server does not take connections.
        TimeoutError: answers did not end within a minute after the end.
    """
    tally = _Tally(target, script, seconds)
    is_stream = script is not None
    async with asyncio.timeout(seconds + _GRACE_S), asyncio.TaskGroup() as group:
        for _ in range(connections):
            connection = Connection(target.address, tally.after, is_stream=is_stream)
            group.create_task(connection.run())
    return tally.result()


def main() -> None:
    """Run one load and print its result."""
    parser = argparse.ArgumentParser(description="load on an OpenAI-compatible server")
    add_target_arguments(parser)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stream", choices=sorted(SCRIPTS), help="streams of this kind")
    parser.add_argument("--driver", choices=("bench", "wrk"), default="bench")
    parser.add_argument("--cpu", type=int, help="pin to this CPU")
    options = parser.parse_args()
    pin(options.cpu)
    target = target_of(options)
    if options.driver == "wrk":
        if options.stream:
            parser.error("wrk does not know streams")
        numbers = wrk.run(target, connections=options.connections, seconds=options.seconds)
        result = msgspec.convert({"driver": "wrk", **numbers}, LoadResult)
    else:
        script = SCRIPTS[options.stream] if options.stream else None
        result = uvloop.run(
            load(target, connections=options.connections, seconds=options.seconds, script=script)
        )
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
