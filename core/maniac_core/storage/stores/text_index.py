"""The index of texts on SQLite, which is filled behind the captures. PostgreSQL keeps its own."""

from __future__ import annotations

from maniac_core.storage.base import Database, Statement

_MERGED_PAGES = 64
"""What one merge writes: a few milliseconds."""
# All merging is left to `merge`: an insertion that merges many parts keeps captures waiting.
_SETTINGS = tuple(
    Statement("set_text_index", {"name": name, "value": value})
    for name, value in (("automerge", 0), ("crisismerge", 1000))
)
LARGEST_BYTES = 256 * 1024
"""Of a request and its answer together; longer ones are looked at in every search."""


class TextIndexStore:
    """Moves the index forward."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def covered(self) -> int:
        """Return the position up to which all texts are in it.

        Raises:
            StorageError: the database cannot be reached.
        """
        row = await self._database.fetch_one("text_index_covered")
        return 0 if row is None else int(row["covered"])

    async def merge(self) -> None:
        """Merge some of its parts, if there are many.

        Raises:
            StorageError: the database cannot be reached.
        """
        await self._database.write(
            [Statement("set_text_index", {"name": "merge", "value": _MERGED_PAGES})]
        )

    async def advance(self, count: int) -> bool:
        """Index the texts of the next few completions in one transaction; whether there were any.

        Raises:
            StorageError: nothing was indexed.
        """
        covered, settled = await self.covered(), await self._database.settled_position()
        row = await self._database.fetch_one("last_position")
        settled = min(settled, next(iter(row.values())) if row is not None else 0)
        if settled <= covered:
            return False
        found = await self._database.fetch_one(
            "find_texts_to_index", {"covered": covered, "settled": settled, "limit": count}
        )
        last = None if found is None else found["last"]
        params = {"covered": covered, "last": settled if last is None else last}
        sized = {**params, "largest": LARGEST_BYTES}
        await self._database.write(
            [
                *(_SETTINGS if not covered else ()),
                Statement("index_texts", sized),
                Statement("note_large_texts", sized),
                Statement("move_text_index", params),
            ]
        )
        return True
