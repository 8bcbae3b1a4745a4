"""Retention on PostgreSQL: months go as a whole, by one core at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.datasets import Condition, Dataset, Operand
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.services.history.retention import Retention
from maniac_core.storage.base import Database
from maniac_core.storage.postgres import retention as module
from maniac_core.storage.postgres.connection import Connection
from maniac_core.storage.postgres.database import PostgresDatabase
from maniac_core.storage.postgres.migrate import migrate_postgres
from maniac_core.storage.postgres.partitions import Month, make_partitions, months_of
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.retention import RetentionStore

RecordFactory = Callable[..., CompletionRecord]
TABLE = "completion_bodies"
DAY_S = 24 * 3600
DAYS = 30
THIS = Month.of(now_s())
NOW = THIS.start + 9 * DAY_S
"""Of the month before about ten days are too old, and of what was before that, everything."""
FIRST = THIS.plus(-3)
CREATED = {
    "ancient": THIS.plus(-4).start,
    "first": FIRST.start,
    "kept": FIRST.start + 20 * DAY_S,
    "second": THIS.plus(-1).start - 1,
    "third": THIS.plus(-1).start + 2 * DAY_S,
    "young": THIS.plus(-1).start + 15 * DAY_S,
}


@pytest.fixture
async def connection(empty_postgres_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(empty_postgres_url)
    yield opened
    await opened.close()


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = PostgresDatabase(url, pool=4, timeout_s=10)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def database(empty_postgres_url: str, dataset: Dataset) -> AsyncIterator[Database]:
    del dataset
    async with _opened(empty_postgres_url) as database:
        yield database


@pytest.fixture
async def dataset(
    empty_postgres_url: str, connection: Connection, make_record: RecordFactory
) -> Dataset:
    """A dataset that took one of some completions, which are in three months and before them."""
    migrate_postgres(empty_postgres_url)
    async with _opened(empty_postgres_url) as database:
        dataset = await _fill(database, make_record)
    # Empty months would be dropped by a core that runs.
    await make_partitions(connection, FIRST.start, now_s())
    return dataset


async def _fill(database: Database, make_record: RecordFactory) -> Dataset:
    keys, containers = KeyStore(database), ContainerStore(database)
    await keys.create(name="k", secret_hash=b"h", prefix="mk-", project="p", organization="o")
    row = await keys.resolve(b"h")
    assert row is not None
    wanted: dict[str, Any] = {"id": uuid_id(), "label": "c", "initial_model": "m", "created": 1}
    await containers.add(
        row.caller.project, Container(key=0, project_id="", organization_id="", **wanted)
    )
    container = await containers.find_by_label(row.caller.project, "c")
    assert container is not None
    completions = CompletionStore(database)
    for name, created in CREATED.items():
        await completions.capture(
            make_record(id=name, created=created, caller=row.caller, container=container.key)
        )
    datasets = DatasetStore(database)
    dataset = Dataset(id=uuid_id(), name="d", container="", requested_size=9, created=1)
    only = Condition(key="id", operator="equals", operands=(Operand("text", "kept"),))
    await datasets.create(row.caller.project, container.key, dataset, [only])
    made = await datasets.get(row.caller.project, dataset.id)
    assert made is not None
    return made


async def _content(database: Database, dataset: Dataset) -> list[tuple[str, bool, bool]]:
    """Return what a dataset has: id, and whether request and answer are there."""
    return [
        (item.completion.id, bool(item.input), bool(item.completion.output))
        async for batch in DatasetStore(database).items(dataset)
        for item in batch
    ]


async def _ids(connection: Connection, sql: str) -> set[str]:
    return {row["id"] for row in await connection.fetch(sql)}


def _with_bodies(table: str = TABLE) -> str:
    return f"SELECT c.id FROM {table} b JOIN completions c ON c.seq = b.seq"


_WITH_CONTENT = "SELECT id FROM completions WHERE content_hash IS NOT NULL"


async def test_months_that_are_over_are_dropped_and_the_rest_goes_row_by_row(
    database: Database, connection: Connection, dataset: Dataset
) -> None:
    """Datasets keep what they took; captures of dropped months go on; an unneeded dataset's content goes later."""
    retention = Retention(RetentionStore(database), DAYS)
    deleted = await retention.round(NOW)

    assert (await months_of(connection, TABLE))[0] == THIS.plus(-1)
    assert (await months_of(connection, "completions"))[0] == FIRST
    assert deleted == 2, "what is in no month, and in the one that is not over"
    assert await _ids(connection, _with_bodies()) == {"kept", "young"}
    assert await _ids(connection, _with_bodies(f"{TABLE}_past")) == {"kept"}
    assert await _ids(connection, _WITH_CONTENT) == {"kept", "young"}
    assert await connection.fetchval("SELECT COUNT(*) FROM completions") == 6
    assert await _content(database, dataset) == [("kept", True, True)]

    assert await retention.round(NOW) == 0
    project = await connection.fetchval("SELECT id FROM projects")
    await DatasetStore(database).delete(project, dataset.id)
    assert await retention.round(NOW) == 1
    assert await _ids(connection, _with_bodies()) == {"young"}


async def test_a_month_of_which_much_is_kept_stays_a_month(
    database: Database, connection: Connection, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not kept of it goes row by row, instead of copying what is while captures wait."""
    monkeypatch.setattr(module, "_MOST_KEPT_BYTES", 10)
    assert await Retention(RetentionStore(database), DAYS).round(NOW) == 4

    assert (await months_of(connection, TABLE))[0] == FIRST
    assert await _ids(connection, _with_bodies()) == {"kept", "young"}
    assert await _content(database, dataset) == [("kept", True, True)]


async def test_a_table_that_is_being_read_does_not_hold_retention_up(
    database: Database, connection: Connection
) -> None:
    """A month that cannot be dropped now goes row by row."""
    async with connection.transaction():
        await connection.fetch(f"SELECT 1 FROM {TABLE}")
        assert await Retention(RetentionStore(database), DAYS).round(NOW) == 4

    assert await _ids(connection, _with_bodies()) == {"kept", "young"}
    assert (await months_of(connection, TABLE))[0] == FIRST


async def test_one_core_at_a_time_deletes(
    empty_postgres_url: str, database: Database, connection: Connection
) -> None:
    """While one core is at it, others leave it to that one; a turn ends with the core that has it."""
    async with _opened(empty_postgres_url) as other:
        assert await RetentionStore(other).take_turn()
        assert await Retention(RetentionStore(database), DAYS).round(NOW) == 0
        assert len(await _ids(connection, _with_bodies())) == 6
    assert await Retention(RetentionStore(database), DAYS).round(NOW) == 2
