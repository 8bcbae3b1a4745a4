"""Months of the ledger on PostgreSQL: made ahead, given what came before them, dropped when nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import Attempt, CompletionFilter, CompletionRecord
from maniac_core.domain.ids import now_s
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database
from maniac_core.storage.postgres.connection import Connection
from maniac_core.storage.postgres.database import PostgresDatabase
from maniac_core.storage.postgres.migrate import migrate_postgres
from maniac_core.storage.postgres.partitions import (
    PARTITIONED,
    Month,
    drop_empty_months,
    make_partitions,
    months_of,
)
from maniac_core.storage.stores.completions import CompletionStore

RecordFactory = Callable[..., CompletionRecord]


@pytest.fixture
def url(empty_postgres_url: str) -> str:
    migrate_postgres(empty_postgres_url)
    return empty_postgres_url


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(url)
    yield opened
    await opened.close()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = PostgresDatabase(url, pool=5, timeout_s=10)
    await opened.start()
    yield opened
    await opened.close()


async def _rows(connection: Connection, partition: str) -> int:
    return int(await connection.fetchval(f"SELECT COUNT(*) FROM {partition}"))


@pytest.mark.parametrize(
    ("month", "later"),
    [
        (Month(2026, 1), Month(2026, 2)),
        (Month(2026, 11), Month(2026, 12)),
        (Month(2026, 12), Month(2027, 1)),
    ],
)
def test_months_follow_each_other(month: Month, later: Month) -> None:
    """The month after December is January of the next year, and a month ends where the next begins."""
    assert month.plus(1) == later
    assert later.plus(-1) == month
    assert Month.of(later.start) == later
    assert Month.of(later.start - 1) == month


async def test_a_new_database_has_this_month_and_the_next_two(connection: Connection) -> None:
    """Migrating makes the months ahead, of each table with a row per completion."""
    this = Month.of(now_s())
    for table in PARTITIONED:
        assert await months_of(connection, table) == [this, this.plus(1), this.plus(2)]


async def test_months_are_made_between_what_is_there_and_what_is_asked_for(
    connection: Connection,
) -> None:
    """Earlier and later months are added without a gap; a second time there is nothing to make."""
    this = Month.of(now_s())
    first, last = this.plus(-2).start, this.plus(1).start
    made = await make_partitions(connection, first, last)
    assert f"attempts{this.plus(-1).suffix}" in made
    assert await months_of(connection, "attempts") == [this.plus(n) for n in range(-2, 4)]
    assert await make_partitions(connection, first, last) == []


async def test_a_month_takes_over_what_came_before_it(
    connection: Connection,
    completions: CompletionStore,
    make_record: RecordFactory,
    make_attempt: Callable[..., Attempt],
    caller: Caller,
) -> None:
    """Records of a month without a partition are kept, listed, and in its partition once that is made."""
    month = Month.of(now_s()).plus(-4)
    times = [month.start - 1, month.start, month.plus(1).start - 1, now_s()]
    records = [make_record(created=time, attempts=(make_attempt(),)) for time in times]
    for record in records:
        await completions.capture(record)
    assert await _rows(connection, "completions_past") == 3

    await make_partitions(connection, month.start, month.start)

    for table in PARTITIONED[:3]:
        assert await _rows(connection, f"{table}{month.suffix}") == 2
        assert await _rows(connection, f"{table}_past") == 1
    listed = await completions.list(caller.project, CompletionFilter(), Page())
    assert [one.id for one in listed] == [record.id for record in reversed(records)]
    for record in records:
        detail = await completions.explain(caller.project, record.id)
        assert detail is not None
        assert len(detail.attempts) == 1
        assert detail.input == record.input


async def test_months_that_lost_everything_are_dropped(
    connection: Connection, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """The first months go as soon as they are empty, up to the first that is not; this month stays."""
    this = Month.of(now_s())
    await make_partitions(connection, this.plus(-3).start, now_s())
    old = make_record(created=this.plus(-2).start)
    await completions.capture(old)

    assert await drop_empty_months(connection, now_s())
    for table in ("completions", "completion_bodies", "completion_facets"):
        assert (await months_of(connection, table))[0] == this.plus(-2)
    assert (await months_of(connection, "attempts"))[0] == this

    await connection.execute("DELETE FROM completion_bodies")
    dropped = await drop_empty_months(connection, now_s())
    assert dropped == [
        f"completion_bodies{this.plus(-2).suffix}",
        f"completion_bodies{this.plus(-1).suffix}",
    ]
    detail = await completions.explain(old.caller.project, old.id)
    assert detail is not None
    assert detail.input is None

    await completions.capture(make_record(created=this.plus(-3).start))
    assert await _rows(connection, "completion_bodies_past") == 1
