"""Stopping, dying and coming back: nothing that was answered is lost."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from gateway import CONFIG, KEY, Gateway
from upstream import Exchange, Upstream, chunk

BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
Start = Callable[..., Gateway]


def test_sigterm_lets_a_running_stream_finish(start_gateway: Start, upstream: Upstream) -> None:
    """A stream that runs when the signal comes ends whole, is recorded, and the exit status is 0."""
    go_on = upstream.event()

    async def slow(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("first"))
        await go_on.wait()
        await exchange.event(chunk(" last", finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    upstream.handler = slow
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    text = ""
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as response,
    ):
        for line in response.iter_lines():
            text += line + "\n"
            if "first" in line:
                assert gateway.process is not None
                gateway.process.send_signal(signal.SIGTERM)
                _wait_until_refused(gateway)
                upstream.set(go_on)
    assert gateway.process is not None
    status = gateway.process.wait(90)

    assert " last" in text
    assert text.rstrip().endswith("data: [DONE]")
    assert status == 0
    assert _statuses(gateway) == ["completed"]


def test_a_second_sigterm_stops_at_once(start_gateway: Start, upstream: Upstream) -> None:
    """An operator in a hurry does not wait for the grace period; the cut stream is still recorded."""

    async def hang(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("first"))
        await exchange.wait_until_gone()

    upstream.handler = hang
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as response,
        contextlib.suppress(httpx.TransportError),
    ):
        for line in response.iter_lines():
            if "first" in line:
                break
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        _wait_until_refused(gateway)
        time.sleep(0.1)  # Two signals that come together are one request.
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(20)
        took_s = time.monotonic() - started

    assert took_s < 15, "not the grace period"


def test_the_edge_answers_503_while_the_core_is_down_and_recovers(
    start_gateway: Start, upstream: Upstream
) -> None:
    """A dead core means 503 with Retry-After at once; when it is back, requests are served again."""
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    statuses: list[int] = []
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        gateway.kill_core()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            response = client.post("/v1/chat/completions", json=BODY)
            statuses.append(response.status_code)
            if response.status_code == 503:
                assert response.json()["error"]["code"] == "dependency_unavailable"
                assert int(response.headers["retry-after"]) >= 1
            elif 503 in statuses:
                break
            time.sleep(0.02)  # There is no event across processes to wait for.

    assert 503 in statuses
    assert statuses[-1] == 200


@pytest.mark.long
@pytest.mark.timeout(300)
def test_no_answered_completion_is_lost_when_the_core_is_killed(
    start_gateway: Start, upstream: Upstream
) -> None:
    """The core is killed with -9 at random moments under load: every answer a client got whole is stored, once."""
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    answered: list[str] = []
    stop = threading.Event()

    def load(number: int) -> None:
        with gateway.client() as client:
            while not stop.is_set():
                body = {**BODY, "stream": number % 2 == 0}
                with contextlib.suppress(httpx.TransportError):
                    response = client.post("/v1/chat/completions", json=body)
                    if response.status_code == 200 and (found := _whole_answer(response.text)):
                        answered.append(found)

    randomness = random.Random(7)
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(load, number) for number in range(8)]
        for _ in range(5):
            before = len(answered)
            while len(answered) < before + 50:
                time.sleep(randomness.uniform(0, 0.05))  # The moment is to be random.
            gateway.kill_core()
        before = len(answered)
        while len(answered) < before + 50:
            time.sleep(0.02)
        stop.set()
        for one in running:
            one.result()
    gateway.stop()

    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        stored = [row[0] for row in database.execute("SELECT id FROM completions")]
        whole = database.execute("PRAGMA integrity_check").fetchone()[0]
    assert len(answered) >= 300
    assert whole == "ok"
    assert len(stored) == len(set(stored))
    assert set(answered) <= set(stored)


@pytest.mark.usefixtures("upstream")
def test_a_revoked_key_is_refused(gateway: Gateway) -> None:
    """A key that is revoked while the gateway runs stops working by itself."""
    from cli import run_command

    made = run_command(gateway, "keys", "create", "--name", "short-lived")
    key = next(word for word in made.split() if word.startswith("mk-"))
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=gateway.url, headers=headers) as client:
        assert client.get("/v1/chat/completions").status_code == 200
        listed = run_command(gateway, "keys", "list")
        key_id = next(line for line in listed.splitlines() if "short-lived" in line).split()[0]
        run_command(gateway, "keys", "revoke", key_id)
        revoked = time.monotonic()
        while client.get("/v1/chat/completions").status_code == 200:
            assert time.monotonic() - revoked < 10
            time.sleep(0.02)  # There is no event across processes to wait for.

    assert key != KEY


def _whole_answer(text: str) -> str | None:
    """Return the id of an answer that came whole."""
    if text.startswith("{"):
        return str(json.loads(text)["id"])
    if text.endswith("data: [DONE]\n\n") and '"error"' not in text:
        first = next(line for line in text.split("\n") if line.startswith("data: "))
        return str(json.loads(first.removeprefix("data: "))["id"])
    return None


def _wait_until_refused(gateway: Gateway) -> None:
    """Wait until the edge has stopped accepting."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            httpx.get(f"{gateway.url}/healthz", timeout=20)


def _statuses(gateway: Gateway) -> list[str]:
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        return [row[0] for row in database.execute("SELECT status FROM completions")]
