"""Retention of bodies: deletes those from before a time, but for what datasets have taken."""

from __future__ import annotations

from maniac_core.storage.base import Database, Statement


class RetentionStore:
    """Works on the bodies of all projects. The ledger stays, and says whose content is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_bodies(self, *, before: int, after: int, limit: int) -> int | None:
        """Delete at most `limit` bodies from before a time (Unix seconds), as one transaction.

        `after` is a position in the ledger: 0, then what was returned before. None: none is left.
        """
        params = {"before": before, "after": after, "limit": limit}
        _, deleted = await self._database.write(
            [
                Statement("forget_expired_content", params),
                Statement("delete_expired_bodies", params),
            ]
        )
        return max((int(row["seq"]) for row in deleted), default=None)
