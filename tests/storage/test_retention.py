"""Retention: what is too old goes, bit by bit, and what datasets took stays; on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.ids import now_s
from maniac_core.domain.paging import Page
from maniac_core.services.history import retention as module
from maniac_core.services.history.retention import Retention
from maniac_core.storage.base import Database
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.retention import RetentionStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]
NOW = now_s()
DAY_S = 24 * 3600
CHUNK = 3


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Let a few records take several windows and transactions."""
    # On PostgreSQL positions have gaps.
    monkeypatch.setattr(module, "_WINDOW", 4 if engine == "sqlite" else 500)
    monkeypatch.setattr(module, "_CHUNK", CHUNK)


@pytest.fixture
def retention(database: Database) -> Retention:
    return Retention(RetentionStore(database), 7)


@pytest.fixture
def fill(completions: CompletionStore, make_record: RecordFactory) -> Callable[..., Any]:
    """Return a function that captures a record for each age, in days."""

    async def run(*ages: float) -> list[CompletionRecord]:
        records = [make_record(created=NOW - int(age * DAY_S)) for age in ages]
        for record in records:
            await completions.capture(record)
        return records

    return run


Fill = Callable[..., Awaitable[list[CompletionRecord]]]


async def test_old_bodies_go_and_the_ledger_stays(
    retention: Retention,
    completions: CompletionStore,
    fill: Fill,
    read_table: ReadTable,
) -> None:
    """Requests, answers and hashes that are too old are deleted; lists, counts and sums are as before."""
    old = await fill(8, 9, 30, 400, 7.001)
    young = await fill(6.999, 0)
    sums = "SELECT SUM(requests) AS requests, SUM(spend_nano_usd) AS spend FROM usage_daily"
    before = read_table(sums)
    deleted = await retention.round(NOW)
    project = old[0].caller.project
    listed = await completions.list(project, CompletionFilter(), Page(limit=100))

    assert deleted == 5
    assert {one.id for one in listed} == {record.id for record in (*old, *young)}
    assert await completions.count(project, CompletionFilter()) == 7
    assert {one.id for one in listed if one.output} == {record.id for record in young}
    for record in old:
        detail = await completions.explain(project, record.id)
        assert detail is not None
        assert (detail.input, detail.route, detail.content_hash) == (None, None, None)
        assert detail.completion.metadata == record.metadata
    assert read_table(sums) == before
    assert await retention.round(NOW) == 0
    assert await retention.round(NOW + DAY_S) == 1


async def test_transactions_are_small_and_captures_come_between(
    retention: Retention,
    database: Database,
    fill: Fill,
    plain_sql: PlainSQL,
    make_record: RecordFactory,
) -> None:
    """No transaction deletes more than a chunk, and what is captured meanwhile is all there."""
    await fill(*range(8, 28))
    commits = database.commits
    young = [make_record(created=NOW) for _ in range(10)]
    deleted, *_ = await asyncio.gather(
        retention.round(NOW), *(database.capture(record) for record in young)
    )

    assert deleted == 20
    assert database.commits - commits >= 20 / CHUNK
    assert len(plain_sql.read("SELECT seq FROM completion_bodies")) == len(young)
    assert len(plain_sql.read("SELECT seq FROM completions")) == 30


async def test_what_has_no_content_but_a_route_goes_as_well(
    retention: Retention, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """A request that was not to be stored has a body without content, which is deleted too."""
    await completions.capture(
        make_record(created=NOW - 8 * DAY_S, store=False, input=None, output=None)
    )

    assert await retention.round(NOW) == 1
    assert await retention.round(NOW) == 0


async def test_nothing_is_done_unless_asked_for(
    database: Database, fill: Fill, read_table: ReadTable
) -> None:
    """0 days keep everything; there is no task then."""
    await fill(4000)
    async with asyncio.timeout(60):
        await Retention(RetentionStore(database), 0).run()
    assert len(read_table("SELECT seq FROM completion_bodies")) == 1


async def test_the_first_round_is_at_the_start(
    completions: CompletionStore,
    database: Database,
    make_record: RecordFactory,
    read_table: ReadTable,
) -> None:
    """A core that starts does not wait for hours."""
    await completions.capture(make_record(created=1))
    task = asyncio.create_task(Retention(RetentionStore(database), 1).run())
    async with asyncio.timeout(60):
        while read_table("SELECT seq FROM completion_bodies"):  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
