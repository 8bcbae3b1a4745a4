"""The PostgreSQL engine: a writer for captures, a writer for everything else, a listener, and a pool that reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import asyncpg

from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import NO_PARAMS, Params, Row, Statement, StorageError, Where
from maniac_core.storage.postgres.commits import BoundStatement, Captures, commit_writes
from maniac_core.storage.postgres.connection import (
    CONNECT_TIMEOUT_S,
    FAILURES,
    Connection,
    arguments,
    as_rows,
    as_storage_error,
    close,
    connect,
    connection_options,
    numbered,
    prepare_connection,
)
from maniac_core.storage.postgres.listener import Listener
from maniac_core.storage.postgres.migrate import check_current
from maniac_core.storage.postgres.retention import drop_expired_months
from maniac_core.storage.postgres.upkeep import Upkeep
from maniac_core.storage.postgres.writer import Writer
from maniac_core.storage.queries import Queries
from maniac_core.storage.text_index import postgres_condition

_OWN = 3
"""Connections with a task of their own: captures, writes, changes."""
_MAX_BATCH_BYTES = 8 * 1024 * 1024
_RECORD_BYTES = 32 * 1024
"""What a record counts besides its bodies, so that a batch has 256 records at most."""
_MAX_WRITES = 128

_SETTLE_S = 1.0
"""How long a list in the order of commits waits for captures that were under way when it was asked for."""
_SETTLE_PAUSE_S = 0.003


class PostgresDatabase:
    """A Database on a server, which `migrate_postgres` has prepared.

    It holds `pool` connections at most, at least four; statements take `timeout_s` at most. All cores may share one
    database; each of their writes other than captures takes its turn, as in SQLite.
    """

    def __init__(self, url: str, *, pool: int, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._readers = max(1, pool - _OWN)
        self._queries = Queries.load("postgres")
        self._callbacks: list[Callable[[frozenset[str]], None]] = []
        self._contact_callbacks: list[Callable[[bool], None]] = []
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._is_away = False
        self._reads = 0
        self._captures: Writer[CompletionRecord, None] = Writer(
            # Its one statement is never planned anew, whatever the lengths of its arrays.
            lambda: self._connect(plan_cache_mode="force_generic_plan"),
            Captures(self._queries).commit,
            size=_record_size,
            max_size=_MAX_BATCH_BYTES,
        )
        self._writes: Writer[Sequence[BoundStatement], list[list[Row]]] = Writer(
            self._connect, commit_writes, size=lambda _: 1, max_size=_MAX_WRITES
        )
        self._listener = Listener(
            self._connect,
            self._queries.text("read_cache_versions"),
            self._announce,
            self._announce_contact,
        )
        self._upkeep = Upkeep(self._acquire, self._queries)

    @property
    def commits(self) -> int:
        """How many transactions were committed since the start."""
        return self._captures.commits + self._writes.commits

    @property
    def readers(self) -> int:
        """How many reads can run at a time."""
        return self._readers

    @property
    def reads(self) -> int:
        """How many reads run or wait for their turn."""
        return self._reads

    def on_change(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call back on the event loop with the names of cached tables that any process changed."""
        self._callbacks.append(callback)

    def on_contact(self, callback: Callable[[bool], None]) -> None:
        """Call back on the event loop when the server is away, and when it is back."""
        self._contact_callbacks.append(callback)

    async def start(self) -> None:
        """Check the schema, open the connections that are always needed, start the tasks.

        Raises:
            StorageError: the server cannot be reached, or the schema is older or newer than this program.
        """
        try:
            await self._check_schema()
            self._pool = asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._readers,
                timeout=CONNECT_TIMEOUT_S,
                init=prepare_connection,
                **connection_options(self._timeout_s),
            )
            await self._pool
            await self._captures.start()
            await self._writes.start()
            await self._listener.start()
        except FAILURES as err:
            await self.close()
            raise as_storage_error(err) from None
        except StorageError:
            await self.close()
            raise
        self._upkeep.start()

    async def close(self) -> None:
        """Finish what waits, then close. A second time does nothing."""
        await self._upkeep.close()
        await asyncio.gather(self._captures.close(), self._writes.close())
        await self._listener.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await pool.close()
            except FAILURES:
                pool.terminate()

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Queue a record; the future is done once it is committed."""
        if self._pool is None:
            raise StorageError("the database is not open")
        return self._captures.put(record)

    async def write(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Execute in order as one transaction; the rows of each."""
        if self._pool is None:
            raise StorageError("the database is not open")
        return await self._writes.put([self._bind(one.name, one.params) for one in statements])

    async def fetch_all(self, name: str, params: Params = NO_PARAMS) -> list[Row]:
        """Read on a connection of the pool."""
        sql, values = self._bind(name, params)
        self._reads += 1
        try:
            async with self._acquire() as connection:
                return as_rows(await connection.fetch(sql, *values))
        except FAILURES as err:
            raise as_storage_error(err) from None
        finally:
            self._reads -= 1

    async def fetch_one(self, name: str, params: Params = NO_PARAMS) -> Row | None:
        """Read the first row."""
        rows = await self.fetch_all(name, params)
        return rows[0] if rows else None

    def text_condition(self, wanted: Sequence[tuple[str, str]]) -> Where | None:
        """See Database."""
        return postgres_condition(wanted)

    async def settled_position(self) -> int:
        """Return the last position up to which no capture is under way, of any core."""
        wanted: int | None = None
        give_up = time.monotonic() + _SETTLE_S
        while True:
            row = await self.fetch_one("settled_positions")
            assert row is not None
            settled: int = row["settled"]
            wanted = row["taken"] if wanted is None else wanted
            if settled >= wanted or time.monotonic() > give_up:
                return settled
            await asyncio.sleep(_SETTLE_PAUSE_S)

    async def drop_bodies(self, before: int) -> int:
        """Drop the months of bodies that are over before a time."""
        try:
            return await drop_expired_months(self._acquire, before)
        except FAILURES as err:
            raise as_storage_error(err) from None

    def _bind(self, name: str, params: Params) -> BoundStatement:
        named, flat = self._queries.bind(name, params)
        sql, names = numbered(named)
        return sql, arguments(names, flat)

    async def _connect(self, **settings: str) -> Connection:
        return await connect(self._url, self._timeout_s, **settings)

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise StorageError("the database is not open")
        # Nobody waits long in line for a server that is known to be away.
        timeout_s = CONNECT_TIMEOUT_S if self._is_away else self._timeout_s
        async with self._pool.acquire(timeout=timeout_s) as connection:
            # The proxy of a pool has all methods of a connection.
            yield cast(Connection, connection)

    async def _check_schema(self) -> None:
        connection = await self._connect()
        try:
            await check_current(connection)
        finally:
            await close(connection)

    def _announce(self, names: frozenset[str]) -> None:
        for callback in self._callbacks:
            callback(names)

    def _announce_contact(self, is_there: bool) -> None:
        self._is_away = not is_there
        for callback in self._contact_callbacks:
            callback(is_there)


def _record_size(record: CompletionRecord) -> int:
    return _RECORD_BYTES + len(record.input or b"") + len(record.output or b"")
