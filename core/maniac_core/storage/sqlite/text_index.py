"""Empties the index of texts of a SQLite file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from maniac_core.storage.base import StorageError
from maniac_core.storage.sqlite.connection import connect


def drop_text_index(path: Path) -> None:
    """Take everything out of the index at once.

    Raises:
        StorageError: the file cannot be written.
    """
    connection = connect(path, read_only=False, synchronous="full")
    try:
        connection.execute("BEGIN IMMEDIATE")
        [made] = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'text_index'"
        ).fetchone()
        # Made anew: to delete row by row would take as long as filling it has.
        connection.execute("DROP TABLE text_index")
        connection.execute(made)
        connection.execute("DELETE FROM text_index_large")
        connection.execute("UPDATE text_index_state SET covered = 0")
        connection.execute("COMMIT")
    except sqlite3.Error as err:
        raise StorageError(f"{path}: the index of texts cannot be dropped: {err}") from err
    finally:
        connection.close()
