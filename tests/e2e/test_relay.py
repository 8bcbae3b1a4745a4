"""The stream between edge and core under faults: what breaks one request breaks no other."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from gateway import CONFIG, KEY, Gateway
from upstream import Exchange, Upstream, answer_or_stream, chunk

BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**BODY, "stream": True}
Start = Callable[..., Gateway]


def raw_request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def endless(exchange: Exchange) -> None:
    """Stream a first word, then nothing, until the gateway goes away."""
    await exchange.begin_stream()
    await exchange.event(chunk("first"))
    await exchange.wait_until_gone()


def statuses(gateway: Gateway) -> list[str]:
    with closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        return [row[0] for row in database.execute("SELECT status FROM completions")]


def test_a_core_that_dies_fails_its_streams_at_once_and_new_ones_work(
    start_gateway: Start, upstream: Upstream
) -> None:
    """A stream that has begun gets an error frame and the end; the next request is served by the new core."""
    upstream.handler = endless
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    lines: list[str] = []
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=STREAM) as response,
    ):
        for line in response.iter_lines():
            lines.append(line)
            if "first" in line:
                killed = time.monotonic()
                gateway.kill_core()
        took_s = time.monotonic() - killed
    frames = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    upstream.handler = answer_or_stream
    with gateway.client() as client:
        deadline = time.monotonic() + 60
        while client.post("/v1/chat/completions", json=BODY).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # There is no event across processes to wait for.

    assert json.loads(frames[-2])["error"]["code"] == "dependency_unavailable"
    assert frames[-1] == "[DONE]"
    assert took_s < 10


def test_an_edge_that_dies_lets_the_providers_go(start_gateway: Start, upstream: Upstream) -> None:
    """The core cancels what ran for the edge, and records it."""
    upstream.handler = endless
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=STREAM) as response,
    ):
        lines = response.iter_lines()
        assert any("first" in line for line in lines)
        for pid in gateway.children("maniac_edge"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(lines)
    assert upstream.last.gone.wait(60)
    gateway.stop()

    assert statuses(gateway) == ["cancelled"]


ALIKE: list[dict[str, Any]] = [
    {},
    {"temperature": 1, "max_tokens": 64.0, "stop": "x", "logit_bias": {"5": 1.0, "6": 0.5}},
    {"user": "u", "big": 12345678901234567890123, "o": {"b": None, "a": [1.0]}},
    {"messages": [{"role": "user", "content": [{"text": "t", "cache_control": {"a": 1.0}}]}]},
    {
        "tools": [{"function": {"name": "f", "parameters": {"a": 1.0}}, "k": 1}],
        "tool_choice": "auto",
    },
    {"metadata": {"a": [1.0]}, "tags": ["a"], "trace": {"id": "t"}, "store": True},
    {"reasoning": {"effort": "low", "max_tokens": 5}, "messages": [{"role": "assistant"}]},
    {"tools": [{"function": {"name": ""}}]},
    {"tags": ["a"] * 257},
    {"model": "nowhere/m"},
    {"n": 2},
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fields", ALIKE)
def test_a_large_request_is_the_same_request(
    gateway: Gateway, upstream: Upstream, fields: dict[str, Any], stream: bool
) -> None:
    """With a body too large for the stream, of spaces, what the provider and the client get is the same."""
    body = json.dumps({**BODY, "stream": stream, **fields}).encode()
    seen = []
    with gateway.client() as client:
        for content in (body, body.ljust(300_000)):
            upstream.exchanges.clear()
            answer = client.post("/v1/chat/completions", content=content)
            text = re.sub(r'"id":"[^"]+"|"created":[0-9]+', "", answer.text)
            kept = ("content-type", "cache-control", "x-maniac-dropped-params")
            headers = [answer.headers.get(name) for name in kept]
            asked = [exchange.body for exchange in upstream.exchanges]
            seen.append((answer.status_code, headers, text, asked))

    assert seen[0] == seen[1]


def test_a_large_body_among_small_ones(gateway: Gateway, upstream: Upstream) -> None:
    """A body of 20 MB goes aside: it arrives whole, and small requests are served meanwhile."""
    text = "x" * 20_000_000
    large = {**BODY, "messages": [{"role": "user", "content": text}], "store": False}
    with ThreadPoolExecutor(8) as threads, gateway.client() as client:
        running = threads.submit(client.post, "/v1/chat/completions", json=large)
        small = [threads.submit(client.post, "/v1/chat/completions", json=BODY) for _ in range(50)]
        answers = [one.result().status_code for one in small]
        answered = running.result()

    received = max((len(exchange.body) for exchange in upstream.exchanges), default=0)
    assert answered.status_code == 200
    assert received > len(text)
    assert answers == [200] * 50


def test_what_failed_requests_sent_is_let_go(gateway: Gateway) -> None:
    """Nothing of a request is kept until the collector of cycles comes, which is seldom."""
    large = {"model": "nobody/m1", "messages": [{"role": "user", "content": "x" * 16_000_000}]}
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=large).status_code == 404
        before = core_memory_mib(gateway)
        for _ in range(25):
            assert client.post("/v1/chat/completions", json=large).status_code == 404
    # Of 400 MB and their copies; allocators keep some of what they get.
    assert core_memory_mib(gateway) - before < 300


def core_memory_mib(gateway: Gateway) -> float:
    (core,) = gateway.children(" core")
    fields = Path(f"/proc/{core}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_a_reader_that_stops_stops_only_its_own_provider(
    gateway: Gateway, upstream: Upstream
) -> None:
    """A client that does not read holds back its own stream; the provider is slowed, others go on."""
    blocked = upstream.event()
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        if not exchange.json.get("stream"):
            await exchange.answer()
            return
        await exchange.begin_stream()
        piece = "y" * 4096
        try:
            while True:
                await asyncio.wait_for(exchange.event(chunk(piece)), 0.5)
                sent += 1
        except TimeoutError:
            # The gateway has stopped reading.
            blocked.set()
        await exchange.wait_until_gone()

    upstream.handler = flood
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(raw_request(STREAM))
    await reader.readuntil(b"\r\n\r\n")
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        deadline = time.monotonic() + 60
        while not blocked.is_set():
            assert time.monotonic() < deadline
            answer = await client.post(f"{gateway.base_url}/chat/completions", json=BODY)
            assert answer.status_code == 200
    writer.close()

    # What lies between: buffers of sockets and frames in flight, not the memory of the gateway.
    assert sent * 4096 < 32_000_000
    flooded = next(one for one in upstream.exchanges if one.json.get("stream"))
    assert await asyncio.to_thread(flooded.gone.wait, 60)


@pytest.mark.long
async def test_a_thousand_cancels_leave_nothing_behind(
    start_gateway: Start, upstream: Upstream
) -> None:
    """A thousand clients that leave at once free as many providers, and each leaves one record."""
    upstream.handler = endless
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))

    async def come_and_go() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(raw_request(STREAM))
        await reader.readuntil(b"first")
        everyone_came.release()
        await leave.wait()
        writer.close()

    everyone_came, leave = asyncio.Semaphore(0), asyncio.Event()
    clients = [asyncio.create_task(come_and_go()) for _ in range(1000)]
    for _ in clients:
        await everyone_came.acquire()
    leave.set()
    await asyncio.gather(*clients)
    for exchange in upstream.exchanges:
        assert await asyncio.to_thread(exchange.gone.wait, 60)
    upstream.handler = answer_or_stream
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
    gateway.stop()

    assert sorted(statuses(gateway)) == ["cancelled"] * 1000 + ["completed"]


def test_a_core_lets_its_clients_ask_often_whether_it_is_there(gateway: Gateway) -> None:
    """An edge pings an idle core; a server that takes this for abuse breaks the connection after a few."""
    with socket.create_connection(("127.0.0.1", gateway.grpc_port), timeout=10) as connection:
        frames = connection.makefile("rb")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(_SETTINGS))
        for _ in range(6):
            connection.sendall(http2_frame(_PING, b"is there"))
            while (kind := read_http2_frame(frames)) != _PING:
                assert kind != _GOAWAY
            time.sleep(1.1)  # How often is what is tested.


_SETTINGS, _PING, _GOAWAY = 4, 6, 7


def http2_frame(kind: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 0]) + payload


def read_http2_frame(frames: IO[bytes]) -> int:
    """Read a frame and return its kind."""
    head = frames.read(9)
    frames.read(int.from_bytes(head[:3], "big"))
    return head[3]
