"""A client that reads slowly: memory stays bounded, its provider is slowed down, and nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import httpx
from asking import MESSAGES
from gateway import KEY, Gateway
from ledger import Ledger, text_of
from providers import Exchange, Providers, chunk

PIECE = "0123456789abcdef" * 2048  # 32 KiB
PIECES = 2048  # 64 MiB in all would be the provider's wish; it gets as far as the gateway lets it.


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def open_slowly(gateway: Gateway, request_id: str, provider: str = "patient") -> socket.socket:
    """Ask for a stream over a socket with a small window, and read nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.settimeout(30)
    client.connect(("127.0.0.1", gateway.port))
    body = json.dumps({"model": f"{provider}/m", "messages": MESSAGES, "stream": True}).encode()
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"x-request-id: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
        % (KEY.encode(), request_id.encode(), len(body), body)
    )
    return client


def _kernel_buffers() -> int:
    """Return the most that the kernel buffers of one connection, both ends, in bytes."""
    folder = Path("/proc/sys/net/ipv4")
    return sum(int((folder / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem"))


def test_a_slow_reader_slows_its_provider_and_nobody_else(
    gateway: Gateway, providers: Providers, ledger: Ledger
) -> None:
    """The provider is blocked after a bounded number of bytes; the rest arrives when the client reads on."""
    blocked = providers.flag()
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.begin_stream()
        for _ in range(PIECES):
            sending = asyncio.ensure_future(exchange.event(chunk(PIECE)))
            # A reader that keeps up takes a piece in a millisecond.
            done, _ = await asyncio.wait({sending}, timeout=1.0)
            if not done:
                blocked.set()
                await sending
            sent += 1
            if blocked.is_set():
                break
        await exchange.event(chunk(None, finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    providers.handlers["patient"] = flood
    pids = gateway.children(" core") + gateway.children("maniac_edge")
    assert len(pids) == 2
    before = [resident_bytes(pid) for pid in pids]
    with contextlib.closing(open_slowly(gateway, "slow-reader")) as client:
        assert blocked.wait(30), "the provider was never held back"
        held = sent * len(PIECE)
        grown = [resident_bytes(pid) - size for pid, size in zip(pids, before, strict=True)]
        other = httpx.post(
            f"{gateway.base_url}/chat/completions",
            json={"model": "spare/m", "messages": MESSAGES},
            headers={"authorization": f"Bearer {KEY}"},
            timeout=20,
        )
        answer = bytearray()
        while data := client.recv(1 << 20):
            answer += data

    assert other.status_code == 200
    # What the kernel may hold for the provider's connection on this machine, and what the gateway may.
    assert held < _kernel_buffers() + 12 * 1024 * 1024
    assert max(grown) < 32 * 1024 * 1024
    assert b"data: [DONE]" in answer[-200:]
    assert len(answer) > sent * len(PIECE)
    record = ledger.record("slow-reader")
    assert record["status"] == "completed"
    assert text_of(record) == PIECE * sent


def test_a_reader_that_stops_for_good_is_recorded_when_it_leaves(
    gateway: Gateway, providers: Providers, ledger: Ledger
) -> None:
    """While it is blocked the gateway still notices that the client has gone, and lets the provider go."""
    blocked = providers.flag()

    async def flood(exchange: Exchange) -> None:
        await exchange.begin_stream()
        while True:
            sending = asyncio.ensure_future(exchange.event(chunk(PIECE)))
            done, _ = await asyncio.wait({sending}, timeout=0.5)
            if not done:
                blocked.set()
            with contextlib.suppress(ConnectionError):
                await sending
                continue
            exchange.gone.set()
            return

    providers.handlers["patient"] = flood
    with contextlib.closing(open_slowly(gateway, "stopped-reader")):
        assert blocked.wait(30)

    assert providers.last.gone.wait(60)
    record = ledger.wait_for("stopped-reader")
    assert (record["status"], record["usage_source"]) == ("cancelled", "estimated")
    assert text_of(record).startswith(PIECE)


async def pour(exchange: Exchange) -> None:
    """Send small deltas for as long as they are taken: each becomes an event many times its size."""
    await exchange.begin_stream()
    event = chunk("ab")
    with contextlib.suppress(ConnectionError):
        while True:
            await exchange.event(event)


def test_streams_that_nobody_reads_hold_little_and_end_in_time(
    gateway: Gateway, providers: Providers, ledger: Ledger
) -> None:
    """What they hold is bounded, and their providers are let go after the total time."""
    providers.handlers["total"] = pour
    pids = gateway.children(" core") + gateway.children("maniac_edge")
    before = sum(map(resident_bytes, pids))
    with contextlib.ExitStack() as stack:
        for number in range(20):
            client = open_slowly(gateway, f"unread-{number}", "total")
            stack.enter_context(contextlib.closing(client))
        records = [ledger.wait_for(f"unread-{number}") for number in range(20)]
        held = sum(map(resident_bytes, pids)) - before

    # Cut by the provider's deadline, or while it was held back; without content where the machine was slow.
    assert {record["status"] for record in records} <= {"truncated", "cancelled", "failed"}
    assert held < 20 * 6 * 1024 * 1024
