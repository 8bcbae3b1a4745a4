"""Two cores and two edges on one PostgreSQL and one Redis, under load, while everything else dies and comes back."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from cluster import Cluster
from postgres_server import PostgresServer
from redis_server import RedisServer
from upstream import Upstream

CONFIG = """
[core]
database_url = "{database_url}/postgres"
database_pool = 5
redis_url = "{redis_url}"
redis_timeout_ms = 5000
rate_limit = 0
relay_listen = "127.0.0.1:0"
rate_window_s = {window_s}
local_model = "off"
[providers.openai]
base_url = "{base_url}"
breaker = false
timeouts = {{ total_s = 30 }}
"""
BODY: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 10,
}
# What the provider says was used, at its prices, in nano-USD.
SPENT = 9 * 2500 + 3 * 10000
BUDGETED = 60
# Low enough that a slow machine reaches it.
WINDOW_S = 2
RATE = 10
# Answers that have to come before a test goes on.
STEP = 40
WITHIN_S = 40


class Answer(NamedTuple):
    """What a client got."""

    phase: str
    status: int
    """0: the connection broke."""
    id: str | None
    """Of a completion that came whole."""
    text: str
    window: int | None
    """End of the window in which it was counted; None if it was not counted."""
    remaining: int


class Load:
    """Clients that ask one after the other, as many at a time as `clients`, half of them for streams."""

    def __init__(self, urls: list[str], secret: str, *, clients: int) -> None:
        self.answers: list[Answer] = []
        self._urls = urls
        self._secret = secret
        self._clients = clients
        self._phase = ""
        self._running: Counter[str] = Counter()
        self._is_over = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask until the end of the block."""
        limits = httpx.Limits(max_connections=self._clients)
        headers = {"authorization": f"Bearer {self._secret}"}
        async with (
            httpx.AsyncClient(headers=headers, timeout=30, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._clients):
                group.create_task(self._ask_on(client, number))
            try:
                yield
            finally:
                self._is_over = True

    async def begin(self, phase: str) -> None:
        """Count what is asked from now on to a phase, and wait until all that was asked before is answered."""
        before, self._phase = self._phase, phase
        async with asyncio.timeout(WITHIN_S), self._changed:
            await self._changed.wait_for(lambda: not self._running[before])

    async def more(self, status: int = 200, count: int = STEP) -> None:
        """Wait for further answers with a status; a 200 counts if it came whole."""
        before = self._count(status)
        async with asyncio.timeout(WITHIN_S), self._changed:
            await self._changed.wait_for(lambda: self._count(status) >= before + count)

    def whole(self) -> list[str]:
        """Return the ids of the completions that came whole."""
        return [answer.id for answer in self.answers if answer.id is not None]

    def failed(self, phase: str) -> list[Answer]:
        """Return what went wrong in a phase; a refusal by a limit or a budget is no failure."""
        return [
            answer
            for answer in self.answers
            if answer.phase == phase and answer.id is None and answer.status not in {402, 429}
        ]

    def _count(self, status: int) -> int:
        return sum(
            answer.status == status and (answer.id is not None or status != 200)
            for answer in self.answers
        )

    async def _ask_on(self, client: httpx.AsyncClient, number: int) -> None:
        url = f"{self._urls[number % len(self._urls)]}/v1/chat/completions"
        body = {**BODY, "stream": number // len(self._urls) % 2 == 0}
        while not self._is_over:
            phase = self._phase
            self._running[phase] += 1
            try:
                response = await client.post(url, json=body)
            except httpx.TransportError as err:
                answer = Answer(phase, 0, None, repr(err), None, 0)
            else:
                answer = _answer(phase, response)
            async with self._changed:
                self._running[phase] -= 1
                self.answers.append(answer)
                self._changed.notify_all()


def _answer(phase: str, response: httpx.Response) -> Answer:
    limit = int(response.headers.get("x-ratelimit-limit", 0))
    remaining = int(response.headers.get("x-ratelimit-remaining", 0))
    # Where nothing is counted, all is left; a refused request is not counted either.
    is_counted = response.status_code != 429 and remaining < limit
    return Answer(
        phase=phase,
        status=response.status_code,
        id=_whole(response.text) if response.status_code == 200 else None,
        text=response.text,
        window=int(response.headers["x-ratelimit-reset"]) if is_counted else None,
        remaining=remaining,
    )


def _whole(text: str) -> str | None:
    """Return the id of an answer that came whole."""
    if text.startswith("{"):
        return str(json.loads(text)["id"])
    if text.endswith("data: [DONE]\n\n") and '"error"' not in text:
        first = next(line for line in text.split("\n") if line.startswith("data: "))
        return str(json.loads(first.removeprefix("data: "))["id"])
    return None


@pytest.fixture
def start_cluster(
    tmp_path: Path,
    upstream: Upstream,
    make_postgres: Callable[[], PostgresServer],
    redis_server: RedisServer,
) -> Iterator[Callable[[], tuple[Cluster, PostgresServer]]]:
    """Start two cores and two edges on servers of their own."""
    clusters: list[Cluster] = []

    def start() -> tuple[Cluster, PostgresServer]:
        postgres = make_postgres()
        config = CONFIG.format(
            window_s=WINDOW_S,
            database_url=postgres.url,
            redis_url=redis_server.url,
            base_url=upstream.base_url,
        )
        clusters.append(
            Cluster(tmp_path, config, cores=2, edges=2, environ={"OPENAI_API_KEY": "sk-test"})
        )
        clusters[-1].start()
        return clusters[-1], postgres

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_nothing_answered_is_lost_and_limits_hold_while_parts_die(
    start_cluster: Callable[[], tuple[Cluster, PostgresServer]], redis_server: RedisServer
) -> None:
    """What clients got whole is in the ledger once, sums agree, budget and rate held, and restarts were not seen."""
    cluster, postgres = await asyncio.to_thread(start_cluster)
    budget = f"{(BUDGETED + 0.5) * SPENT / 1e9:.9f}"
    limited = ["--budget-usd", budget, "--per", "total", "--rate", str(RATE)]
    free_secret = await _create_key(cluster, "free")
    tight_secret = await _create_key(cluster, "tight", *limited)
    free = Load(cluster.urls, free_secret, clients=8)
    tight = Load(cluster.urls, tight_secret, clients=4)
    first, second = cluster.cores
    async with tight.running(), free.running():
        await _phase("together", free, tight)
        await tight.more(429, 1)

        await _phase("a core dies", free, tight)
        first.send(signal.SIGKILL)
        await free.more()
        await asyncio.to_thread(first.stop)
        await asyncio.to_thread(first.start)
        await free.more()

        await _phase("rolling restart", free, tight)
        for core in (second, first):
            assert await asyncio.to_thread(core.stop) == 0
            await free.more()
            await asyncio.to_thread(core.start)
            await free.more()

        await _phase("no database", free, tight)
        await asyncio.to_thread(postgres.stop)
        await free.more(503)
        await asyncio.to_thread(postgres.start)
        await free.more()

        await _phase("no redis", free, tight)
        killing = time.time()
        redis_server.kill()
        cut = range(_window(killing), _window(time.time()) + 1)
        await free.more()
        await asyncio.to_thread(redis_server.start)

        await _phase("together again", free, tight)
        # The limit is held again, unless there is nothing left to spend.
        await tight.more(402, 1)
        await tight.more(429, 1)

    assert not free.failed("rolling restart")
    assert not tight.failed("rolling restart")
    assert not free.failed("together")
    assert {answer.status for answer in free.answers} <= {200, 503}
    assert {answer.status for answer in tight.answers} <= {200, 402, 429, 503}
    _check_rate(tight, cut)
    await _check_ledger(cluster, postgres, free, tight, free_secret)
    assert await asyncio.to_thread(cluster.stop) == [0, 0, 0, 0]


async def _create_key(cluster: Cluster, name: str, *options: str) -> str:
    made = await asyncio.to_thread(
        cluster.run, "keys", "create", "--create-project", "--name", name, *options
    )
    return made.strip()


async def _phase(name: str, *loads: Load) -> None:
    for load in loads:
        await load.begin(name)
    await loads[0].more()


def _window(now: float) -> int:
    """Return the end of a window."""
    return (int(now) // WINDOW_S + 1) * WINDOW_S


def _check_rate(load: Load, cut: range) -> None:
    """In no window more were let through than the rate, except where the count was lost; uncounted only after that."""
    windows: dict[int, list[int]] = {}
    for answer in load.answers:
        if answer.window is not None:
            windows.setdefault(answer.window, []).append(answer.remaining)
    lived = {end: remaining for end, remaining in windows.items() if end not in cut}
    assert all(len(remaining) <= RATE for remaining in lived.values()), windows
    # Each was counted at a place of its own, whichever core did it.
    assert all(len(set(remaining)) == len(remaining) for remaining in lived.values()), windows
    uncounted = [
        answer
        for answer in load.answers
        if answer.status in {200, 402} and answer.window is None
        if answer.phase not in {"no redis", "together again"}
    ]
    assert not uncounted


async def _check_ledger(
    cluster: Cluster, postgres: PostgresServer, free: Load, tight: Load, secret: str
) -> None:
    connection = await asyncpg.connect(f"{postgres.url}/postgres")
    try:
        rows = await connection.fetch(
            "SELECT c.id, c.spend_nano_usd AS spend, k.name AS key FROM completions c"
            " LEFT JOIN api_keys k ON k.id = c.api_key"
        )
    finally:
        await connection.close()
    stored = Counter(row["id"] for row in rows)
    answered = free.whole() + tight.whole()
    assert len(answered) == len(set(answered))
    assert set(answered) <= set(stored)
    assert max(stored.values()) == 1

    spent = sum(row["spend"] or 0 for row in rows)
    spent_tight = sum(row["spend"] or 0 for row in rows if row["key"] == "tight")
    assert len(answered) * SPENT <= spent
    assert len(tight.whole()) * SPENT <= spent_tight <= BUDGETED * SPENT
    async with httpx.AsyncClient() as client:
        report = await client.get(
            f"{cluster.urls[0]}/v1/usage",
            headers={"authorization": f"Bearer {secret}"},
            params={"group_by": ""},
        )
    totals = report.json()["totals"]
    assert totals["request_count"] == len(rows)
    assert round(totals["spend"] * 1e9) == spent
    listed = await asyncio.to_thread(cluster.run, "budgets", "list")
    line = next(line for line in listed.splitlines() if "tight" in line).split()
    assert round(float(line[-4]) * 1e9) == spent_tight
