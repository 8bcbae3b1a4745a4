"""What requests leave behind that ended in an unusual way: keys, charges, attempts, breakers."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from cli import run_command
from gateway import KEY, Gateway
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc
from upstream import Exchange, Upstream, answer_or_stream

CONFIG = """
[core]
rate_limit = 1000000
local_model = "off"
[providers.openai]
base_url = "{base_url}"
max_retries = 0
[providers.own]
kind = "openai"
base_url = "{base_url}"
unpriced = "allow"
max_retries = 0
[providers.hasty]
kind = "openai"
base_url = "{base_url}"
max_retries = 0
"""
BODY: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1000,
}
SPENT = 9 * 2500 + 3 * 10000
"""What the provider's usual answer costs: nano-USD for 9 and 3 tokens of gpt-4o."""


@pytest.fixture(scope="module")
def outcomes(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway with a provider that has prices and one that needs none."""
    gateway = Gateway(
        tmp_path_factory.mktemp("outcomes"),
        CONFIG.format(base_url=_upstream.base_url),
        environ={"OPENAI_API_KEY": "sk-test"},
    )
    gateway.start()
    yield gateway
    gateway.stop()


def make_key(gateway: Gateway, *options: str) -> httpx.Client:
    """Make a key and return a client with it."""
    secret = run_command(gateway, "keys", "create", "--create-project", *options).strip()
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=gateway.url, headers=headers, timeout=60)


def ask(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={**BODY, **changes})


def budget(gateway: Gateway, organization: str) -> tuple[int, int]:
    """Return what is spent and reserved of an organization's only budget, in nano-USD."""
    lines = run_command(gateway, "budgets", "list").splitlines()
    [line] = [line.split()[-6:] for line in lines if line.startswith(f"{organization} ")]
    return round(float(line[2]) * 1e9), round(float(line[3]) * 1e9)


@contextlib.contextmanager
def written_elsewhere(gateway: Gateway) -> Iterator[Callable[[], object]]:
    """Another process writes to the database: nothing of the gateway's can be committed meanwhile.

    The function, which may be called in any thread, begins it.
    """
    path = gateway.data_dir / "gateway.db"
    with contextlib.closing(
        sqlite3.connect(path, timeout=20, isolation_level=None, check_same_thread=False)
    ) as database:
        yield lambda: database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so in another process."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def create_by_rpc(
    gateway: Gateway,
    deadline_s: float,
    *,
    model: str = "own/m1",
    is_streamed: bool = False,
    **metadata: str,
) -> str:
    """Ask over gRPC, with a deadline; return the id of the answer."""
    params = chat_pb2.ChatCompletionParams(
        model=model, messages=[chat_pb2.ChatMessage(role="user", text="Hi")]
    )
    named = {"authorization": f"Bearer {KEY}", **metadata}
    given = tuple((name.replace("_", "-"), value) for name, value in named.items())
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        if is_streamed:
            streamed = chat_pb2.StreamChatCompletionRequest(params=params)
            chunks = chat.StreamChatCompletion(streamed, timeout=deadline_s, metadata=given)
            [one] = {message.chunk.id for message in chunks}
            return one
        request = chat_pb2.CreateChatCompletionRequest(params=params)
        answer = chat.CreateChatCompletion(request, timeout=deadline_s, metadata=given)
        return answer.completion.id


@pytest.mark.usefixtures("upstream")
def test_a_caller_that_leaves_while_its_key_is_claimed_frees_it(outcomes: Gateway) -> None:
    """The repetition under the same Idempotency-Key is answered at once, not when the claim has run out."""
    key = uuid.uuid4().hex
    create_by_rpc(outcomes, 30)
    with written_elsewhere(outcomes) as begin:
        begin()
        with pytest.raises(grpc.RpcError):
            create_by_rpc(outcomes, 1, idempotency_key=key)
    assert create_by_rpc(outcomes, 15, idempotency_key=key)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answer_that_is_recorded_is_not_made_twice(
    outcomes: Gateway, upstream: Upstream, *, is_streamed: bool
) -> None:
    """A caller that leaves while its answer is being committed gets that answer when it repeats the request."""
    key = uuid.uuid4().hex
    named = {"idempotency_key": key, "x_request_id": key}
    with written_elsewhere(outcomes) as begin:

        async def answer(exchange: Exchange) -> None:
            upstream.handler = answer_or_stream
            begin()
            await answer_or_stream(exchange)

        upstream.handler = answer
        with pytest.raises(grpc.RpcError):
            create_by_rpc(outcomes, 2, is_streamed=is_streamed, **named)
    assert create_by_rpc(outcomes, 15, is_streamed=is_streamed, **named)
    find = "SELECT COUNT(*) FROM completions WHERE request_id = ? AND status = 'completed'"
    with contextlib.closing(sqlite3.connect(outcomes.data_dir / "gateway.db")) as database:
        assert database.execute(find, (key,)).fetchone() == (1,)


async def break_off(exchange: Exchange) -> None:
    """Begin an answer: such an attempt is billed with its prompt, some nine tokens of it."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    await exchange.send(head + b'{"choices": [')
    exchange.close()


@pytest.mark.parametrize("model", ["openai/gpt-4o", "own/m1"])
def test_an_answer_without_a_price_charges_what_earlier_attempts_cost(
    outcomes: Gateway, upstream: Upstream, model: str
) -> None:
    """A provider with `unpriced = "allow"` is uncharged, also as the fallback of one that is paid, or before it."""
    first = model.partition("/")[2]
    fallback = "own/m1" if first == "gpt-4o" else "openai/gpt-4o"

    async def handler(exchange: Exchange) -> None:
        await (break_off(exchange) if exchange.json["model"] == first else exchange.answer())

    upstream.handler = handler
    name = f"mixed-{first}"
    with make_key(outcomes, "--organization", name, "--budget-usd", "1") as client:
        answered = ask(client, model=model, models=[fallback])
        assert (answered.status_code, answered.json()["model"]) == (200, fallback)
        assert len(upstream.exchanges) == 2
        upstream.reset()
        assert ask(client).status_code == 200
        spent, reserved = budget(outcomes, name)
    if model == "own/m1":
        assert (spent, reserved) == (2 * SPENT, 0)
    else:
        assert 0 < spent - SPENT < 100 * 2500
        assert reserved == 0


def test_an_attempt_without_a_price_hides_no_earlier_cost(
    outcomes: Gateway, upstream: Upstream
) -> None:
    """What a paid attempt cost is not there for a later one, whatever was tried between them."""
    with make_key(outcomes, "--organization", "asker", "--budget-usd", "0.000000001") as client:
        needed = ask(client).json()["error"]["details"]["needed_usd"]
    upstream.handler = break_off
    with make_key(outcomes, "--organization", "thrice", "--budget-usd", needed) as client:
        assert ask(client, models=["own/m1", "openai/gpt-4o-2024-08-06"]).status_code == 502
    assert [one.json["model"] for one in upstream.exchanges] == ["gpt-4o", "m1"]


def test_an_attempt_that_was_not_made_is_not_recorded(
    outcomes: Gateway, upstream: Upstream
) -> None:
    """A caller that leaves while money for a fallback is being reserved does not pay for its call."""
    with (
        make_key(outcomes, "--organization", "leaver", "--budget-usd", "0.02") as client,
        written_elsewhere(outcomes) as begin,
    ):

        async def fail(exchange: Exchange) -> None:
            upstream.handler = answer_or_stream
            begin()
            await exchange.respond(500, b'{"error": {"message": "no"}}')

        upstream.handler = fail
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                "/v1/chat/completions",
                json={**BODY, "model": "own/m1", "models": ["openai/gpt-4o"]},
                timeout=2,
            )
    find = """SELECT a.outcome FROM attempts a
                JOIN completions c ON c.seq = a.seq JOIN organizations o ON o.id = c.organization
               WHERE o.name = 'leaver' AND a.outcome <> 'skipped'"""
    with contextlib.closing(sqlite3.connect(outcomes.data_dir / "gateway.db")) as database:
        until(lambda: bool(database.execute(find).fetchall()))
        made = len(database.execute(find).fetchall())
    # The caller may have been too slow to leave: then the fallback was called, and is recorded rightly.
    assert made <= len(upstream.exchanges)


def test_short_deadlines_of_one_caller_pause_no_provider(
    outcomes: Gateway, upstream: Upstream
) -> None:
    """A caller that gives up early says nothing about the provider."""
    release = upstream.event()

    async def slow(exchange: Exchange) -> None:
        await release.wait()
        await answer_or_stream(exchange)

    upstream.handler = slow
    for _ in range(8):
        with pytest.raises(grpc.RpcError):
            create_by_rpc(outcomes, 0.5, model="hasty/m1")
    upstream.set(release)
    upstream.reset()
    with outcomes.client() as client:
        answered = ask(client, model="hasty/m1")
    assert answered.status_code == 200, answered.text


def test_a_budget_is_not_charged_by_requests_of_another_owner(
    outcomes: Gateway, upstream: Upstream
) -> None:
    """What runs when its budget is removed is not charged to one that is made after it."""
    release = upstream.event()

    async def slow(exchange: Exchange) -> None:
        await release.wait()
        await answer_or_stream(exchange)

    with (
        make_key(outcomes, "--organization", "second") as second,
        make_key(outcomes, "--organization", "first") as first,
        ThreadPoolExecutor(1) as pool,
    ):
        run_command(outcomes, "budgets", "set", "organization", "first", "--usd", "0.02")
        until(
            lambda: (
                budget(outcomes, "first") == (0, 0)
                and ask(first, max_tokens=10_000).status_code == 402
            )
        )
        upstream.handler = slow
        before = len(upstream.exchanges)
        running = pool.submit(ask, first)
        upstream.wait_for_requests(before + 1)
        assert budget(outcomes, "first")[1] > 0
        run_command(outcomes, "budgets", "remove", "organization", "first")
        run_command(outcomes, "budgets", "set", "organization", "second", "--usd", "0.02")
        reserved = budget(outcomes, "second")[1]
        until(lambda: ask(second, max_tokens=10_000).status_code == 402)
        upstream.handler = answer_or_stream
        assert ask(second).status_code == 200
        upstream.set(release)
        assert running.result().status_code == 200
        spent = budget(outcomes, "second")[0]
    assert (spent, reserved) == (SPENT, 0)
