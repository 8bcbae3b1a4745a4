"""Databases that tests take away from a running gateway, and give back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from postgres_server import PostgresServer
from sqlite_utils import Database


class DatabaseOutage(Protocol):
    """A database that can be away."""

    def begin(self) -> None:
        """Take it away."""

    def end(self) -> None:
        """Give it back as it was."""


class SQLiteOutage:
    """A file in which no table is found: neither reading nor writing works, at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tables: list[str] = []

    def begin(self) -> None:
        """Rename all tables; what belongs to the index of texts is renamed by none but itself."""
        with self._change() as database:
            self._tables = [
                name
                for name in database.table_names()
                if not name.startswith(("sqlite_", "text_index"))
            ]
            for name in self._tables:
                database.rename_table(name, f"{name}_gone")

    def end(self) -> None:
        """Rename them back."""
        with self._change() as database:
            for name in self._tables:
                database.rename_table(f"{name}_gone", name)

    @contextmanager
    def _change(self) -> Iterator[Database]:
        with closing(sqlite3.connect(self._path, timeout=20, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Database(connection, recursive_triggers=False, execute_plugins=False)
            connection.execute("COMMIT")


class PostgresOutage:
    """A server that is stopped as by a crash."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def begin(self) -> None:
        """Stop it."""
        self._server.stop()

    def end(self) -> None:
        """Start it, and wait until it answers."""
        self._server.start()
