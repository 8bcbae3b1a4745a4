"""Retention of bodies: deletes those from before a time, but for what datasets have taken."""

from __future__ import annotations

from collections.abc import Sequence

from maniac_core.storage.base import Database, Statement


class RetentionStore:
    """Works on the bodies of all projects. The ledger stays, and says whose content is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_turn(self) -> bool:
        """Whether this process may delete now; of several cores, one at a time may. It ends with `end_turn`.

        Raises:
            StorageError
        """
        [[row]] = await self._database.write([Statement("take_retention_turn")])
        return bool(row["taken"])

    async def end_turn(self) -> None:
        """Let another process delete.

        Raises:
            StorageError: the turn ends with the connection.
        """
        await self._database.write([Statement("end_retention_turn")])

    async def drop(self, before: int) -> int:
        """Drop bodies from before a time (Unix seconds) in whole parts; returns how many parts. See `Database`."""
        return await self._database.drop_bodies(before)

    async def last_position(self) -> int:
        """Return the last position of the ledger."""
        row = await self._database.fetch_one("last_position")
        return int(next(iter(row.values()))) if row is not None else 0

    async def find_expired(self, *, before: int, first: int, last: int) -> list[int]:
        """Return positions of completions from before a time whose content may be deleted, from `first` to `last`."""
        rows = await self._database.fetch_all(
            "find_expired", {"before": before, "first": first, "last": last}
        )
        return [row["seq"] for row in rows]

    async def delete(self, *, before: int, seqs: Sequence[int]) -> int:
        """Delete the bodies of these positions as one transaction, unless a dataset took them; returns how many."""
        params = {"before": before, "seqs": seqs}
        _, deleted = await self._database.write(
            [Statement("forget_content", params), Statement("delete_bodies", params)]
        )
        return len(deleted)
