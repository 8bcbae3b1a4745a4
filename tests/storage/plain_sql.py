"""Plain SQL on the data of either engine, around the storage layer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from maniac_core.storage.postgres.commits import WRITE_LOCK


class PlainSQL(Protocol):
    """A connection of the test's own."""

    def read(self, sql: str) -> list[dict[str, Any]]:
        """Return rows."""

    def execute(self, sql: str) -> None:
        """Change something."""

    def writing(self) -> AbstractContextManager[None]:
        """Be another process in the middle of a write."""

    def everything(self) -> bytes:
        """Return all that is stored."""

    def close(self) -> None:
        """Close."""


class SQLiteSession:
    """On a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)

    def read(self, sql: str) -> list[dict[str, Any]]:
        """Return rows."""
        cursor = self._connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def execute(self, sql: str) -> None:
        """Change something."""
        self._connection.execute(sql)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold what every writer needs."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def everything(self) -> bytes:
        """Return all that is stored."""
        files = self._path.parent.glob(f"{self._path.name}*")
        return b"".join(file.read_bytes() for file in files)

    def close(self) -> None:
        """Close."""
        self._connection.close()


class PostgresSession:
    """On a server, driven from a thread of its own so that tests can use it like the other."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection = self._run(asyncpg.connect(url))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def read(self, sql: str) -> list[dict[str, Any]]:
        """Return rows."""
        return [dict(row) for row in self._run(self._connection.fetch(sql))]

    def execute(self, sql: str) -> None:
        """Change something."""
        self._run(self._connection.execute(sql))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold what every writer needs."""
        self._run(
            self._connection.execute(
                f"BEGIN; SELECT pg_advisory_xact_lock({WRITE_LOCK});"
                "LOCK TABLE completions IN SHARE MODE"
            )
        )
        try:
            yield
        finally:
            self._run(self._connection.execute("ROLLBACK"))

    def everything(self) -> bytes:
        """Return all that is stored."""
        # Bytes are shown as they are, where they are letters.
        self._run(self._connection.execute("SET bytea_output = 'escape'"))
        tables = self.read("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
        rows = [
            str(row["row"])
            for table in tables
            for row in self.read(f"SELECT t::text AS row FROM {table['name']} t")
        ]
        return "\n".join(rows).encode()

    def close(self) -> None:
        """Close."""
        self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
