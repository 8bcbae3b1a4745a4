"""SealedDatabase: an engine whose bodies are encrypted on their way in, and decrypted on their way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import (
    BODY_COLUMNS,
    NO_PARAMS,
    Database,
    Params,
    Row,
    Statement,
    Where,
)

if TYPE_CHECKING:
    from maniac_core.storage.sealed.cipher import BodyCipher

_BATCH = 200


class SealedDatabase:
    """Wraps an engine. Everything but bodies passes as it is."""

    def __init__(self, database: Database, cipher: BodyCipher) -> None:
        self._database = database
        self._cipher = cipher

    @property
    def commits(self) -> int:
        """See Database."""
        return self._database.commits

    @property
    def readers(self) -> int:
        """See Database."""
        return self._database.readers

    @property
    def reads(self) -> int:
        """See Database."""
        return self._database.reads

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """See Database."""
        return self._database.capture(self.seal_record(record))

    def seal_record(self, record: CompletionRecord) -> CompletionRecord:
        """Return a record as it may lie on a disk."""
        return self._cipher.seal_record(record)

    async def fetch_all(self, name: str, params: Params = NO_PARAMS) -> list[Row]:
        """See Database."""
        return [self._cipher.open_row(row) for row in await self._database.fetch_all(name, params)]

    async def fetch_one(self, name: str, params: Params = NO_PARAMS) -> Row | None:
        """See Database."""
        row = await self._database.fetch_one(name, params)
        return None if row is None else self._cipher.open_row(row)

    async def write(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """See Database."""
        return await self._database.write(statements)

    def on_change(self, callback: Callable[[frozenset[str]], None]) -> None:
        """See Database."""
        self._database.on_change(callback)

    def on_contact(self, callback: Callable[[bool], None]) -> None:
        """See Database."""
        self._database.on_contact(callback)

    async def settled_position(self) -> int:
        """See Database."""
        return await self._database.settled_position()

    def text_condition(self, _wanted: Sequence[tuple[str, str]]) -> Where | None:
        """See Database. What is encrypted is in no index."""
        return None

    async def drop_bodies(self, before: int) -> int:
        """See Database."""
        return await self._database.drop_bodies(before)

    async def start(self) -> None:
        """See Database."""
        await self._database.start()

    async def close(self) -> None:
        """See Database."""
        await self._database.close()

    async def seal_all(self) -> int:
        """Seal every body that is not sealed with the first key, old ones and plain ones; return how many.

        What no key opens stays as it is. It can be stopped and begun again at any time.

        Raises:
            StorageError: some may be left, for another time.
        """
        count, after = 0, -1
        while True:
            params = {"after": after, "limit": _BATCH}
            rows = await self._database.fetch_all("list_bodies", params)
            if not rows:
                return count
            after = rows[-1]["seq"]
            changed = [self._resealed(row) for row in rows]
            statements = [statement for statement in changed if statement is not None]
            if statements:
                await self._database.write(statements)
                count += len(statements)

    def _resealed(self, row: Row) -> Statement | None:
        found = {column: row[column] for column in BODY_COLUMNS if row[column] is not None}
        if all(self._cipher.is_current(body) for body in found.values()):
            return None
        sealed = {
            column: self._cipher.seal(self._cipher.open(body, row["id"], column), row["id"], column)
            for column, body in found.items()
        }
        if sealed == found:
            return None
        params = {
            **dict.fromkeys(BODY_COLUMNS),
            **sealed,
            "seq": row["seq"],
            "created": row["created"],
        }
        return Statement("replace_body", params)
