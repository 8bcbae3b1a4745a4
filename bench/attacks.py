"""Repeats what hostile clients do, against a gateway that it starts itself, and prints what each of it costs.

    python -m bench.attacks                    # all of them, in about a minute
    python -m bench.attacks tiny_messages unread_streams

Each attack is bounded in count and time. Beside it a client asks for /healthz without pause: the longest answer says
whether others were served. CPU is that of all gateway processes; memory is the highest that edge and core reached.
docs/security.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec

from bench import grpc_attacks, procstat
from bench.gateway import KEY, MODEL, gateway
from bench.host import free_port, module_command
from bench.process import Running, stop_on_sigterm

MIB = 2**20
_HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
_BEARER = f"authorization: Bearer {KEY}\r\n"
_HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
_DELTA = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'


class Result(msgspec.Struct, frozen=True):
    """What an attack cost."""

    name: str
    seconds: float
    cpu_s: dict[str, float]
    peak_mib: dict[str, float]
    """Above what the process had before."""
    slowest_ms: float
    """Of another client's requests meanwhile."""
    note: str


class Victim(msgspec.Struct, frozen=True):
    """Where the gateway listens."""

    port: int
    grpc_port: int

    async def connect(
        self, limit: int = 2**16
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection("127.0.0.1", self.port, limit=limit)

    async def send(self, data: bytes, *, seconds: float = 30.0) -> bytes:
        """Send something on a connection of its own; return the beginning of the answer, empty if there is none."""
        reader, writer = await self.connect()
        writer.write(data)
        answer = b""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(seconds):
                answer = await reader.read(2000)
        writer.transport.abort()
        return answer


Attack = Callable[[Victim], Coroutine[object, object, str]]


def _status(answer: bytes) -> str:
    return answer[9:12].decode() or "closed"


def _post(body: bytes, *, key: str = "") -> bytes:
    return f"{_HEAD}{key}content-length: {len(body)}\r\n\r\n".encode() + body


def _tiny(count: int) -> bytes:
    messages = b",".join([b'{"role":"user","content":""}'] * count)
    return b'{"model":"%s","messages":[%s]}' % (MODEL.encode(), messages)


async def tiny_messages(victim: Victim) -> str:
    """A million tiny messages, 29 MB, without a key."""
    return _status(await victim.send(_post(_tiny(1_000_000))))


async def tiny_messages_with_key(victim: Victim) -> str:
    """The same with a key."""
    return _status(await victim.send(_post(_tiny(1_000_000), key=_BEARER)))


async def large_prompts(victim: Victim) -> str:
    """Eight prompts of 24 MB at once, with a key."""
    content = b"a" * 24 * MIB
    body = b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (MODEL.encode(), content)
    answers = await asyncio.gather(*(victim.send(_post(body, key=_BEARER)) for _ in range(8)))
    return " ".join(sorted(map(_status, answers)))


async def unfinished_bodies(victim: Victim) -> str:
    """A hundred connections without a key that each begin to send 30 MB."""
    head = f"{_HEAD}content-length: {30 * MIB}\r\n\r\n".encode()
    sent = head + b" " * 4 * MIB
    answers = await asyncio.gather(*(victim.send(sent) for _ in range(100)))
    return " ".join(sorted({_status(answer) for answer in answers}))


async def dripping_bodies(victim: Victim) -> str:
    """Three hundred connections without a key that send 60 kB and then nothing."""
    sent = f"{_HEAD}content-length: 64000\r\n\r\n".encode() + b" " * 60_000
    answers = await asyncio.gather(*(victim.send(sent) for _ in range(300)))
    return " ".join(sorted({_status(answer) for answer in answers}))


async def endless_heads(victim: Victim) -> str:
    """Fifty connections whose heads do not end."""
    sent = _HEAD.encode() + b"x-a: %s\r\n" % (b"a" * 8000) * 40
    answers = await asyncio.gather(*(victim.send(sent) for _ in range(50)))
    return " ".join(sorted({_status(answer) for answer in answers}))


async def pipelines(victim: Victim) -> str:
    """Ten connections with five thousand requests in one write each."""
    sent = b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n" * 5000
    answers = await asyncio.gather(*(victim.send(sent) for _ in range(10)))
    return " ".join(sorted({_status(answer) for answer in answers}))


async def unknown_keys(victim: Victim) -> str:
    """Two thousand requests, each with another unknown key, over ten connections."""
    statuses: set[str] = set()

    async def ask(first: int) -> None:
        reader, writer = await victim.connect()
        for number in range(first, 2000, 10):
            key = f"authorization: Bearer mk-{number:032d}\r\n"
            writer.write(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{key}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.add(_status(head))
            length = next(
                line for line in head.split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(int(length.split()[1]))
        writer.transport.abort()

    await asyncio.gather(*map(ask, range(10)))
    return " ".join(sorted(statuses))


async def unread_streams(victim: Victim) -> str:
    """Forty streams of a provider that floods, none of which is read, for ten seconds."""
    body = json.dumps(
        {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    )
    writers = []
    for _ in range(40):
        _, writer = await victim.connect(limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(_post(body.encode(), key=_BEARER))
        writers.append(writer)
    await asyncio.sleep(10)
    for writer in writers:
        writer.transport.abort()
    return "left after 10 s"


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        tiny_messages,
        tiny_messages_with_key,
        large_prompts,
        unfinished_bodies,
        dripping_bodies,
        endless_heads,
        pipelines,
        unknown_keys,
        unread_streams,
        *grpc_attacks.ATTACKS,
    )
}


async def _flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a provider: whole answers at once, streams without end."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b"x: 0"
            )  # fmt: skip
            body = await reader.readexactly(int(length.split()[1]))
            if b'"stream":true' not in body:
                answer = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                    % (len(answer), answer)
                )
                continue
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            while True:
                writer.write(_DELTA % b"ab" * 200)
                await writer.drain()
    writer.close()


def _probe(port: int) -> None:
    """Ask for /healthz without pause until standard input ends, then print the longest answer in seconds."""
    slowest = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0.005)[0]:
            started = time.perf_counter()
            connection.sendall(_HEALTH)
            connection.recv(65536)
            slowest = max(slowest, time.perf_counter() - started)
    print(slowest, flush=True)


def _run(name: str, victim: Victim, roles: procstat.Roles) -> Result:
    for pids in roles.values():
        for pid in pids:
            # The peak is counted from here on.
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    base, cpu = _peaks(roles), procstat.cpu_by_role(roles)
    probe = subprocess.Popen(
        module_command("attacks", "--probe", victim.port),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert probe.stdout is not None
    probe.stdout.readline()
    started = time.perf_counter()
    note = asyncio.run(ATTACKS[name](victim))
    seconds = time.perf_counter() - started
    slowest_s = float(probe.communicate()[0])
    after, peaks = procstat.cpu_by_role(roles), _peaks(roles)
    return Result(
        name=name,
        seconds=seconds,
        cpu_s={role: (after[role] - cpu[role]) / 1e6 for role in ("edge", "core")},
        peak_mib={role: (peaks[role] - base[role]) / MIB for role in ("edge", "core")},
        slowest_ms=slowest_s * 1000,
        note=note,
    )


def _peaks(roles: procstat.Roles) -> dict[str, int]:
    return {role: sum(map(_peak, pids)) for role, pids in roles.items()}


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _attack(running: Running, names: list[str]) -> None:
    victim = Victim(port=running.target.address[1], grpc_port=running.grpc_port)
    print(
        "| attack | seconds | CPU edge, core (s) | peak edge, core (MiB) | slowest other (ms) | answers |"
    )
    print("|---|---|---|---|---|---|")
    for name in names:
        result = _run(name, victim, running.roles)
        cpu, peak = result.cpu_s, result.peak_mib
        print(
            f"| {result.name} | {result.seconds:.1f} | {cpu['edge']:.2f}, {cpu['core']:.2f} | "
            f"{peak['edge']:.0f}, {peak['core']:.0f} | {result.slowest_ms:.0f} | {result.note} |",
            flush=True,
        )


async def _provide(port: int) -> None:
    server = await asyncio.start_server(_flood, "127.0.0.1", port, limit=64 * MIB)
    await server.serve_forever()


def main() -> int:
    """Run the attacks that are named, or all, and print what they cost."""
    parser = argparse.ArgumentParser(
        description="attack a gateway of one's own, and see what it costs"
    )
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--provider", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--probe", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.attacks if name not in ATTACKS]
    if unknown:
        parser.error(f"no such attack: {unknown[0]}; known: {', '.join(ATTACKS)}")
    if options.provider:
        asyncio.run(_provide(options.provider))
    elif options.probe:
        _probe(options.probe)
    else:
        stop_on_sigterm()
        port = free_port()
        with (
            tempfile.TemporaryDirectory(prefix="maniac-attacks-") as directory,
            subprocess.Popen(module_command("attacks", "--provider", port)) as provider,
            gateway(f"http://127.0.0.1:{port}/v1", Path(directory), has_budget=False) as running,
        ):
            try:
                _attack(running, options.attacks or list(ATTACKS))
            finally:
                provider.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
