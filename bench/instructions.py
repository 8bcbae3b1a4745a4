"""Instruction guard: what a request costs edge and core in instructions, against the figures committed with the code.

    python -m bench.instructions            # compare; exit status 1 when a figure is more than 5 % above
    python -m bench.instructions --write    # measure, and write the figures that a change lowered

Both processes run under valgrind's callgrind, which counts the instructions that they execute outside the kernel.
Counts repeat where times on a shared machine vary by a third. Another build of Python counts differently, so every
figure is divided by that of a fixed program run in the same interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

from bench.client import Connection, Exchange
from bench.gateway import BUDGET_USD, COMMAND, MODEL, RATE_LIMIT
from bench.host import ROOT, free_port, software
from bench.process import StartError, started, stop_on_sigterm
from bench.run import mock_upstream
from bench.target import SCRIPTS, Script, Target, chat_request

FIGURES = Path(__file__).with_name("instructions.json")
_THRESHOLD = 1.05
_EDGE_KEY = "bench-edge-0123456789abcdef0123456789abcdef"
# Slow under valgrind: what is imported, and the first requests, which fill caches.
_START_S = 120.0
_WARM_UP = 64
_SUMMARY = re.compile(r"^summary: (\d+)$", re.MULTILINE)
_COLLECTED = re.compile(r"Collected : (\d+)")
# The interpreter, its containers and its strings, without input or output.
_REFERENCE = """
import json
text = json.dumps({{"messages": [{{"role": "user", "content": "x" * 200}}] * 4}})
for number in range({rounds}):
    value = json.loads(text)
    value["id"] = str(number)
    sorted(value, key=len)
"""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to count."""

    name: str
    connections: int
    requests: int
    script: Script | None = None

    @property
    def units(self) -> int:
        """Into how many parts a count is divided: deltas of streams, else requests."""
        return self.requests * (self.script.deltas if self.script else 1)


LOADS = (
    Load(name="request, 1 connection", connections=1, requests=200),
    Load(name="request, 32 connections", connections=32, requests=640),
    Load(name="delta", connections=4, requests=24, script=SCRIPTS["separate"]),
)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted."""

    python: str
    reference: int
    """Instructions of the fixed program."""
    instructions: dict[str, dict[str, int]]
    """Per request or delta, by load and process."""


class Counted:
    """A process under callgrind."""

    def __init__(self, pid: int, output: Path) -> None:
        self._pid = pid
        self._output = output
        self._dumps = 0

    def control(self, *command: str) -> None:
        """Give callgrind a command.

        Raises:
            RuntimeError: it did not take it.
        """
        prefix = f"--vgdb-prefix={self._output.parent / 'vgdb'}"
        tool = ["vgdb", prefix, f"--pid={self._pid}"]
        done = subprocess.run([*tool, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def count(self) -> int:
        """Return the instructions since the last call."""
        self.control("dump")
        self._dumps += 1
        text = Path(f"{self._output}.{self._dumps}").read_text()
        return sum(map(int, _SUMMARY.findall(text)))


Processes = dict[str, Counted]
"""By name: edge, core."""


@contextlib.contextmanager
def _counted(
    name: str, ready_url: str, directory: Path, program: tuple[str, ...], *arguments: str
) -> Iterator[Counted]:
    output = directory / f"callgrind.{name}"
    tool = ("valgrind", "--tool=callgrind", "--instr-atstart=no")
    files = (f"--callgrind-out-file={output}", f"--vgdb-prefix={directory / 'vgdb'}")
    command = [*tool, *files, sys.executable, *program, *arguments]
    environ = {
        "MANIAC_EDGE_KEY": _EDGE_KEY,
        "MANIAC_BENCH_UPSTREAM_KEY": "none",
        # The order of sets, and with it the count, is the same in each run.
        "PYTHONHASHSEED": "0",
    }
    log = directory / f"{name}.log"
    with started(command, ready_url=ready_url, log=log, environ=environ, within_s=_START_S) as pid:
        yield Counted(pid, output)


@contextlib.contextmanager
def counted_gateway(directory: Path) -> Iterator[tuple[Target, Processes]]:
    """Run edge and core under callgrind, which does not count yet.

    Raises:
        StartError: one did not come up.
    """
    with mock_upstream(directory) as upstream:
        config = directory / "bench.toml"
        metrics = free_port()
        config.write_text(
            f'[core]\nrate_limit = {RATE_LIMIT}\nlocal_model = "off"\n'
            f'metrics_listen = "127.0.0.1:{metrics}"\n'
            f'[providers.openai]\nbase_url = "{upstream.target.url}"\n'
            'api_key_env = "MANIAC_BENCH_UPSTREAM_KEY"\n'
        )
        places = ("--config", str(config), "--data-dir", str(directory))
        _command("migrate", *places)
        key = _command("keys", "create", *places).strip()
        _command("budgets", "set", "organization", "default", "--usd", str(BUDGET_USD), *places)
        grpc_port, port = free_port(), free_port()
        core = _counted(
            "core",
            f"http://127.0.0.1:{metrics}/metrics",
            directory,
            (str(COMMAND), "core"),
            *(*places, "--grpc-port", str(grpc_port)),
        )
        with core as counted_core:
            edge = _counted(
                "edge",
                f"http://127.0.0.1:{port}/readyz",
                directory,
                # What `maniac-gateway edge` becomes; callgrind does not follow it there.
                ("-m", "maniac_edge"),
                *("--config", str(config), "--port", str(port)),
                *("--core", f"unix:{directory / 'core.sock'}"),
            )
            with edge as counted_edge:
                target = Target(url=f"http://127.0.0.1:{port}/v1", key=key, model=MODEL)
                yield target, {"edge": counted_edge, "core": counted_core}


def _command(*words: str) -> str:
    environ = {**os.environ, "MANIAC_BENCH_UPSTREAM_KEY": "none"}
    done = subprocess.run(
        [str(COMMAND), *words], check=True, capture_output=True, text=True, env=environ
    )
    return done.stdout


def ask(
    target: Target, load: Load, requests: int, make: Callable[[int], bytes] | None = None
) -> None:
    """Send so many requests, as many at a time as the load has connections; `make` returns each by its number.

    Raises:
        RuntimeError: an answer was wrong.
    """
    request, sent = chat_request(target, load.script), 0
    deltas = load.script.deltas if load.script else 0

    def after(exchange: Exchange | None) -> bytes | None:
        nonlocal sent
        if exchange is not None and (exchange.status != 200 or exchange.deltas != deltas):
            raise RuntimeError(f"{exchange.status}: {exchange.body!r}")
        if sent == requests:
            return None
        sent += 1
        return request if make is None else make(sent)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(load.connections):
                connection = Connection(target.address, after, is_stream=load.script is not None)
                group.create_task(connection.run())

    uvloop.run(run())


def measure() -> Figures:
    """Count.

    Raises:
        StartError: a process did not come up.
        RuntimeError: an answer was wrong.
    """
    instructions: dict[str, dict[str, int]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as directory,
        counted_gateway(Path(directory)) as (target, processes),
    ):
        for load in LOADS:
            ask(target, load, _WARM_UP)
        for counted in processes.values():
            counted.control("instrumentation", "on")
        # The first request of each connection does what later ones need not.
        ask(target, LOADS[0], _WARM_UP)
        for load in LOADS:
            for counted in processes.values():
                counted.count()
            ask(target, load, load.requests)
            instructions[load.name] = {
                name: round(counted.count() / load.units) for name, counted in processes.items()
            }
    return Figures(python=software().python, reference=_reference(), instructions=instructions)


def _reference() -> int:
    # Start-up and imports differ from environment to environment; they are in both.
    most, least = (_count_program(_REFERENCE.format(rounds=rounds)) for rounds in (2000, 0))
    return most - least


def _count_program(text: str) -> int:
    tool = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    environ = {"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*tool, sys.executable, "-I", "-c", text],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
        cwd=ROOT,
    )
    found = _COLLECTED.search(done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def _judge(now: Figures, committed: Figures) -> bool:
    """Print every figure and tell whether none is above the threshold."""
    is_good = True
    for load, processes in now.instructions.items():
        for process, count in processes.items():
            before = committed.instructions[load][process]
            ratio = (count / now.reference) / (before / committed.reference)
            is_good = is_good and ratio <= _THRESHOLD
            verdict = "  MORE THAN 5 % ABOVE" if ratio > _THRESHOLD else ""
            print(f"{process}, {load:26} {before:10,} {count:10,}  {ratio:.3f}{verdict}")
    return is_good


def main() -> int:
    """Compare or write; the exit status is 1 when a figure is too high."""
    parser = argparse.ArgumentParser(description="what a request costs in instructions")
    parser.add_argument("--write", action="store_true", help=f"write {FIGURES.name}")
    options = parser.parse_args()
    stop_on_sigterm()
    if shutil.which("valgrind") is None:
        print("valgrind is needed: on Debian, apt install valgrind", file=sys.stderr)
        return 2
    try:
        now = measure()
    except StartError as err:
        print(err, file=sys.stderr)
        return 2
    if options.write:
        FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
    if _judge(now, msgspec.json.decode(FIGURES.read_bytes(), type=Figures)):
        return 0
    print(f"If the cost is worth it, say why in the commit and run with --write ({FIGURES.name}).")
    return 1


if __name__ == "__main__":
    sys.exit(main())
