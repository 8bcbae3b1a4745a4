"""The database as commands open it: beside a running core or without one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

from maniac_core.cli.serving.data_dir import require
from maniac_core.config.core import CoreConfig
from maniac_core.storage import migrate_database, open_database
from maniac_core.storage.base import Database, StorageError


@contextlib.asynccontextmanager
async def opened(config: CoreConfig) -> AsyncIterator[Database]:
    """Open the database of the configuration, and close it afterwards.

    Raises:
        ConfigError: `database_url` names no engine, or its driver is not installed.
        StorageError: there is no database yet, or it cannot be used.
        OSError: this user may not use the file.
    """
    require_file(config)
    database = open_database(config)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


def require_file(config: CoreConfig) -> None:
    """Refuse a SQLite file that is not there, or that this user may not write.

    Raises:
        StorageError: it is not there.
        OSError: it may not be used.
    """
    if config.database_url != "sqlite":
        return
    path = config.database_path
    try:
        require(path, os.R_OK | os.W_OK)
        # SQLite makes files beside it.
        require(path.parent, os.W_OK | os.X_OK)
        _require_room(path.parent)
    except FileNotFoundError:
        raise StorageError(
            f"{path.absolute()}: there is no database yet; `maniac-gateway migrate` makes one, "
            "and so does `maniac-gateway serve`"
        ) from None


def _require_room(folder: Path) -> None:
    # SQLite calls a full disk an I/O error.
    room = os.statvfs(folder)
    if room.f_blocks and not room.f_bavail:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.absolute()))


def migrated(config: CoreConfig) -> list[str]:
    """Make the database if need be, bring it to the newest schema, and return the names of what was applied.

    Raises:
        ConfigError: `database_url` names no engine, or its driver is not installed.
        StorageError: it is newer than this program, or cannot be written.
        OSError: this user may not use the file.
    """
    if config.database_url == "sqlite" and config.database_path.exists():
        require_file(config)
    return migrate_database(config)
