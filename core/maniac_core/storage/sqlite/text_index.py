"""The table of the index of texts in a SQLite file: made where SQLite has FTS5, and emptied on demand."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from maniac_core.storage.base import StorageError
from maniac_core.storage.sqlite.connection import connect

_NEEDS_FTS5 = re.compile(r"USING fts5|DELETE FROM text_index\b")
_PROBE = "CREATE VIRTUAL TABLE temp.text_index_probe USING fts5(text, tokenize = 'trigram')"


def needs_fts5(statement: str) -> bool:
    """Whether a statement of a migration makes the table, or the trigger that deletes from it."""
    return _NEEDS_FTS5.search(statement) is not None


def lacks_fts5(connection: sqlite3.Connection) -> str | None:
    """Return SQLite's words if it has no FTS5 with trigrams; None: it has."""
    try:
        connection.execute(_PROBE)
    except sqlite3.DatabaseError as err:
        return str(err)
    connection.execute("DROP TABLE temp.text_index_probe")
    return None


def has_text_index(connection: sqlite3.Connection) -> bool:
    """Whether the table is there, with something in it or nothing."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'text_index'")
    return found.fetchone() is not None


def drop_text_index(path: Path) -> None:
    """Take everything out of the index at once, if there is one.

    Raises:
        StorageError: the file cannot be written.
    """
    connection = connect(path, read_only=False, synchronous="full")
    try:
        connection.execute("BEGIN IMMEDIATE")
        if has_text_index(connection):
            _empty(connection)
        connection.execute("COMMIT")
    except sqlite3.Error as err:
        raise StorageError(f"{path}: the index of texts cannot be dropped: {err}") from err
    finally:
        connection.close()


def _empty(connection: sqlite3.Connection) -> None:
    [made] = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'text_index'"
    ).fetchone()
    # Made anew: to delete row by row would take as long as filling it has.
    connection.execute("DROP TABLE text_index")
    connection.execute(made)
    connection.execute("DELETE FROM text_index_large")
    connection.execute("UPDATE text_index_state SET covered = 0")
