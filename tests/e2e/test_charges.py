"""What is charged where nobody says what it cost: answers that nobody waited for, and charges that nobody expected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cli import run_command
from gateway import Gateway
from upstream import Exchange, Upstream, chunk, completion

CONFIG = """
[core]
rate_limit = 1000000
local_model = "off"
[providers.openai]
base_url = "{base_url}"
max_retries = 0
breaker = false
[providers.openrouter]
base_url = "{base_url}"
[providers.own]
kind = "openai"
base_url = "{base_url}"
unpriced = "allow"
[providers.anthropic]
base_url = "http://127.0.0.1:{full}"
max_retries = 0
breaker = false
timeouts = {{ connect_s = 30 }}
"""
KEYS = dict.fromkeys(("OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"), "sk-test")
PROMPT = "An ordinary question of some length, so that it costs something."
CHARGED = 4_000_000
"""Nano-USD."""


@pytest.fixture(scope="module")
def _full_port() -> Iterator[int]:
    """A port that accepts no connection and refuses none."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port


@pytest.fixture(scope="module")
def charging(
    _upstream: Upstream, _full_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("charging"),
        CONFIG.format(base_url=_upstream.base_url, full=_full_port),
        environ=KEYS,
    )
    gateway.start()
    yield gateway
    gateway.stop()


def _client(gateway: Gateway, *options: str) -> httpx.Client:
    secret = run_command(gateway, "keys", "create", "--create-project", *options).strip()
    return httpx.Client(
        base_url=gateway.url, headers={"authorization": f"Bearer {secret}"}, timeout=60
    )


def _ask(client: httpx.Client, model: str, **changes: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1_000}
    timeout = changes.pop("timeout", 60)
    return client.post("/v1/chat/completions", json={**body, **changes}, timeout=timeout)


def _listed(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """Return the records by their ids."""
    page = client.get("/v1/chat/completions", params={"limit": 100}).json()
    return {one["id"]: one for one in page["data"]}


def _leave(client: httpx.Client, model: str, after_s: float, **changes: Any) -> dict[str, Any]:
    """Ask, leave, and return what is recorded."""
    known = _listed(client).keys()
    with pytest.raises(httpx.ReadTimeout):
        _ask(client, model, timeout=httpx.Timeout(60, read=after_s), **changes)
    deadline = time.monotonic() + 30
    while not (new := [one for key, one in _listed(client).items() if key not in known]):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # There is no event across processes to wait for.
    (record,) = new
    explained = client.get(f"/v1/chat/completions/{record['id']}/explain").json()
    assert explained["status"] == "cancelled"
    return {**record, "explained": explained}


def _spent(gateway: Gateway, organization: str) -> float:
    lines = run_command(gateway, "budgets", "list").splitlines()
    return float(next(line for line in lines if line.startswith(organization)).split()[-4])


def test_a_request_that_was_not_sent_costs_nothing(charging: Gateway) -> None:
    """The client leaves while its provider accepts no connection: an attempt, without usage and without a charge."""
    with _client(charging, "--budget-usd", "5", "--organization", "unsent") as client:
        for stream in (False, True):
            record = _leave(client, "anthropic/claude-sonnet-4-5", 0.5, stream=stream)
            assert not record["usage"]
            assert not record["spend"]
            (attempt,) = record["explained"]["attempts"]
            assert attempt["outcome"] == "cancelled"
            assert not attempt["usage"]
        assert _spent(charging, "unsent") == 0


def test_who_leaves_before_a_whole_answer_pays_for_what_was_generated(
    charging: Gateway, upstream: Upstream
) -> None:
    """By the time that passed and the model's usual speed, which its answers show; at most what was reserved."""

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.5)
        answer = completion("x")
        answer["usage"] = {"prompt_tokens": 20, "completion_tokens": 250}
        await exchange.respond(200, json.dumps(answer).encode())

    async def never(exchange: Exchange) -> None:
        await exchange.wait_until_gone()

    with _client(charging, "--budget-usd", "5", "--organization", "leavers") as client:
        upstream.handler = never
        at_first = _leave(client, "openai/gpt-4o", 1.0)
        # Nothing is known of the model: a hundred tokens a second.
        assert 60 <= at_first["usage"]["completion_tokens"] <= 400
        assert at_first["usage_source"] == "estimated"
        upstream.handler = slow
        for _ in range(2):
            assert _ask(client, "openai/gpt-4o").status_code == 200
        upstream.handler = never
        later = _leave(client, "openai/gpt-4o", 1.0)
        assert 250 <= later["usage"]["completion_tokens"] <= 1_000
        assert later["usage_source"] == "estimated"
        assert later["spend"] >= 250 * 10e-6
        assert (
            _leave(client, "openai/gpt-4o", 1.0, max_tokens=30)["usage"]["completion_tokens"] == 30
        )
        spends = [one["spend"] for one in _listed(client).values()]
        assert _spent(charging, "leavers") == pytest.approx(sum(spends))


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_early_does_not_get_past_a_budget(
    charging: Gateway, upstream: Upstream, stream: bool
) -> None:
    """A client that never waits for its answers is refused as one that does, also where a model thinks unseen."""

    async def never(exchange: Exchange) -> None:
        if stream:
            await exchange.begin_stream()
            await exchange.event(chunk(None, role="assistant"))
        await exchange.wait_until_gone()

    upstream.handler = never
    organization = f"evaders-{stream}"
    with _client(charging, "--budget-usd", "0.012", "--organization", organization) as client:
        statuses = []
        for _ in range(20):
            try:
                timeout = httpx.Timeout(60, read=0.3)
                statuses.append(_ask(client, "openai/gpt-4o", timeout=timeout, stream=stream))
            except httpx.ReadTimeout:
                continue
        assert statuses
        assert {answer.status_code for answer in statuses} == {402}


def test_a_stream_that_was_left_costs_what_was_received(
    charging: Gateway, upstream: Upstream
) -> None:
    """Nothing is added to it, however long it took."""
    told: list[list[str]] = []

    async def halting(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in told[0]:
            await exchange.event(chunk(piece))
        await exchange.wait_until_gone()

    upstream.handler = halting
    with _client(charging) as client:
        # A piece is a token at least: digits are more of them than words of that length.
        for pieces, least, most in ((["Four words of it. "], 3, 6), (list("123456789"), 9, 9)):
            told[:] = [pieces]
            record = _leave(client, "openai/gpt-4o", 1.0, stream=True)
            assert least <= record["usage"]["completion_tokens"] <= most
            assert record["usage_source"] == "estimated"


@pytest.mark.parametrize("model", ["own/m1", "openrouter/meta-llama/llama-3.3-70b-instruct:free"])
def test_a_charge_that_nobody_expected_is_in_the_budget(
    charging: Gateway, upstream: Upstream, model: str
) -> None:
    """The model has no price, or costs nothing, and its provider reports a charge: later requests are refused."""

    async def charge(exchange: Exchange) -> None:
        answer = completion("x")
        answer["usage"] = {**answer["usage"], "cost": CHARGED / 1e9}
        await exchange.respond(200, json.dumps(answer).encode())

    upstream.handler = charge
    organization = model.partition("/")[0] + "-charged"
    with _client(charging, "--budget-usd", "0.001", "--organization", organization) as client:
        statuses = [_ask(client, model).status_code for _ in range(5)]
        assert statuses == [200, 402, 402, 402, 402]
        assert _spent(charging, organization) == CHARGED / 1e9
        # Of another one nothing is known; its charge is in the budget although that is used up.
        assert _ask(client, f"own/other-{organization}").status_code == 200
        assert _spent(charging, organization) == 2 * CHARGED / 1e9
    # What the model was charged once is reserved from now on.
    budget = f"{2.5 * CHARGED / 1e9:.9f}"
    with _client(charging, "--budget-usd", budget, "--organization", f"{organization}-2") as client:
        assert [_ask(client, model).status_code for _ in range(4)] == [200, 200, 402, 402]
