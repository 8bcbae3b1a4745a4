"""One upload: checks what is said of the file, counts and hashes its bytes, and makes it whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.files import File
from maniac_core.domain.ids import now_s
from maniac_core.services.limits.quotas import files_exceeded
from maniac_core.storage.base import StorageError
from maniac_core.storage.object_store import ObjectStoreError, ObjectWriter
from maniac_core.storage.stores.files import FileStore

_log = logging.getLogger(__name__)
_MAX_FILENAME = 1024
FreeBytes = Callable[[], Awaitable[int | None]]
_PURPOSE = re.compile(r"[!-~]{1,64}")


class Upload:
    """A file under way. `describe` is called once, before or after the bytes; then `finish`."""

    def __init__(
        self,
        project: int,
        file_id: str,
        writer: ObjectWriter,
        store: FileStore,
        *,
        max_bytes: int,
        free_bytes: FreeBytes,
        turn: AbstractAsyncContextManager[None],
    ) -> None:
        """`free_bytes` tells for how many bytes the project has room; None: for any number.

        `turn` is held from asking that for the last time until the file is stored.
        """
        self.file: File | None = None
        """The file, once it is stored."""
        self._project = project
        self._id = file_id
        self._writer = writer
        self._store = store
        self._max_bytes = max_bytes
        self._free_bytes = free_bytes
        self._turn = turn
        self._room: int | None = None
        self._described: tuple[str, str] | None = None
        self._size_bytes = 0
        self._hash = hashlib.sha256()

    async def open(self) -> None:
        """Look for room, before the first byte.

        Raises:
            GatewayError: QUOTA_EXCEEDED; DEPENDENCY_UNAVAILABLE.
        """
        self._room = await self._free_bytes()

    def describe(self, filename: str, purpose: str) -> None:
        """Take what the caller says of the file.

        Raises:
            GatewayError: VALIDATION_ERROR.
        """
        if self._described is not None:
            raise invalid("file", "is described more than once", "value_error")
        if not filename:
            raise invalid("file", "needs a filename", "missing")
        if len(filename) > _MAX_FILENAME:
            raise invalid(
                "file", f"has a filename of more than {_MAX_FILENAME} characters", "string_too_long"
            )
        _check_purpose(purpose)
        self._described = (filename, purpose)

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes; waits while the object store is slower than the caller.

        Raises:
            GatewayError: PAYLOAD_TOO_LARGE; QUOTA_EXCEEDED; DEPENDENCY_UNAVAILABLE.
        """
        self._size_bytes += len(chunk)
        if self._room is not None and self._size_bytes > self._room:
            raise files_exceeded()
        if self._size_bytes > self._max_bytes:
            raise GatewayError(
                Reason.ERROR_REASON_PAYLOAD_TOO_LARGE,
                f"The file is larger than {self._max_bytes} bytes.",
            )
        self._hash.update(chunk)
        try:
            await self._writer.write(chunk)
        except ObjectStoreError as err:
            _log.error("files: an upload failed: %s", err)
            raise

    async def finish(self, size_bytes: int) -> File:
        """Store the file, whose caller has sent so many bytes.

        Raises:
            GatewayError: VALIDATION_ERROR if something is missing; QUOTA_EXCEEDED; DEPENDENCY_UNAVAILABLE. Nothing is stored then.
        """
        if self._described is None:
            raise invalid("file", "is not described", "missing")
        if size_bytes != self._size_bytes:
            problem = f"has {self._size_bytes} bytes here, but {size_bytes} were sent"
            raise invalid("file", problem, "value_error")
        filename, purpose = self._described
        file = File(
            id=self._id,
            filename=filename,
            purpose=purpose,
            size_bytes=size_bytes,
            sha256=self._hash.hexdigest(),
            created=now_s(),
        )
        try:
            async with self._turn:
                # Other uploads may have taken the room meanwhile.
                self._room = await self._free_bytes()
                if self._room is not None and size_bytes > self._room:
                    raise files_exceeded()
                await self._writer.finish()
                is_stored = await self._store.add(self._project, file)
        except ObjectStoreError as err:
            _log.error("files: an upload failed: %s", err)
            raise
        if not is_stored:
            raise StorageError("it was away for so long that the upload was taken for abandoned")
        self.file = file
        return file

    def discard(self) -> None:
        """Give up what is not stored."""
        self._writer.discard()


def invalid(field: str, problem: str, kind: str) -> GatewayError:
    """Return the error for a field of an upload."""
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{field} {problem}.",
        param=field,
        violations=(Violation(("body", field), problem, kind),),
    )


def _check_purpose(purpose: str) -> None:
    if not purpose:
        raise invalid("purpose", "is required", "missing")
    if not _PURPOSE.fullmatch(purpose):
        raise invalid(
            "purpose", "must have 1 to 64 visible ASCII characters", "string_pattern_mismatch"
        )
