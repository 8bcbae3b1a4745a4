"""The descriptions of files; their bytes are in the object store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maniac_core.domain.files import File
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database, Row, Statement

_LAST = 1 << 62
_SWEEP_LIMIT = 100


class FileStore:
    """Files of all projects; a method that takes a project sees that one only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, file_id: str, now: int) -> None:
        """Note the object of an upload, before its first byte."""
        await self._database.write([Statement("add_unowned_object", {"uid": file_id, "now": now})])

    async def add(self, project: int, file: File) -> bool:
        """Make the file of a noted object; False: the object was condemned as abandoned."""
        params = {
            "uid": file.id,
            "project": project,
            "filename": file.filename.encode(),
            "purpose": file.purpose,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "created": file.created,
        }
        owned, _ = await self._database.write(
            [Statement("own_object", params), Statement("forget_object", {"uid": file.id})]
        )
        return bool(owned)

    async def find(self, project: int, file_id: str) -> File | None:
        """Return the live file of that id."""
        row = await self._database.fetch_one("find_file", {"project": project, "uid": file_id})
        return _file(row) if row is not None and row["deleted"] is None else None

    async def count(self, project: int, purpose: str | None) -> int:
        """Return how many live files there are."""
        row = await self._database.fetch_one(*_of_purpose("count_files", project, purpose))
        return int(row["total"]) if row is not None else 0

    async def total_bytes(self, project: int) -> int:
        """Return how many bytes the live files have."""
        row = await self._database.fetch_one("sum_files", {"project": project})
        return int(row["total"]) if row is not None else 0

    async def delete(self, project: int, file_id: str, now: int, *also: Statement) -> File | None:
        """Delete a live file softly and return it; its object is unowned from then on.

        `also` belongs to the transaction.
        """
        params = {"project": project, "uid": file_id, "now": now}
        _, deleted, *_ = await self._database.write(
            [Statement("disown_object", params), Statement("delete_file", params), *also]
        )
        return _file(deleted[0]) if deleted else None

    async def touch(self, file_ids: Iterable[str], now: int) -> None:
        """Say that these objects are in use, as far as nobody owns them."""
        statements = [
            Statement("touch_object", {"uid": file_id, "now": now}) for file_id in file_ids
        ]
        if statements:
            await self._database.write(statements)

    async def unowned(self, before: int) -> list[str]:
        """Return some of the unowned objects that nobody has touched since `before`, in Unix seconds."""
        rows = await self._database.fetch_all(
            "list_unowned_objects", {"before": before, "limit": _SWEEP_LIMIT}
        )
        return [row["uid"] for row in rows]

    async def condemn(self, file_id: str, before: int) -> bool:
        """Decide that an object is to be deleted; False: it is owned, or was touched since `before`."""
        params = {"uid": file_id, "before": before}
        (condemned,) = await self._database.write([Statement("condemn_object", params)])
        return bool(condemned)

    async def forget(self, file_id: str) -> None:
        """Say that a condemned object is gone."""
        await self._database.write([Statement("forget_object", {"uid": file_id})])

    async def list(self, project: int, purpose: str | None, page: Page) -> list[File]:
        """Return a page of the live files, newest first; an unknown `after` gives an empty page."""
        created, key = _LAST, _LAST
        if page.after is not None:
            # A deleted one still has its place.
            last = await self._database.fetch_one(
                "find_file", {"project": project, "uid": page.after}
            )
            if last is None:
                return []
            created, key = last["created"], last["id"]
        position = {"created": created, "id": key, "limit": page.limit, "skip": page.skip}
        name, params = _of_purpose("list_files", project, purpose)
        return [_file(row) for row in await self._database.fetch_all(name, {**params, **position})]


def _of_purpose(name: str, project: int, purpose: str | None) -> tuple[str, dict[str, Any]]:
    if purpose is None:
        return name, {"project": project}
    return f"{name}_of_purpose", {"project": project, "purpose": purpose}


def _file(row: Row) -> File:
    return File(
        id=row["uid"],
        filename=bytes(row["filename"]).decode(),
        purpose=row["purpose"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        created=row["created"],
        deleted=row["deleted"],
    )
