"""The SQLite engine: one file in WAL mode, one writing thread, a few reading ones, and a watcher."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import NO_PARAMS, Params, Row, Statement, StorageError, Where
from maniac_core.storage.queries import Queries
from maniac_core.storage.sqlite.connection import as_rows, as_storage_error, connect
from maniac_core.storage.sqlite.migrate import check_current
from maniac_core.storage.sqlite.watcher import Watcher
from maniac_core.storage.sqlite.writer import Writer
from maniac_core.storage.text_index import sqlite_condition

_READERS = 3
_LAST = 1 << 62


class SQLiteDatabase:
    """A Database in one file, which `migrate` has made.

    `synchronous` normal survives the death of any process, full also a power cut. Other processes may read and
    write the file at the same time.
    """

    def __init__(self, path: Path, *, synchronous: Literal["normal", "full"] = "normal") -> None:
        self._path = path
        self._synchronous = synchronous
        self._queries = Queries.load("sqlite")
        self._callbacks: list[Callable[[frozenset[str]], None]] = []
        self._contact_callbacks: list[Callable[[bool], None]] = []
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="storage-reader")
        self._reads = 0
        self._reader = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []
        self._writer: Writer | None = None
        self._watcher: Watcher | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def commits(self) -> int:
        """How many transactions were committed since the start."""
        return self._writer.commits if self._writer else 0

    @property
    def readers(self) -> int:
        """How many reads can run at a time."""
        return _READERS

    @property
    def reads(self) -> int:
        """How many reads run or wait for their turn."""
        return self._reads

    def on_change(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call back on the event loop with the names of cached tables that any process changed."""
        self._callbacks.append(callback)

    def on_contact(self, callback: Callable[[bool], None]) -> None:
        """Call back on the event loop when the file can't be read any more, and when it can be again."""
        self._contact_callbacks.append(callback)

    async def start(self) -> None:
        """Open the file, check its schema, start the threads.

        Raises:
            StorageError: cannot be opened, or the schema is older or newer than this program.
        """
        self._loop = asyncio.get_running_loop()
        self._watcher = await asyncio.to_thread(self._open_watcher)
        self._writer = Writer(self._open_writer, self._queries, self._loop)
        try:
            await self._writer.start()
        except StorageError:
            await self.close()
            raise
        self._watcher.start()

    async def close(self) -> None:
        """Finish what waits, then close. A second time does nothing."""
        self._is_closed = True
        if self._writer is not None:
            await self._writer.close()
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.close)
        await asyncio.to_thread(self._readers.shutdown)
        while self._reader_connections:
            self._reader_connections.pop().close()

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Queue a record; the future is done once it is committed."""
        if self._writer is None:
            raise StorageError("the database is not open")
        return self._writer.capture(record)

    async def write(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Execute in order as one transaction; the rows of each."""
        bound = [self._queries.bind(statement.name, statement.params) for statement in statements]
        if self._writer is None:
            raise StorageError("the database is not open")
        return await self._writer.write(bound)

    async def fetch_all(self, name: str, params: Params = NO_PARAMS) -> list[Row]:
        """Read in one of the reading threads."""
        if self._writer is None or self._is_closed:
            raise StorageError("the database is not open")
        sql, flat = self._queries.bind(name, params)
        loop = asyncio.get_running_loop()
        self._reads += 1
        try:
            return await loop.run_in_executor(self._readers, self._read, sql, flat)
        except sqlite3.Error as err:
            raise as_storage_error(err) from err
        finally:
            self._reads -= 1

    async def fetch_one(self, name: str, params: Params = NO_PARAMS) -> Row | None:
        """Read the first row."""
        rows = await self.fetch_all(name, params)
        return rows[0] if rows else None

    def text_condition(self, wanted: Sequence[tuple[str, str]]) -> Where | None:
        """See Database."""
        return sqlite_condition(wanted)

    async def settled_position(self) -> int:
        """Return a position after all: whoever writes takes the next ones under the lock that it commits with."""
        return _LAST

    async def drop_bodies(self, before: int) -> int:  # noqa: ARG002 - of the seam
        """Drop nothing: all bodies are in one table."""
        return 0

    def _open_writer(self) -> sqlite3.Connection:
        return connect(self._path, read_only=False, synchronous=self._synchronous)

    def _open_watcher(self) -> Watcher:
        connection = connect(self._path, read_only=True, synchronous=self._synchronous)
        try:
            check_current(connection)
            return Watcher(
                connection,
                self._queries.text("read_cache_versions"),
                self._announce,
                self._announce_contact,
            )
        except sqlite3.Error as err:
            connection.close()
            raise StorageError(f"{self._path}: cannot be read: {err}") from err
        except StorageError:
            connection.close()
            raise

    def _announce(self, names: frozenset[str]) -> None:
        if self._loop is not None:
            for callback in self._callbacks:
                self._loop.call_soon_threadsafe(callback, names)

    def _announce_contact(self, is_there: bool) -> None:
        if self._loop is not None:
            for callback in self._contact_callbacks:
                self._loop.call_soon_threadsafe(callback, is_there)

    def _read(self, sql: str, params: Params) -> list[Row]:
        connection: sqlite3.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = connect(self._path, read_only=True, synchronous=self._synchronous)
            self._reader.connection = connection
            self._reader_connections.append(connection)
        return as_rows(connection.execute(sql, params))
