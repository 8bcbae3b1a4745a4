"""Migrations on PostgreSQL: applied once and whole, beside working cores, and never past what this program knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import msgspec
import pytest
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.migrations import Migration, shipped_migrations
from maniac_core.storage.postgres.database import PostgresDatabase
from maniac_core.storage.postgres.migrate import migrate_postgres
from maniac_core.storage.stores.completions import CompletionStore

_FIRST = Migration(1, "first", "CREATE TABLE a (x bigint); INSERT INTO a VALUES (1);")
_SECOND = Migration(2, "second", "ALTER TABLE a ADD COLUMN y bigint;\n-- The end.\n")


async def _read(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def _open(url: str) -> Database:
    return PostgresDatabase(url, pool=4, timeout_s=10)


def test_both_engines_have_the_same_migrations() -> None:
    """A migration that is added for one engine is added for the other, under the same number and name."""
    sqlite, postgres = shipped_migrations("sqlite"), shipped_migrations("postgres")
    assert [one.label for one in postgres] == [one.label for one in sqlite]


async def test_shipped_migrations_apply_once(empty_postgres_url: str) -> None:
    """A new database gets all of them in order; a second time there is nothing to do, and it starts."""
    labels = [migration.label for migration in shipped_migrations("postgres")]
    assert migrate_postgres(empty_postgres_url) == labels
    assert migrate_postgres(empty_postgres_url) == []
    database = _open(empty_postgres_url)
    await database.start()
    await database.close()


async def test_starters_at_the_same_time_are_safe(empty_postgres_url: str) -> None:
    """Of several that migrate a new database at once, each migration is applied by exactly one."""
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(migrate_postgres, [empty_postgres_url] * 4))
    labels = [migration.label for migration in shipped_migrations("postgres")]
    assert sorted(label for result in results for label in result) == labels


async def test_later_migrations_are_added(empty_postgres_url: str) -> None:
    """A database of an older program gets what is new, and keeps its data."""
    assert migrate_postgres(empty_postgres_url, [_FIRST]) == ["0001_first"]
    assert migrate_postgres(empty_postgres_url, [_FIRST, _SECOND]) == ["0002_second"]
    assert await _read(empty_postgres_url, "SELECT x, y FROM a") == [(1, None)]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([_FIRST], r"0002_second.*newer"),
        ([msgspec.structs.replace(_FIRST, sql="SELECT 1"), _SECOND], "0001_first was changed"),
    ],
)
async def test_what_another_program_applied_is_refused(
    empty_postgres_url: str, steps: Sequence[Migration], message: str
) -> None:
    """An applied migration that this program does not know, or knows otherwise, is an error, not a guess."""
    migrate_postgres(empty_postgres_url, [_FIRST, _SECOND])
    with pytest.raises(StorageError, match=message):
        migrate_postgres(empty_postgres_url, steps)


async def test_a_failing_migration_leaves_nothing(empty_postgres_url: str) -> None:
    """A migration that fails half way is undone; those before it stay."""
    broken = Migration(2, "broken", "CREATE TABLE b (x bigint); INSERT INTO missing VALUES (1);")
    with pytest.raises(StorageError, match="missing"):
        migrate_postgres(empty_postgres_url, [_FIRST, broken])
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    assert await _read(empty_postgres_url, tables) == [("a",), ("schema_migrations",)]
    assert migrate_postgres(empty_postgres_url, [_FIRST, _SECOND]) == ["0002_second"]


async def test_a_core_goes_on_while_its_database_is_migrated(
    empty_postgres_url: str, make_record: Callable[..., Any]
) -> None:
    """Columns that a later version adds do not disturb a core that was started before."""
    shipped = shipped_migrations("postgres")
    migrate_postgres(empty_postgres_url)
    database = _open(empty_postgres_url)
    await database.start()
    completions = CompletionStore(database)
    try:
        first = make_record()
        await completions.capture(first)
        assert await completions.get(first.caller.project, first.id) is not None
        later = Migration(99, "later", "ALTER TABLE completions ADD COLUMN later text")
        await asyncio.to_thread(migrate_postgres, empty_postgres_url, [*shipped, later])
        second = make_record()
        await completions.capture(second)
        for record in (first, second):
            assert await completions.get(first.caller.project, record.id) is not None
    finally:
        await database.close()


async def test_an_unmigrated_database_does_not_start(empty_postgres_url: str) -> None:
    """A database that is empty, older or newer is refused at the start, with what to do."""
    shipped = shipped_migrations("postgres")
    for steps, message in (
        ([], "maniac-gateway migrate"),
        (shipped[:-1], "maniac-gateway migrate"),
        ([*shipped, Migration(99, "later", "SELECT 1")], "newer"),
    ):
        if steps:
            migrate_postgres(empty_postgres_url, steps)
        database = _open(empty_postgres_url)
        with pytest.raises(StorageError, match=message):
            await database.start()
        await database.close()


async def test_a_server_that_is_away_is_told() -> None:
    """Neither migrating nor starting hangs without a server, and neither tells the password."""
    url = "postgresql://user:hunter2@127.0.0.1:1/gateway"
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        migrate_postgres(url)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StorageError, match="cannot be reached"):
        await _open(url).start()
