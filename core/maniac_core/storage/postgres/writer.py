"""The writers: tasks that take whatever waits and commit it together, one for captures and one for everything else.

At low load a record is committed alone, at once; while one commit runs, the next batch gathers, so the cost of a
commit is shared exactly when there is load to share it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from maniac_core.storage.base import StorageError
from maniac_core.storage.postgres.connection import (
    UNUSABLE,
    Connection,
    as_storage_error,
    close,
    is_about_one_row,
)

_log = logging.getLogger(__name__)
WorkT = TypeVar("WorkT")
ResultT = TypeVar("ResultT")


class Writer(Generic[WorkT, ResultT]):
    """Owns one connection, and a task that commits on it.

    `commit` executes work as one transaction and returns a result for each, or an error to raise. Where it fails for the values of one
    piece of work, it is called again with the halves, until that piece is alone. `size` of work counts towards
    `max_size` of a batch.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        commit: Callable[[Connection, list[WorkT]], Awaitable[Sequence[ResultT | StorageError]]],
        *,
        size: Callable[[WorkT], int],
        max_size: int,
    ) -> None:
        self.commits = 0
        self._connect = connect
        self._commit = commit
        self._size = size
        self._max_size = max_size
        self._waiting: deque[tuple[WorkT, asyncio.Future[ResultT]]] = deque()
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._leave_alone_until = 0.0
        self._is_failing = False
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and begin.

        Raises:
            StorageError: the server cannot be reached.
        """
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Refuse what comes from now on, commit what waits, close the connection."""
        self._is_closed = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await close(self._connection)
            self._connection = None

    def put(self, work: WorkT) -> asyncio.Future[ResultT]:
        """Queue work; the future has its result once it is committed."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        if self._is_closed:
            future.set_exception(StorageError("the database is closed"))
        else:
            self._waiting.append((work, future))
            self._wake.set()
        return future

    async def _run(self) -> None:
        while self._waiting or not self._is_closed:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._take()
            try:
                await self._write(await self._connected(), batch)
            except StorageError as err:
                self._refuse(batch, err)
            except Exception as err:  # noqa: BLE001  # Told to everyone of the batch; the task must live.
                _log.exception("storage: a batch could not be written")
                self._refuse(batch, err)

    def _take(self) -> list[tuple[WorkT, asyncio.Future[ResultT]]]:
        batch = []
        size = 0
        while self._waiting and size < self._max_size:
            batch.append(self._waiting.popleft())
            size += self._size(batch[-1][0])
        return batch

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._connection = None
        if time.monotonic() < self._leave_alone_until:
            raise StorageError("the database cannot be reached")
        started = time.monotonic()
        try:
            self._connection = await self._connect()
        except StorageError:
            # As long as it took: a server that lets everyone wait is left alone, and writes are refused at once.
            self._leave_alone_until = 2 * time.monotonic() - started
            raise
        return self._connection

    async def _write(
        self, connection: Connection, batch: list[tuple[WorkT, asyncio.Future[ResultT]]]
    ) -> None:
        try:
            results = await self._commit(connection, [work for work, _ in batch])
        except Exception as err:  # noqa: BLE001  # Told to everyone of the batch; the task must live.
            if isinstance(err, UNUSABLE):
                connection.terminate()
            if is_about_one_row(err) and len(batch) > 1:
                middle = len(batch) // 2
                await self._write(connection, batch[:middle])
                await self._write(connection, batch[middle:])
            else:
                self._refuse(batch, err)
            return
        self.commits += 1
        if self._is_failing:
            _log.warning("storage: commits succeed again")
            self._is_failing = False
        for (_, future), result in zip(batch, results, strict=True):
            # A waiter that went away changes nothing of what was committed.
            if future.done():
                continue
            if isinstance(result, StorageError):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _refuse(self, batch: list[tuple[WorkT, asyncio.Future[ResultT]]], err: Exception) -> None:
        error = as_storage_error(err)
        if not is_about_one_row(err):
            # A server that is away fails every batch there is: it is logged once, until one succeeds.
            if not self._is_failing:
                _log.error("storage: nothing can be committed: %s", error)
            self._is_failing = True
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
