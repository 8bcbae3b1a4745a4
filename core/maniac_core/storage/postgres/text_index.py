"""The server's own index of texts, on both columns of bodies; new partitions get it by themselves."""

from __future__ import annotations

from asyncpg import exceptions as pg

from maniac_core.storage.base import StorageError
from maniac_core.storage.postgres.connection import Connection

_INDEXES = {
    "completion_bodies_input_text": "input_text(input)",
    "completion_bodies_output_text": "output_text(output)",
}


async def make_text_index(connection: Connection) -> None:
    """Make the indexes unless they are there; captures wait meanwhile.

    Raises:
        StorageError: the extension cannot be had.
    """
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except (
        pg.InsufficientPrivilegeError,
        pg.UndefinedFileError,
        pg.FeatureNotSupportedError,
    ) as err:
        raise StorageError(
            f"[core] text_index needs the extension pg_trgm: {err}; have it installed, or unset text_index"
        ) from None
    for name, text in _INDEXES.items():
        await connection.execute(
            f"CREATE INDEX IF NOT EXISTS {name} ON completion_bodies USING gin ({text} gin_trgm_ops)"
        )


async def drop_text_index(connection: Connection) -> None:
    """Drop the indexes; the extension stays."""
    for name in _INDEXES:
        await connection.execute(f"DROP INDEX IF EXISTS {name}")
