"""The writer: one thread that takes whatever waits and commits it as one transaction.

Captures and management writes share the queue. At low load a record is committed alone, at once; while one commit
runs, the next batch gathers, so the cost of a commit is shared exactly when there is load to share it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import ClaimLostError, Row, StorageError
from maniac_core.storage.capture_rows import RowValues, rows_of
from maniac_core.storage.queries import Queries
from maniac_core.storage.sqlite.connection import as_rows, as_storage_error, is_about_one_row

_log = logging.getLogger(__name__)
_MAX_BATCH = 512
_MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Bounds of one transaction, so that no record waits long for the others of its batch."""

_MANY = frozenset({"insert_completion", "insert_body", "insert_attempt"})
# Of one statement; 64 rows of the ledger are 2,700 parameters.
_MAX_ROWS = 64
BoundStatement = tuple[str, Any]
_Future = asyncio.Future[Any]
_Capture = tuple[CompletionRecord, _Future]
_Write = tuple[Sequence[BoundStatement], _Future]
_Outcome = tuple[_Future, Any]
_P = TypeVar("_P")


class Writer:
    """Owns the writing connection. `connect` is called in the writer's own thread."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        queries: Queries,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.commits = 0
        self._connect = connect
        self._loop = loop
        self._last_position = queries.text("last_position")
        self._queries = queries
        self._gathered: list[_Capture | _Write] = []
        self._queue: queue.SimpleQueue[list[_Capture | _Write] | None] = queue.SimpleQueue()
        self._backlog: deque[_Capture | _Write] = deque()
        self._is_closed = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="storage-writer", daemon=True)
        self._opened: asyncio.Future[None] = loop.create_future()

    async def start(self) -> None:
        """Start the thread; returns once its connection stands.

        Raises:
            StorageError: it cannot be opened.
        """
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Refuse what comes from now on, commit what waits, close the connection."""
        if not self._is_closed:
            self._is_closed = True
            self._hand_over()
            self._queue.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Queue a record."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._is_closed:
            future.set_exception(StorageError("the database is closed"))
        else:
            self._add((record, future))
        return future

    def write(self, statements: Sequence[BoundStatement]) -> asyncio.Future[list[list[Row]]]:
        """Queue statements that are kept or refused together."""
        future: asyncio.Future[list[list[Row]]] = self._loop.create_future()
        if self._is_closed:
            future.set_exception(StorageError("the database is closed"))
        else:
            self._add((statements, future))
        return future

    def _add(self, item: _Capture | _Write) -> None:
        # Waking the thread costs more than a row does: what comes in one turn of the loop is handed over together.
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(item)

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _run(self) -> None:
        try:
            connection = self._connect()
        except Exception as err:  # noqa: BLE001  # Told to whoever waits in start().
            self._loop.call_soon_threadsafe(_settle, [(self._opened, as_storage_error(err))])
            return
        self._loop.call_soon_threadsafe(_settle, [(self._opened, None)])
        try:
            is_open = True
            while is_open:
                captures, writes, is_open = self._take()
                if captures or writes:
                    outcomes = self._commit(connection, captures, writes)
                    self._loop.call_soon_threadsafe(_settle, outcomes)
        finally:
            connection.close()

    def _take(self) -> tuple[list[_Capture], list[_Write], bool]:
        """Wait for something, then take all that is there, up to the bounds; False once the end was reached."""
        captures: list[_Capture] = []
        writes: list[_Write] = []
        size_bytes = 0
        backlog = self._backlog
        while True:
            if not backlog:
                try:
                    items = self._queue.get(block=not captures and not writes)
                except queue.Empty:
                    return captures, writes, True
                if items is None:
                    return captures, writes, False
                backlog.extend(items)
            work, future = backlog.popleft()
            if isinstance(work, CompletionRecord):
                captures.append((work, future))
                size_bytes += len(work.input or b"") + len(work.output or b"")
            else:
                writes.append((work, future))
            if len(captures) + len(writes) >= _MAX_BATCH or size_bytes >= _MAX_BATCH_BYTES:
                return captures, writes, True

    def _commit(
        self, connection: sqlite3.Connection, captures: list[_Capture], writes: list[_Write]
    ) -> list[_Outcome]:
        try:
            try:
                outcomes = self._transaction(connection, captures, writes, self._insert_together)
            except Exception as err:
                if not is_about_one_row(err):
                    raise
                # One record cannot be written: find it, and keep the others.
                outcomes = self._transaction(connection, captures, writes, self._insert_apart)
        except Exception as err:  # noqa: BLE001  # Told to everyone of the batch; the thread must live.
            # A full disk fails every batch there is: it is logged once, until one succeeds.
            if not self._is_failing:
                _log.exception("storage: nothing can be committed")
            self._is_failing = True
            error = as_storage_error(err)
            return [(future, error) for _, future in (*captures, *writes)]
        if self._is_failing:
            _log.warning("storage: commits succeed again")
        self._is_failing = False
        return outcomes

    def _transaction(
        self,
        connection: sqlite3.Connection,
        captures: list[_Capture],
        writes: list[_Write],
        insert: Callable[[sqlite3.Connection, list[_Capture]], list[_Outcome]],
    ) -> list[_Outcome]:
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            outcomes: list[_Outcome] = [
                (future, _in_savepoint(connection, _execute_all, statements))
                for statements, future in writes
            ]
            if captures:
                outcomes += insert(connection, captures)
            execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            if connection.in_transaction:
                execute("ROLLBACK")
            raise
        self.commits += 1
        return outcomes

    def _insert_together(
        self, connection: sqlite3.Connection, captures: list[_Capture]
    ) -> list[_Outcome]:
        lost = self._insert(connection, [record for record, _ in captures])
        return [(future, lost.get(record.id)) for record, future in captures]

    def _insert_apart(
        self, connection: sqlite3.Connection, captures: list[_Capture]
    ) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        for record, future in captures:
            lost = _in_savepoint(connection, self._insert, [record])
            outcomes.append((future, lost if isinstance(lost, Exception) else lost.get(record.id)))
        return outcomes

    def _insert(
        self, connection: sqlite3.Connection, records: list[CompletionRecord]
    ) -> dict[str, ClaimLostError]:
        """Insert, and return the ids of the records whose keys other requests have, with what to tell of it."""
        # Another process may have written to the ledger since: the position is read under the lock.
        (last,) = connection.execute(self._last_position).fetchone()
        lost: dict[str, ClaimLostError] = {}
        for name, rows in rows_of(records, last + 1).items():
            if name in _MANY:
                self._insert_rows(connection, name, rows)
            elif name == "answer_claim":
                for row in rows:
                    if not connection.execute(self._queries.text(name), row).rowcount:
                        lost[row[0]] = ClaimLostError("another request has the key")
            elif rows:
                connection.executemany(self._queries.text(name), rows)
        return lost

    def _insert_rows(
        self, connection: sqlite3.Connection, name: str, rows: list[RowValues]
    ) -> None:
        """Insert by powers of two, so that a few prepared statements serve every number of rows."""
        done = 0
        while count := min(1 << (len(rows) - done).bit_length() >> 1, _MAX_ROWS):
            chunk = rows[done : done + count]
            connection.execute(
                self._queries.repeated(name, count), [value for row in chunk for value in row]
            )
            done += count


def _in_savepoint(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection, _P], Any], argument: _P
) -> Any:
    """Return what the work returns, or the StorageError it failed with, with its changes undone."""
    connection.execute("SAVEPOINT part")
    try:
        result = work(connection, argument)
    except Exception as err:
        if not connection.in_transaction:
            raise  # The whole transaction is gone already: a full disk, a broken file.
        connection.execute("ROLLBACK TO part")
        result = as_storage_error(err)
    connection.execute("RELEASE part")
    return result


def _execute_all(
    connection: sqlite3.Connection, statements: Sequence[BoundStatement]
) -> list[list[Row]]:
    return [as_rows(connection.execute(sql, params)) for sql, params in statements]


def _settle(outcomes: list[_Outcome]) -> None:
    """Resolve futures, on the loop; a waiter that went away changes nothing of what was committed."""
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
