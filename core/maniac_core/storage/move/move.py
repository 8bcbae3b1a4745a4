"""Moves an install from SQLite into PostgreSQL.

The ledger is copied in passes, each up to the last position it had when the pass began; that can be done while the
gateway runs. The last pass needs it stopped: it copies what came since, and everything that is not ledger as a whole.
What was copied is kept in the target with the rows, so that a move that was cut off goes on where it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec

from maniac_core.domain.ids import now_s
from maniac_core.storage.base import StorageError
from maniac_core.storage.move.tables import RowValues, Table, ledger_tables, other_tables
from maniac_core.storage.move.target import Target
from maniac_core.storage.postgres.connection import (
    FAILURES,
    Connection,
    as_storage_error,
    close,
    connect,
    does_not_fit,
)
from maniac_core.storage.postgres.migrate import migrate_postgres
from maniac_core.storage.postgres.partitions import make_partitions
from maniac_core.storage.sqlite.connection import connect as connect_file
from maniac_core.storage.sqlite.migrate import check_current

_BATCH = 5000
_BATCH_BYTES = 16 * 1024 * 1024
_FETCH = 100
_TIMEOUT_S = 3600.0
_LOCK = 0x6D67_0005
"""Advisory lock of whoever moves an install into a database."""
_OLDEST_S = 20 * 366 * 86_400
"""How far back months get partitions of their own."""

Report = Callable[[str, float, int], None]
"""Called with the name of a table, the share of it that is done, and how many rows that are."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """One table that was moved."""

    name: str
    rows: int
    sha256: bytes
    """Over all rows in the order of their copying, the same on both sides."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run."""

    is_finished: bool
    """False: the gateway runs, and what it writes is still to be copied."""
    tables: tuple[Moved, ...]


async def move(path: Path, url: str, *, is_running: Callable[[], bool], report: Report) -> Outcome:
    """Copy what is not copied yet; `is_running` says whether a gateway works on the source.

    Raises:
        StorageError: one side cannot be used, the target holds other data, or what was copied differs.
    """
    source = connect_file(path, read_only=False, synchronous="normal")
    with closing(source):
        check_current(source)
        async with _target(url) as connection:
            mover = _Mover(source, connection, report)
            await mover.begin()
            await mover.copy_ledger()
            if is_running():
                return Outcome(is_finished=False, tables=tuple(await mover.ledger()))
            # From here on nothing else can write, whatever starts meanwhile.
            source.execute("BEGIN IMMEDIATE")
            await mover.copy_ledger()
            tables = await mover.finish()
    return Outcome(is_finished=True, tables=tuple(tables))


@asynccontextmanager
async def _target(url: str) -> AsyncIterator[Connection]:
    migrate_postgres(url)
    # Without statistics the server would rather sort a whole table than follow its index.
    connection = await connect(url, _TIMEOUT_S, enable_seqscan="off", enable_sort="off")
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            raise StorageError("another process moves an install into this database")
        yield connection
    except FAILURES as err:
        raise as_storage_error(err) from None
    finally:
        await close(connection)


class _Mover:
    def __init__(self, source: sqlite3.Connection, connection: Connection, report: Report) -> None:
        self._source = source
        self._connection = connection
        self._target = Target(connection)
        self._report = report
        self._ledger = ledger_tables(source)
        self._others = other_tables(source)

    async def begin(self) -> None:
        """Check that the target is this install's, and make the partitions."""
        (identity,) = self._source.execute("SELECT MIN(uid) FROM organizations").fetchone()
        source = identity or ""
        row = await self._connection.fetchrow("SELECT source, finished FROM moves")
        if row is None:
            holds_data = "SELECT EXISTS (SELECT 1 FROM organizations) OR EXISTS (SELECT 1 FROM completion_ids)"
            if await self._connection.fetchval(holds_data):
                raise StorageError("the target holds data already; move into an empty database")
            await self._connection.execute("INSERT INTO moves VALUES ($1, 0, 0, NULL)", source)
        elif row["finished"] is not None:
            raise StorageError("an install was moved into the target already")
        elif row["source"] != source:
            raise StorageError("another install is being moved into the target")
        first, last = self._source.execute(
            "SELECT MIN(created), MAX(created) FROM completions WHERE created > 0"
        ).fetchone()
        if first is not None:
            now = now_s()
            await make_partitions(
                self._connection, max(first, now - _OLDEST_S), max(now, min(last, now))
            )

    async def copy_ledger(self) -> None:
        """Copy the ledger up to where it is now; first the rest of a pass that was cut off."""
        (last,) = self._source.execute("SELECT COALESCE(MAX(seq), 0) FROM completions").fetchone()
        row = await self._connection.fetchrow("SELECT watermark, target FROM moves")
        assert row is not None
        low, high = row["watermark"], row["target"]
        for end in (high, last):
            if end > low:
                await self._connection.execute("UPDATE moves SET target = $1", end)
                for table in self._ledger:
                    await self._copy_pass(table, low, end)
                await self._target.end_pass(end)
                low = end

    async def ledger(self) -> list[Moved]:
        """Return what was copied of the ledger."""
        moved = []
        for table in self._ledger:
            copied = await self._target.copied(table)
            moved.append(Moved(name=table.name, rows=copied.total, sha256=copied.sha256))
        return moved

    async def finish(self) -> list[Moved]:
        """Follow what retention and deletions did to rows that were copied, copy all other tables, compare counts, and end."""
        for fits in (False, True):
            try:
                async with self._connection.transaction():
                    await self._follow_retention()
                    await self._follow_deletions()
                    others = await self._copy_others(fits=fits)
                    await self._compare_counts()
                    (last,) = self._source.execute(
                        "SELECT COALESCE(MAX(seq), 0) FROM completions"
                    ).fetchone()
                    await self._target.set_sequences(last)
                    await self._connection.execute("UPDATE moves SET finished = $1", now_s())
            except FAILURES as err:
                if fits or not does_not_fit(err):
                    raise
            else:
                break
        await self._connection.execute("ANALYZE")
        return [*await self.ledger(), *others]

    async def _copy_pass(self, table: Table, low: int, high: int) -> None:
        copied = await self._target.copied(table)
        while True:
            sql, values = table.page(low=low, high=high, after=copied.last_key)
            rows = list(_batch(self._source.execute(f"{sql} LIMIT {_BATCH}", values)))
            if not rows:
                return
            try:
                copied = await self._target.append(table, copied, rows, low, high)
            except FAILURES as err:
                if not does_not_fit(err):
                    raise
                fitting = [table.fitting(row) for row in rows]
                copied = await self._target.append(table, copied, fitting, low, high)
            assert copied.last_key is not None
            self._report(table.name, table.share(copied.last_key, low, high), copied.total)

    async def _copy_others(self, *, fits: bool) -> list[Moved]:
        await self._target.empty(self._others)
        moved = []
        for table in self._others:
            rows: Iterator[RowValues] = self._source.execute(table.by_key())
            if fits:
                rows = map(table.fitting, rows)
            total, sha256 = await self._target.replace(table, rows)
            self._report(table.name, 1.0, total)
            moved.append(Moved(name=table.name, rows=total, sha256=sha256))
        await self._target.drop_deltas(self._others)
        return moved

    async def _follow_retention(self) -> None:
        """Delete bodies that went away in the source after they were copied, and what the ledger said of them."""
        gone = (
            "SELECT seq FROM completions"
            " WHERE content_hash IS NULL AND NOT EXISTS (SELECT 1 FROM completion_bodies b WHERE b.seq = completions.seq)"
        )
        await self._connection.execute(
            "CREATE TEMP TABLE gone (seq bigint PRIMARY KEY) ON COMMIT DROP"
        )
        await self._connection.copy_records_to_table(
            "gone", records=self._source.execute(gone), columns=("seq",)
        )
        await self._connection.execute("ANALYZE gone")
        await self._connection.execute(
            "DELETE FROM completion_bodies b USING gone WHERE b.seq = gone.seq"
        )
        await self._connection.execute(
            "UPDATE completions c SET content_hash = NULL FROM gone"
            " WHERE c.seq = gone.seq AND c.content_hash IS NOT NULL"
        )

    async def _follow_deletions(self) -> None:
        """Take out of rows that were copied what was deleted in the source since; their bodies are gone already."""
        deleted = "SELECT seq, deleted FROM completions WHERE deleted IS NOT NULL"
        await self._connection.execute(
            "CREATE TEMP TABLE deleted_since (seq bigint PRIMARY KEY, time bigint) ON COMMIT DROP"
        )
        await self._connection.copy_records_to_table(
            "deleted_since", records=self._source.execute(deleted), columns=("seq", "time")
        )
        await self._connection.execute(
            "ANALYZE deleted_since;"
            "DELETE FROM deleted_since d USING completions c WHERE c.seq = d.seq AND c.deleted IS NOT NULL;"
            "DELETE FROM completion_facets f USING deleted_since d WHERE f.seq = d.seq;"
            "UPDATE attempts a SET error_message = NULL FROM deleted_since d WHERE a.seq = d.seq;"
            "UPDATE completions c SET listed = 0, deleted = d.time, tags = NULL, metadata = NULL,"
            " error_message = NULL, trace_name = NULL, trace_source = NULL, trace_metadata = NULL"
            " FROM deleted_since d WHERE c.seq = d.seq"
        )

    async def _compare_counts(self) -> None:
        for table in (*self._ledger, *self._others):
            (here,) = self._source.execute(f"SELECT COUNT(*) FROM {table.name}").fetchone()  # noqa: S608 - our own name
            there = await self._target.count(table)
            if here != there:
                raise StorageError(f"{table.name}: {here} rows here, {there} in the target")


def _batch(cursor: sqlite3.Cursor) -> Iterator[RowValues]:
    size_bytes = 0
    while size_bytes < _BATCH_BYTES and (rows := cursor.fetchmany(_FETCH)):
        for row in rows:
            size_bytes += sum(len(value) for value in row if isinstance(value, bytes))
        yield from rows
