"""Files: bytes that a project keeps; what is known of them is in the database, the bytes are in the object store."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import AsyncGenerator

from maniac_core.domain.audit import actor
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.files import File
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.paging import Page
from maniac_core.services.files.sweep import Sweeper
from maniac_core.services.files.upload import Upload
from maniac_core.services.limits.quotas import Quotas
from maniac_core.storage.object_store import ObjectStore, ObjectStoreError
from maniac_core.storage.stores.audit import audited
from maniac_core.storage.stores.files import FileStore

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 256 * 1024


class FileService:
    """Files within the caller's project."""

    def __init__(
        self,
        store: FileStore,
        objects: ObjectStore,
        sweeper: Sweeper,
        *,
        max_bytes: int,
        quotas: Quotas,
    ) -> None:
        """`max_bytes`: of the largest file."""
        self._store = store
        self._objects = objects
        self._sweeper = sweeper
        self._max_bytes = max_bytes
        self._quotas = quotas

    @contextlib.asynccontextmanager
    async def upload(self, caller: Caller) -> AsyncGenerator[Upload, None]:
        """Begin a file; what was not finished when the block ends leaves nothing, however it ends.

        Raises:
            GatewayError: QUOTA_EXCEEDED; DEPENDENCY_UNAVAILABLE.
        """
        file_id = uuid_id()
        await self._store.begin(file_id, now_s())
        upload = Upload(
            caller.project,
            file_id,
            self._objects.write(file_id),
            self._store,
            max_bytes=self._max_bytes,
            free_bytes=functools.partial(self._quotas.free_file_bytes, caller),
            turn=self._quotas.file_turn(caller),
        )
        try:
            with self._sweeper.hold(file_id):
                await upload.open()
                yield upload
        finally:
            upload.discard()
            if upload.file is None:
                # It stays if its file was committed while the caller went away: then it is owned.
                self._sweeper.drop(file_id)

    async def get(self, caller: Caller, file_id: str) -> File:
        """Return the live file of that id.

        Raises:
            GatewayError: FILE_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        file = await self._store.find(caller.project, file_id)
        if file is None:
            raise _not_found(file_id)
        return file

    async def list(self, caller: Caller, purpose: str | None, page: Page) -> tuple[list[File], int]:
        """Return a page of the live files, newest first, and the count of all that match.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        return (
            await self._store.list(caller.project, purpose, page),
            await self._store.count(caller.project, purpose),
        )

    async def delete(self, caller: Caller, file_id: str) -> File:
        """Delete a file softly and return it; its bytes are freed after that, once nobody reads them.

        Raises:
            GatewayError: FILE_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        there = await self.get(caller, file_id)
        event = audited(
            actor(caller),
            "file.deleted",
            file_id,
            {"bytes": there.size_bytes, "sha256": there.sha256},
        )
        file = await self._store.delete(caller.project, file_id, now_s(), event)
        if file is None:
            raise _not_found(file_id)
        self._sweeper.drop(file_id)
        return file

    async def read(self, file: File, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a range that the file has, as fast as they are taken.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        end = start + length
        with self._sweeper.hold(file.id):
            while start < end:
                size = min(self._objects.read_bytes, end - start)
                try:
                    block = await self._objects.read(file.id, start, size)
                except ObjectStoreError as err:
                    _log.error("files: a download failed: %s", err)
                    raise
                for at in range(0, size, _CHUNK_BYTES):
                    yield bytes(block[at : at + _CHUNK_BYTES])
                start += size


def span(file: File, offset: int, limit: int) -> tuple[int, int]:
    """Return start and length of the requested range: a negative offset counts from the end, limit 0 means none.

    Raises:
        GatewayError: RANGE_NOT_SATISFIABLE, with the size in details.
    """
    start = max(0, file.size_bytes + offset) if offset < 0 else offset
    if offset > 0 and start >= file.size_bytes:
        raise GatewayError(
            Reason.ERROR_REASON_RANGE_NOT_SATISFIABLE,
            f"The file has {file.size_bytes} bytes; the range starts after its end.",
            details={"size_bytes": file.size_bytes},
        )
    rest = file.size_bytes - start
    return start, min(limit, rest) if limit else rest


def _not_found(file_id: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_FILE_NOT_FOUND,
        f"There is no file {file_id!r}.",
        param="file_id",
    )
