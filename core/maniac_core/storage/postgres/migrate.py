"""Brings a PostgreSQL database to the schema of this program: numbered SQL files, each applied once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from asyncpg import exceptions as pg

from maniac_core.domain.ids import now_s
from maniac_core.storage.base import StorageError
from maniac_core.storage.migrations import Migration, missing, require_none, shipped_migrations
from maniac_core.storage.postgres.connection import (
    FAILURES,
    Connection,
    as_storage_error,
    close,
    connect,
)
from maniac_core.storage.postgres.partitions import make_partitions
from maniac_core.storage.postgres.text_index import drop_text_index, make_text_index

_LOCK = 0x6D67_0003
"""Advisory lock of whoever migrates."""
_TIMEOUT_S = 3600.0
_TABLE_LOCK_TIMEOUT = "2s"
"""How long a statement waits for a table. Whoever comes after it waits as well, running cores too, so it is short."""
_TRIES = 30
_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version    bigint PRIMARY KEY,
  name       text   NOT NULL,
  checksum   text   NOT NULL,
  applied_at bigint NOT NULL
)
"""


def migrate_postgres(
    url: str, migrations: Sequence[Migration] | None = None, *, text_index: bool = False
) -> list[str]:
    """Apply what is missing, make the partitions of this month, and return the names of what was applied; blocks.

    Several processes may do this at once: one applies, the others wait and find nothing to do. Cores of the version
    before may go on working meanwhile. `text_index`: the texts of bodies are to be indexed, too.

    Raises:
        StorageError: the database was written by a newer program, an applied migration was changed since, or the
            database cannot be written.
    """
    steps = shipped_migrations("postgres") if migrations is None else migrations
    # In a thread, because the caller may be on an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(
            asyncio.run, _migrate(url, steps, migrations is None, text_index)
        ).result()


async def _migrate(
    url: str, steps: Sequence[Migration], is_shipped: bool, text_index: bool
) -> list[str]:
    connection = await connect(url, _TIMEOUT_S, lock_timeout="60s")
    try:
        await connection.execute(f"SELECT pg_advisory_lock({_LOCK})")
        await connection.execute(_RECORD_TABLE)
        lacking = missing(await _recorded(connection), steps)
        for step in lacking:
            await _apply(connection, step)
        if is_shipped:
            await make_partitions(connection, now_s(), now_s())
        if text_index:
            await make_text_index(connection)
    except FAILURES as err:
        raise StorageError(f"migration failed: {as_storage_error(err)}") from None
    finally:
        await close(connection)
    return [step.label for step in lacking]


def drop_postgres_text_index(url: str) -> None:
    """Drop the index of texts, if there is one; blocks.

    Raises:
        StorageError: the database cannot be written.
    """

    async def drop() -> None:
        connection = await connect(url, _TIMEOUT_S, lock_timeout="60s")
        try:
            await drop_text_index(connection)
        except FAILURES as err:
            raise StorageError(
                f"the index of texts cannot be dropped: {as_storage_error(err)}"
            ) from None
        finally:
            await close(connection)

    asyncio.run(drop())


async def _apply(connection: Connection, step: Migration) -> None:
    for left in reversed(range(_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_TABLE_LOCK_TIMEOUT}'")
                await connection.execute(step.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, checksum, applied_at)"
                    " VALUES ($1, $2, $3, $4)",
                    *(step.version, step.name, step.checksum, now_s()),
                )
        except (pg.LockNotAvailableError, pg.DeadlockDetectedError):
            if not left:
                raise
        else:
            return


async def check_current(connection: Connection) -> None:
    """Check that the schema is that of this program.

    Raises:
        StorageError: it is older, newer or changed; the message says what to do.
    """
    steps = shipped_migrations("postgres")
    exists = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    require_none(missing(await _recorded(connection), steps) if exists else steps)
    if await connection.fetchval("SELECT EXISTS (SELECT 1 FROM moves WHERE finished IS NULL)"):
        raise StorageError(
            "an install is being moved into the database: let `maniac-gateway migrate --to` finish"
        )


async def _recorded(connection: Connection) -> list[tuple[int, str, str]]:
    rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations")
    return [(row["version"], row["name"], row["checksum"]) for row in rows]
