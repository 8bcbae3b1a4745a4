"""What happens to answers while the database takes no records."""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from gateway import CONFIG, Gateway
from outage import SQLiteOutage
from upstream import Exchange, Upstream, answer_or_stream

BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
Start = Callable[..., Gateway]


@contextmanager
def away(gateway: Gateway) -> Iterator[None]:
    """Take the database's tables away: unlike a lock, that fails at once."""
    outage = SQLiteOutage(gateway.data_dir / "gateway.db")
    outage.begin()
    try:
        yield
    finally:
        outage.end()


@contextmanager
def locked(gateway: Gateway) -> Iterator[None]:
    """Hold the database's write lock, as a stuck process would."""
    database = sqlite3.connect(gateway.data_dir / "gateway.db", timeout=20, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


def wait_for_replay(gateway: Gateway) -> None:
    """Wait until all that was spooled is committed."""
    deadline = time.monotonic() + 60
    while (gateway.data_dir / "spool" / "records.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # There is no event across processes to wait for.


def with_durability(upstream: Upstream, durability: str) -> str:
    config = CONFIG.format(base_url=upstream.base_url)
    return config.replace("[core]\n", f'[core]\ndurability = "{durability}"\n', 1)


def test_strict_answers_nothing_that_is_not_captured(
    start_gateway: Start, upstream: Upstream
) -> None:
    """A whole answer becomes a 503, a stream ends with an error; neither looks delivered."""
    gateway = start_gateway(with_durability(upstream, "strict"))
    with gateway.client() as client:
        assert client.get("/v1/chat/completions").status_code == 200
        with locked(gateway), ThreadPoolExecutor(2) as threads:
            sent = [
                threads.submit(client.post, "/v1/chat/completions", json={**BODY, "stream": stream})
                for stream in (False, True)
            ]
            whole, stream = [one.result() for one in sent]
        after = client.post("/v1/chat/completions", json=BODY)

    assert whole.status_code == 503
    assert whole.json()["error"]["code"] == "dependency_unavailable"
    assert int(whole.headers["retry-after"]) >= 1
    assert '"code":"dependency_unavailable"' in stream.text
    assert after.status_code == 200


def test_available_answers_and_commits_later_once(start_gateway: Start, upstream: Upstream) -> None:
    """Answers are delivered, their records wait in a file that outlives the core, and are committed once."""
    gateway = start_gateway(with_durability(upstream, "available"))
    spool = gateway.data_dir / "spool" / "records.jsonl"
    with gateway.client() as client:
        assert client.get("/v1/chat/completions").status_code == 200
        with away(gateway):
            with ThreadPoolExecutor(2) as threads:
                sent = [
                    threads.submit(client.post, "/v1/chat/completions", json=BODY) for _ in range(2)
                ]
            answers = [one.result() for one in sent]
            assert spool.exists()
            gateway.kill_core()
        deadline = time.monotonic() + 60
        while spool.exists() or client.get("/v1/chat/completions").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # There is no event across processes to wait for.
        listed = client.get("/v1/chat/completions").json()

    assert [answer.status_code for answer in answers] == [200, 200]
    assert {item["id"] for item in listed["data"]} == {answer.json()["id"] for answer in answers}
    assert listed["total"] == 2


def test_a_spooled_answer_is_what_its_key_stands_for_once_committed(
    start_gateway: Start, upstream: Upstream
) -> None:
    """A repetition under the same Idempotency-Key gets the answer that waited in the spool."""
    gateway = start_gateway(with_durability(upstream, "available"))
    go_on = upstream.event()

    async def slow(exchange: Exchange) -> None:
        await go_on.wait()
        await answer_or_stream(exchange)

    upstream.handler = slow
    with gateway.client() as client, ThreadPoolExecutor(1) as threads:
        ask = functools.partial(
            client.post, "/v1/chat/completions", json=BODY, headers={"idempotency-key": "k"}
        )
        running = threads.submit(ask)
        upstream.wait_for_requests(1)
        with away(gateway):
            upstream.set(go_on)
            first = running.result()
        wait_for_replay(gateway)
        second = ask()

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == first.json()
    assert len(upstream.exchanges) == 1
