"""Brings a SQLite file to the schema of this program: numbered SQL files, each applied once in one transaction."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from maniac_core.domain.ids import now_s
from maniac_core.storage.base import StorageError
from maniac_core.storage.migrations import Migration, missing, require_none, shipped_migrations
from maniac_core.storage.sqlite.connection import connect, create_file
from maniac_core.storage.sqlite.text_index import has_text_index, lacks_fts5, needs_fts5

_LOCK_TIMEOUT_S = 60
_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version    INTEGER PRIMARY KEY,
  name       TEXT    NOT NULL,
  checksum   TEXT    NOT NULL,
  applied_at INTEGER NOT NULL
) STRICT
"""


def migrate(
    path: Path, migrations: Sequence[Migration] | None = None, *, text_index: bool = False
) -> list[str]:
    """Make the file if need be, apply what is missing, and return the names of what was applied.

    Several processes may do this at once: one applies, the others wait and find nothing to do. `text_index`: the texts
    of bodies are to be indexed, too.

    Raises:
        StorageError: the file was written by a newer program, an applied migration was changed since, the file cannot
            be written, or texts cannot be indexed.
    """
    steps = shipped_migrations("sqlite") if migrations is None else migrations
    try:
        create_file(path)
    except OSError as err:
        raise StorageError(f"{path}: cannot be made: {err.strerror}") from err
    connection = connect(path, read_only=False, synchronous="full")
    try:
        # Another process may be migrating a large file.
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_TIMEOUT_S * 1000}")
        _use_write_ahead_log(connection)
        applied = [step.label for step in steps if _apply(connection, step, steps)]
        if text_index:
            _make_text_index(connection, steps)
    except sqlite3.Error as err:
        raise StorageError(f"{path}: migration failed: {err}") from err
    finally:
        connection.close()
    return applied


def _make_text_index(connection: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Make what was left out of a migration for want of FTS5."""
    if why := lacks_fts5(connection):
        raise StorageError(
            f"[core] text_index needs SQLite with FTS5, and that of this Python has none ({why}): "
            "use another Python, or unset text_index"
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not has_text_index(connection):
            for statement in (one for step in steps for one in _statements(step.sql)):
                if needs_fts5(statement):
                    connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # The mode is kept in the file. SQLite does not wait for other processes here by itself.
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _apply(connection: sqlite3.Connection, step: Migration, steps: Sequence[Migration]) -> bool:
    # Looked at inside the transaction: another process may have applied it while this one waited for the lock.
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_RECORD_TABLE)
        is_missing = step in _missing(connection, steps)
        if is_missing:
            for statement in _statements(step.sql):
                # Most databases never have an index of texts: those without FTS5 do without.
                if not needs_fts5(statement) or lacks_fts5(connection) is None:
                    connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
                (step.version, step.name, step.checksum, now_s()),
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return is_missing


def _missing(connection: sqlite3.Connection, steps: Sequence[Migration]) -> list[Migration]:
    recorded = connection.execute("SELECT version, name, checksum FROM schema_migrations")
    return missing(recorded.fetchall(), steps)


def check_current(connection: sqlite3.Connection) -> None:
    """Check that the schema is that of this program.

    Raises:
        StorageError: it is older, newer or changed; the message says what to do.
    """
    exists = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"
    ).fetchone()
    steps = shipped_migrations("sqlite")
    require_none(_missing(connection, steps) if exists else steps)


def _statements(sql: str) -> Iterator[str]:
    # sqlite3's executescript would commit before it begins, and so break the transaction.
    pending = ""
    for piece in re.split(r"(?<=;)", sql):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if re.sub(r"--.*", "", pending).strip():
        raise StorageError(f"migration ends inside a statement: {pending.strip()[:80]}")
