"""Budgets over HTTP: refused before any provider is called, and never overspent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from cli import run_command
from gateway import INTERNAL_KEY, Gateway
from maniac_gateway.v1 import keys_pb2, keys_pb2_grpc
from upstream import Exchange, Upstream, answer_or_stream

CONFIG = """
[core]
rate_limit = 1000000
local_model = "off"
[providers.openai]
base_url = "{base_url}"
max_retries = 2
breaker = false
timeouts = {{ first_token_s = 160, idle_s = 160, total_s = 160 }}
[providers.own]
kind = "openai"
base_url = "{base_url}"
unpriced = "allow"
[providers.strange]
kind = "openai"
base_url = "{base_url}"
"""
BODY = {
    "model": "openai/gpt-4o",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1000,
}
SPENT = 9 * 2500 + 3 * 10000
"""What the provider's usual answer costs: nano-USD for 9 and 3 tokens of gpt-4o."""


@pytest.fixture(scope="module")
def spending(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway whose models have prices."""
    gateway = Gateway(
        tmp_path_factory.mktemp("spending"),
        CONFIG.format(base_url=_upstream.base_url),
        environ={"OPENAI_API_KEY": "sk-test"},
    )
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def make_key(spending: Gateway) -> Callable[..., httpx.Client]:
    """Return a function that makes a key and returns a client with it."""

    def make(*options: str) -> httpx.Client:
        secret = run_command(spending, "keys", "create", "--create-project", *options).strip()
        return httpx.Client(
            base_url=spending.url, headers={"authorization": f"Bearer {secret}"}, timeout=60
        )

    return make


def _ask(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={**BODY, **changes})


def _worst_case(make_key: Callable[..., httpx.Client]) -> int:
    """Return the nano-USD that a request reserves, as a refusal tells it."""
    with make_key("--budget-usd", "0.000000001", "--organization", "nobody") as client:
        refused = _ask(client).json()["error"]
    return round(float(refused["details"]["needed_usd"]) * 1e9)


def _budgets(gateway: Gateway, organization: str) -> list[list[str]]:
    """Return the lines of `budgets list` of an organization: period, limit, spent, reserved, left, reset."""
    lines = run_command(gateway, "budgets", "list").splitlines()
    return [line.split()[-6:] for line in lines if line.startswith(f"{organization} ")]


def test_a_budget_that_is_too_small_is_402_before_a_provider_is_called(
    make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """The refusal says which budget is short of what, is final for clients that retry, and costs nothing."""
    with make_key("--budget-usd", "0.01", "--per", "day") as client:
        response = _ask(client)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (402, "insufficient_balance")
        assert error["type"] == "invalid_request_error"
        assert (error["details"]["budget"], error["details"]["period"]) == ("key", "day")
        assert float(error["details"]["needed_usd"]) > 0.01
        assert "x-ratelimit-limit" in response.headers
        assert upstream.exchanges == []
        assert _ask(client, max_tokens=100).status_code == 200
        streamed = _ask(client, stream=True)
        assert (streamed.status_code, streamed.json()["error"]["code"]) == (
            402,
            "insufficient_balance",
        )


def test_what_is_decided_before_the_budget_and_after_it(
    make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """An unknown model is 404 with or without money, and without money a provider without a key is 402."""
    with make_key("--budget-usd", "0.000000001") as client:
        assert _ask(client, model="maniac:no").status_code == 404
        assert _ask(client, n=2).status_code == 400
        assert _ask(client, model="anthropic/claude-sonnet-4-5").status_code == 402
        assert upstream.exchanges == []


def test_500_requests_at_once_against_a_budget_for_100(
    spending: Gateway, make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """Exactly 100 reach the provider while none is answered; what is spent is then what the records say."""
    worst = _worst_case(make_key)
    limit = 100 * worst + worst // 2
    released = upstream.event()

    async def hold(exchange: Exchange) -> None:
        await released.wait()
        await answer_or_stream(exchange)

    upstream.handler = hold
    with make_key("--budget-usd", f"{limit / 1e9:.9f}", "--organization", "crowd") as client:
        statuses = asyncio.run(_crowd(client, lambda: upstream.set(released)))
        assert len(upstream.exchanges) == 100
        assert sorted(set(statuses)) == [200, 402]
        assert statuses.count(200) == 100
        _, limited, spent, reserved, *_ = _budgets(spending, "crowd")[0]
        listed = client.get("/v1/chat/completions", params={"limit": 1}).json()
    assert float(limited) == limit / 1e9
    assert (float(spent), float(reserved)) == (100 * SPENT / 1e9, 0)
    assert listed["data"][0]["spend"] == SPENT / 1e9


async def _crowd(client: httpx.Client, release: Callable[[], None]) -> list[int]:
    """Send 500 requests at once; release those that were let through once all others are refused."""
    refused = 0
    async with httpx.AsyncClient(
        base_url=client.base_url,
        # Each of them once: httpx looks through all idle connections for each that becomes idle.
        headers={**client.headers, "connection": "close"},
        timeout=170,
        limits=httpx.Limits(max_connections=500),
    ) as crowd:

        async def one() -> int:
            nonlocal refused
            status = (await crowd.post("/v1/chat/completions", json=BODY)).status_code
            refused += status != 200
            if refused == 400:
                release()
            return status

        return list(await asyncio.gather(*(one() for _ in range(500))))


def test_failures_and_disconnects_give_back_what_was_reserved(
    spending: Gateway, make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """A budget for one request at a time serves one after the other, whatever became of the one before."""
    worst = _worst_case(make_key)

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(400, b'{"error": {"message": "no"}}')

    async def stall(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event({"choices": [{"index": 0, "delta": {"content": "Hel"}}]})
        await exchange.wait_until_gone()

    with make_key("--budget-usd", f"{worst * 1.5 / 1e9:.9f}", "--organization", "one") as client:
        upstream.handler = refuse
        assert [_ask(client).status_code for _ in range(3)] == [400] * 3
        upstream.handler = stall
        with client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            next(lines)
            upstream.handler = answer_or_stream
            assert _ask(client).status_code == 402
        assert upstream.exchanges[3].gone.wait(60)
        deadline = time.monotonic() + 60
        while _ask(client).status_code != 200:
            assert time.monotonic() < deadline, "the reservation of the broken stream is kept"
            time.sleep(0.02)  # There is no event across processes to wait for.
        assert float(_budgets(spending, "one")[0][3]) == 0


def test_retries_that_a_provider_bills_are_covered_too(
    make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """A further attempt reserves again when the one before may cost, and is not made when there is no money for it."""
    worst = _worst_case(make_key)

    async def break_off(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
        await exchange.send(head + b'{"choices": [')
        exchange.close()

    upstream.handler = break_off
    with make_key("--budget-usd", f"{worst / 1e9:.9f}") as client:
        assert _ask(client).status_code == 502, (
            "the provider's failure is what the caller can act on"
        )
    assert len(upstream.exchanges) == 1
    upstream.reset()
    upstream.handler = break_off
    with make_key("--budget-usd", "1") as client:
        assert _ask(client).status_code == 502
    assert len(upstream.exchanges) == 3


def test_budgets_of_project_and_organization_bind_all_their_keys(
    spending: Gateway, make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """Set and removed while the gateway runs; in force by themselves."""
    name = "shared"
    with (
        make_key("--organization", name, "--project", f"{name}-a") as first,
        make_key("--organization", name, "--project", f"{name}-b") as second,
    ):
        assert [_ask(one).status_code for one in (first, second)] == [200, 200]
        run_command(spending, "budgets", "set", "project", f"{name}-a", "--usd", "0", "--per=day")
        _wait_for(lambda: _ask(first).status_code == 402)
        assert _ask(second).status_code == 200
        run_command(spending, "budgets", "set", "organization", name, "--usd", "0.001")
        _wait_for(lambda: _ask(second).status_code == 402)
        details = _ask(second).json()["error"]["details"]
        assert (details["budget"], details["period"]) == ("organization", "month")
        spent = {line[0]: round(float(line[2]) * 1e9) for line in _budgets(spending, name)}
        assert spent["month"] == len(upstream.exchanges) * SPENT, "what was spent before counts"
        run_command(spending, "budgets", "remove", "organization", name)
        _wait_for(lambda: _ask(second).status_code == 200)


def _wait_for(holds: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < 10
        time.sleep(0.02)  # There is no event across processes to wait for.


def test_models_without_a_price_need_the_operators_word(
    make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """With a budget, a model of unknown price is refused unless its provider says `unpriced = "allow"`."""
    with make_key("--budget-usd", "5") as client:
        refused = _ask(client, model="strange/m1")
        assert (refused.status_code, refused.json()["error"]["param"]) == (402, "model")
        assert upstream.exchanges == []
        assert _ask(client, model="own/m1").status_code == 200
        # A fallback whose cost cannot be reserved is skipped.
        assert _ask(client, models=["strange/m1"]).status_code == 200
    with make_key() as client:
        assert _ask(client, model="strange/m1").status_code == 200


def test_what_a_killed_core_called_is_charged_and_shown(
    spending: Gateway, make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """Nobody knows whether the call was paid for: it is in the budget, the reports and the lists at its worst case."""
    worst = _worst_case(make_key)

    async def stall(exchange: Exchange) -> None:
        await exchange.wait_until_gone()

    upstream.handler = stall
    with make_key(
        "--budget-usd", f"{worst * 1.5 / 1e9:.9f}", "--project", "phoenix", "--organization", "ash"
    ) as client:
        before = len(upstream.exchanges)
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(_background(client))
            upstream.wait_for_requests(before + 1)
            spending.kill_core()
            stream()
        upstream.reset()
        spending.wait_until_ready()
        assert _ask(client).status_code == 402
        _, spent, reserved = _budgets(spending, "ash")[0][-5:-2]
        assert (float(spent), float(reserved)) == (worst / 1e9, 0)
        totals = client.get("/v1/usage").json()["totals"]
        assert (totals["request_count"], totals["unknown_count"]) == (2, 1)
        assert round(totals["spend"] * 1e9) == worst
        (record,) = client.get("/v1/chat/completions").json()["data"]
        found = client.get(f"/v1/chat/completions/{record['id']}/explain").json()
        assert found["status"] == "unknown"
        assert "killed" in found["error_message"]


@contextlib.contextmanager
def _background(client: httpx.Client) -> Iterator[Callable[[], object]]:
    """Send a request in a thread; the function waits for its end."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(_ask, client)
        yield sent.result


def test_keys_with_limits_over_grpc(spending: Gateway, upstream: Upstream) -> None:
    """An internal service makes a key with a budget and limits of its own."""
    metadata = (("authorization", f"Bearer {INTERNAL_KEY}"),)
    with grpc.insecure_channel(spending.grpc_target) as channel:
        made = keys_pb2_grpc.KeyServiceStub(channel).CreateKey(
            keys_pb2.CreateKeyRequest(
                name="limited",
                rate_limit=3,
                token_limit=100_000,
                budget=keys_pb2.Budget(
                    limit_nano_usd=1, period=keys_pb2.BudgetPeriod.BUDGET_PERIOD_TOTAL
                ),
            ),
            metadata=metadata,
        )
    assert (made.key.rate_limit, made.key.token_limit) == (3, 100_000)
    response = httpx.post(
        f"{spending.base_url}/chat/completions",
        headers={"authorization": f"Bearer {made.secret}"},
        json=BODY,
    )
    assert response.status_code == 402
    assert response.json()["error"]["details"]["period"] == "total"
    assert response.headers["x-ratelimit-limit"] == "3"
    assert upstream.exchanges == []


def test_nonsense_on_the_command_line_is_refused(spending: Gateway) -> None:
    """Amounts and names that are none are named, and nothing is changed."""
    import subprocess
    import sys

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "maniac_core.cli.main", *arguments]
        command += [f"--config={spending.config}", f"--data-dir={spending.data_dir}"]
        return subprocess.run(
            command, env=spending.environ, capture_output=True, text=True, timeout=120, check=False
        )

    before = run("budgets", "list").stdout
    for arguments, complaint in (
        (("budgets", "set", "project", "default", "--usd", "much"), "much"),
        (("budgets", "set", "project", "default", "--usd=-1"), "-1"),
        (("budgets", "set", "project", "nowhere", "--usd", "1"), "nowhere"),
        (("budgets", "remove", "key", "mk-nobody"), "mk-nobody"),
        (("keys", "create", "--budget-usd", "0"), "budget"),
        (("keys", "create", "--budget-usd", "nan"), "nan"),
    ):
        ran = run(*arguments)
        assert (ran.returncode, complaint in ran.stderr) == (1, True), ran
    assert run("budgets", "list").stdout == before


def test_a_budget_of_a_key_is_removed_by_its_prefix_as_lists_show_it(
    spending: Gateway, make_key: Callable[..., httpx.Client]
) -> None:
    """What is copied from `keys list` names the key."""
    make_key("--name", "listed").close()
    rows = run_command(spending, "keys", "list").splitlines()
    (prefix,) = [row.split()[1] for row in rows if " listed " in row]
    assert prefix.endswith("…")
    run_command(spending, "budgets", "set", "key", prefix, "--usd", "1")
    assert run_command(spending, "budgets", "remove", "key", prefix) == "removed\n"


def test_a_limit_of_tokens_beyond_all_sums_is_402(
    make_key: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """What is reserved is added up in the database, and fails nobody who reserves at the same time."""
    with make_key("--budget-usd", "1000") as client:
        for limit in (10**12, 2**63 - 1):
            response = _ask(client, model="openai/chatgpt-4o-latest", max_tokens=limit)
            assert (response.status_code, response.json()["error"]["code"]) == (
                402,
                "insufficient_balance",
            )
    assert upstream.exchanges == []
