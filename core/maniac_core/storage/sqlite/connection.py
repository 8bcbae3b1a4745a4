"""Opens SQLite connections, each with the settings of its role, and turns SQLite's errors into ours."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Literal

from maniac_core.storage.base import ConstraintError, RefusedError, Row, StorageError
from maniac_core.storage.sqlite import functions as sqlite_functions

BUSY_TIMEOUT_S = 5.0
"""How long a write waits for another process that writes."""
_UNIQUENESS = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_OLDEST_SQLITE = (3, 37, 0)  # The first with STRICT tables.

# The module asks for an adapter of every value that is not exactly an int, a float or a str, and for those without one
# an AttributeError is raised and dropped on the way, which costs more than the value. These change nothing of what is
# stored: None stays NULL, bytes a blob, and a bool is the integer that it is without one.
sqlite3.register_adapter(type(None), dict[None, None]().get)
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)


def create_file(path: Path) -> None:
    """Make an empty database file that only its owner can read, unless there is one: it will hold prompts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def connect(
    path: Path, *, read_only: bool, synchronous: Literal["normal", "full"]
) -> sqlite3.Connection:
    """Open an existing database file, in autocommit mode.

    Raises:
        StorageError: there is no such file, or it is not a database.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StorageError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
    if not path.exists():
        raise StorageError(f"{path}: there is no database; run `maniac-gateway migrate`")
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as err:
        raise StorageError(f"{path}: cannot be opened: {err}") from err
    try:
        _configure(connection, read_only=read_only, synchronous=synchronous)
    except sqlite3.Error as err:
        connection.close()
        raise StorageError(f"{path}: cannot be used: {err}") from err
    return connection


def _configure(connection: sqlite3.Connection, *, read_only: bool, synchronous: str) -> None:
    sqlite_functions.register(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA cache_size = -32768")  # KiB
    if read_only:
        connection.execute("PRAGMA query_only = ON")


def as_rows(cursor: sqlite3.Cursor) -> list[Row]:
    """Return what a statement yields."""
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def as_storage_error(err: Exception) -> StorageError:
    """Return the error to raise for what SQLite, or the building of its rows, raised."""
    if isinstance(err, StorageError):
        return err
    if isinstance(err, sqlite3.IntegrityError) and err.sqlite_errorcode in _UNIQUENESS:
        return ConstraintError(str(err))
    kind = (
        RefusedError if is_about_one_row(err) and not isinstance(err, MemoryError) else StorageError
    )
    return kind(f"{type(err).__name__}: {err}")


def is_about_one_row(err: Exception) -> bool:
    """Whether other rows may well be written: the values are at fault, not the disk, the file or a lock."""
    return not isinstance(err, sqlite3.DatabaseError) or isinstance(
        err, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError
    )
