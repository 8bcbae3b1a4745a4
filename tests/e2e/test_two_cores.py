"""Budgets and limits over two cores that share a PostgreSQL and a Redis: as exact as in one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import httpx
import pytest
from cli import run_command
from gateway import Gateway, lasting_window_s
from upstream import Exchange, Upstream, answer_or_stream

CONFIG = """
[core]
database_url = "{database_url}"
redis_url = "redis://127.0.0.1:6379/9"
redis_timeout_ms = 5000
rate_limit = 1000000
rate_window_s = {window_s}
local_model = "off"
[providers.openai]
base_url = "{base_url}"
breaker = false
timeouts = {{ first_token_s = 160, total_s = 160 }}
"""
BODY = {
    "model": "openai/gpt-4o",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1000,
}
SPENT = 9 * 2500 + 3 * 10000


@pytest.fixture
def cores(
    start_gateway: Callable[..., Gateway], upstream: Upstream, postgres_url: str
) -> list[Gateway]:
    """Return two gateways, each with an edge and a core, on the same data."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6379)):
            pytest.skip("no Redis on 127.0.0.1:6379: run redis-server or valkey-server")
    config = CONFIG.format(
        database_url=postgres_url, base_url=upstream.base_url, window_s=lasting_window_s()
    )
    return [start_gateway(config, {"OPENAI_API_KEY": "sk-test"}) for _ in range(2)]


async def _statuses(
    cores: list[Gateway],
    secret: str,
    count: int,
    on_refusal: Callable[[int], None] = lambda _: None,
) -> list[int]:
    """Send requests to both edges at once."""
    refused = 0
    async with httpx.AsyncClient(
        # Each of them once: httpx looks through all idle connections for each that becomes idle.
        headers={"authorization": f"Bearer {secret}", "connection": "close"},
        timeout=170,
        limits=httpx.Limits(max_connections=count),
    ) as client:

        async def one(position: int) -> int:
            nonlocal refused
            url = f"{cores[position % 2].base_url}/chat/completions"
            status = (await client.post(url, json=BODY)).status_code
            if status != 200:
                refused += 1
                on_refusal(refused)
            return status

        return list(await asyncio.gather(*(one(n) for n in range(count))))


@pytest.mark.long
def test_500_requests_over_two_cores_against_a_budget_for_100(
    cores: list[Gateway], upstream: Upstream
) -> None:
    """Exactly 100 reach the provider, and what is spent is what the records of both cores say."""
    tiny = run_command(cores[0], "keys", "create", "--budget-usd", "0.000000001").strip()
    refusal = httpx.post(
        f"{cores[1].base_url}/chat/completions",
        headers={"authorization": f"Bearer {tiny}"},
        json=BODY,
    ).json()
    worst = round(float(refusal["error"]["details"]["needed_usd"]) * 1e9)
    released = upstream.event()

    async def hold(exchange: Exchange) -> None:
        await released.wait()
        await answer_or_stream(exchange)

    upstream.handler = hold
    budget = f"{(100 * worst + worst // 2) / 1e9:.9f}"
    secret = run_command(
        cores[0],
        "keys",
        "create",
        "--create-project",
        "--budget-usd",
        budget,
        "--organization",
        "crowd",
    ).strip()

    def on_refusal(refused: int) -> None:
        if refused == 400:
            upstream.set(released)

    statuses = asyncio.run(_statuses(cores, secret, 500, on_refusal))
    assert (statuses.count(200), statuses.count(402)) == (100, 400)
    assert len(upstream.exchanges) == 100
    listed = run_command(cores[1], "budgets", "list").splitlines()
    line = next(line for line in listed if line.startswith("crowd ")).split()
    _, spent, reserved = line[-5:-2]
    assert (round(float(spent) * 1e9), float(reserved)) == (100 * SPENT, 0)
    report = httpx.get(
        f"{cores[1].base_url}/usage",
        headers={"authorization": f"Bearer {secret}"},
        params={"group_by": ""},
    ).json()
    assert round(report["totals"]["spend"] * 1e9) == 100 * SPENT


def test_a_rate_is_counted_over_both_cores(cores: list[Gateway], upstream: Upstream) -> None:
    """300 requests at once against a limit of 100 for the key: exactly 100 are answered."""
    secret = run_command(cores[0], "keys", "create", "--rate", "100").strip()
    statuses = asyncio.run(_statuses(cores, secret, 300))
    assert (statuses.count(200), statuses.count(429)) == (100, 200)
    assert len(upstream.exchanges) == 100
