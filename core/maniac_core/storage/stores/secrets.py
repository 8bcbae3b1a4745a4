"""Secrets that all cores of an install share."""

from __future__ import annotations

import os

from maniac_core.storage.base import Database, Statement

_BYTES = 32


class SecretStore:
    """Random values by name, made when they are first asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> bytes:
        """Return the value of that name, 32 bytes; the same for every core.

        Raises:
            StorageError: the database cannot be reached.
        """
        row = await self._database.fetch_one("find_secret", {"name": name})
        if row is None:
            made = {"name": name, "value": os.urandom(_BYTES)}
            await self._database.write([Statement("add_secret", made)])
            row = await self._database.fetch_one("find_secret", {"name": name})
            assert row is not None, "it was just added"
        return bytes(row["value"])
