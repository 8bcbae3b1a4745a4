"""What completions notice of a large registration beside them, and what it costs in memory.

    python -m bench.register --items 50000

Completions are sent at a fixed rate, first alone, then while one call registers all items, then while `import` reads
them from a file. Latencies count from the moment a request was due, so that a stall shows in all that fell into it.
Fails when a process grew by more than twice the body, or an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench import procstat
from bench.gateway import COMMAND, MODEL, gateway
from bench.host import ROOT, module_command
from bench.process import Running, fetch, stop_on_sigterm
from bench.quantiles import quantile
from bench.run import mock_upstream
from bench.target import Target, add_target_arguments, chat_request, target_of

_CONTAINER = "bench"
_SAMPLE_S = 0.05
_MIB = 2**20
_HEAD = f'{{"container":"{_CONTAINER}","items":['.encode()


class Phase(msgspec.Struct, kw_only=True):
    """What was seen while something ran; latencies in seconds, memory in bytes beyond the start."""

    name: str
    seconds: float
    latencies: list[float]
    errors: int
    growth: dict[str, int]

    def text(self) -> str:
        """Return a line for people."""
        spans = ", ".join(
            f"{label} {quantile(self.latencies, share) * 1e3:.1f} ms"
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        )
        grown = ", ".join(f"{role} {used / _MIB:+.0f} MiB" for role, used in self.growth.items())
        return (
            f"{self.name}: {self.seconds:.1f} s; {len(self.latencies)} completions, "
            f"{self.errors} errors, {spans}; peak {grown}"
        )


class _Completions:
    """Sends completions at a fixed rate over keep-alive connections until stopped."""

    def __init__(self, target: Target, rate: float, connections: int) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self._address = target.address
        self._request = chat_request(target)
        self._interval_s = 1 / rate
        self._connections = connections
        self._sent = 0
        self._began = time.perf_counter()

    async def run(self, stopped: asyncio.Event) -> None:
        """Send until the event is set."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._send(stopped))

    async def _send(self, stopped: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        with contextlib.closing(writer):
            while not stopped.is_set():
                due = self._began + self._sent * self._interval_s
                self._sent += 1
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                writer.write(self._request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(size)
                self.latencies.append(time.perf_counter() - due)
                self.errors += not head.startswith(b"http/1.1 200")


class _Memory:
    """The most that each role had beyond what it had at first."""

    def __init__(self, running: Running) -> None:
        roles = {role: pids for role, pids in running.roles.items() if role in ("edge", "core")}
        self._roles = roles
        self._first = procstat.memory_by_role(roles)
        self.growth = dict.fromkeys(roles, 0)

    async def watch(self, stopped: asyncio.Event) -> None:
        """Sample until the event is set."""
        while not stopped.is_set():
            for role, used in procstat.memory_by_role(self._roles).items():
                grown = used.anonymous - self._first[role].anonymous
                self.growth[role] = max(self.growth[role], grown)
            await asyncio.sleep(_SAMPLE_S)


async def _measure(
    name: str, running: Running, rate: float, command: list[str] | None, seconds: float
) -> Phase:
    """Send completions while a command runs, or for so many seconds.

    Raises:
        RuntimeError: the command failed; the message is what it said.
    """
    completions = _Completions(running.target, rate, connections=16)
    memory = _Memory(running)
    stopped = asyncio.Event()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(completions.run(stopped))
        group.create_task(memory.watch(stopped))
        if command is None:
            await asyncio.sleep(seconds)
        else:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            output = (await process.communicate())[0].decode(errors="replace")
            if process.returncode:
                raise RuntimeError(f"{name}: {output[-2000:]}")
            print(output.strip(), file=sys.stderr)
        took = time.monotonic() - began
        stopped.set()
    return Phase(
        name=name,
        seconds=took,
        latencies=completions.latencies,
        errors=completions.errors,
        growth=memory.growth,
    )


def _item(number: int, kind: str, size: int) -> bytes:
    """Return an item of about that size."""
    text = f"{kind} {number}: " + "what was asked and answered, in plain words. " * (size // 92)
    item = {
        "input": {"model": MODEL, "messages": [{"role": "user", "content": text}]},
        "output": {
            "id": f"{kind}-{number}",
            "created": 1_700_000_000 + number,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 200, "completion_tokens": 200, "total_tokens": 400},
        },
        "metadata": {"kind": kind, "shard": number % 10},
    }
    return json.dumps(item).encode()


def _write_body(path: Path, items: int, size: int) -> int:
    with path.open("wb") as file:
        file.write(_HEAD)
        for number in range(items):
            file.write((b"," if number else b"") + _item(number, "http", size))
        file.write(b"]}")
        return file.tell()


def _write_lines(path: Path, items: int, size: int) -> None:
    with path.open("wb") as file:
        file.writelines(_item(number, "file", size) + b"\n" for number in range(items))


def _post(target: Target, path: str, body: Path | bytes) -> bytes:
    """POST and return the answer.

    Raises:
        RuntimeError: it is not a 200.
    """
    connection = http.client.HTTPConnection(*target.address, timeout=600, blocksize=1 << 18)
    size = body.stat().st_size if isinstance(body, Path) else len(body)
    with contextlib.closing(connection), contextlib.ExitStack() as stack:
        content = stack.enter_context(body.open("rb")) if isinstance(body, Path) else body
        connection.request(
            "POST",
            urlsplit(target.url).path + path,
            content,
            {
                "authorization": f"Bearer {target.key}",
                "content-type": "application/json",
                "content-length": str(size),
            },
        )
        response = connection.getresponse()
        answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"POST {path}: {response.status} {answer[:500]!r}")
    return answer


def _wait_for_core(target: Target) -> None:
    """Wait until the core behind the edge serves."""
    deadline = time.monotonic() + 30
    while True:
        try:
            fetch(target, "/chat/completions?limit=1")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_SAMPLE_S)
        else:
            return


def _measure_all(options: argparse.Namespace, directory: Path) -> int:
    body, lines = directory / "body.json", directory / "items.jsonl"
    body_bytes = _write_body(body, options.items, options.bytes)
    _write_lines(lines, options.items, options.bytes)
    os.sync()  # What is still to be written to the disk would slow the database down later.
    data = directory / "data"
    # For `import`, which reads the gateway's configuration.
    os.environ["MANIAC_BENCH_UPSTREAM_KEY"] = "none"
    with (
        mock_upstream(directory) as upstream,
        gateway(upstream.target.url, data) as running,
    ):
        target = running.target
        _wait_for_core(target)
        container = {"label": _CONTAINER, "initial_model": MODEL}
        _post(target, "/containers", json.dumps(container).encode())

        def measured(name: str, command: list[str] | None = None) -> Phase:
            phase = uvloop.run(_measure(name, running, options.rate, command, options.seconds))
            print(phase.text(), flush=True)
            return phase

        send = ["--send", str(body), "--url", target.url, "--key", target.key]
        from_file = [str(COMMAND), "import", str(lines), "--container", _CONTAINER]
        from_file += ["--config", str(data / "bench.toml"), "--data-dir", str(data)]
        measured("warm-up")
        phases = [
            measured("alone"),
            measured("POST /register", module_command("register", *send)),
            measured("import", from_file),
        ]
    print(f"body: {body_bytes / _MIB:.0f} MiB, {options.items:,} items")
    is_small = all(used <= 2 * body_bytes for phase in phases for used in phase.growth.values())
    return 0 if is_small and not any(phase.errors for phase in phases) else 1


def main() -> int:
    """Measure; the exit status says whether the limits hold."""
    parser = argparse.ArgumentParser(description="completions beside a large registration")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--bytes", type=int, default=2000, help="size of an item, about")
    parser.add_argument("--rate", type=float, default=100.0, help="completions per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the phases without items")
    options, rest = parser.parse_known_args()
    if rest:
        return _send()
    stop_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="maniac-bench-") as directory:
        return _measure_all(options, Path(directory))


def _send() -> int:
    """Send a body from a process of its own, so that the clock of the completions does not wait for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--send", type=Path, required=True)
    add_target_arguments(parser)
    options = parser.parse_args()
    answer = json.loads(_post(target_of(options), "/chat/completions/register", options.send))
    print(answer["summary"])
    return 0 if answer["summary"]["inserted"] else 1


if __name__ == "__main__":
    sys.exit(main())
