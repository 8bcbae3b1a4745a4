"""The object store: bytes by key, in a local folder or an S3 bucket; the only module that knows obstore.

Keys are ids that this program made up: nothing that a caller named becomes a path.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from maniac_core.config.core import CoreConfig
from maniac_core.domain.errors import DependencyError

# Bytes below the first are sent as one request; above, S3 takes no more than 10,000 parts and none under 5 MiB.
_PART_BYTES = 8 * 1024 * 1024
_CONCURRENT_PARTS = 2
# A file is read piece by piece, each with a request of its own: a slow reader holds no connection open, and none
# times out. A request to a bucket costs a round trip.
_LOCAL_READ_BYTES = 1024 * 1024
_REMOTE_READ_BYTES = 4 * 1024 * 1024
_CONNECT_TIMEOUT = timedelta(seconds=5)
_REQUEST_TIMEOUT = timedelta(seconds=60)
_RETRIES = 3
_RETRY_FOR = timedelta(seconds=15)


class ObjectStoreError(DependencyError):
    """The object store cannot be reached, refused to work, or lacks the object."""

    def __init__(self, happened: str) -> None:
        super().__init__(happened, "The object store cannot be reached; try again shortly.")


class ObjectStore:
    """Writes, reads and deletes objects. `folder`: where they lie, for a local store."""

    def __init__(self, store: LocalStore | S3Store, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self.read_bytes = _REMOTE_READ_BYTES if folder is None else _LOCAL_READ_BYTES
        """How many bytes to read at a time."""

    def write(self, key: str) -> ObjectWriter:
        """Begin an object. It can be read only once it was finished."""
        return ObjectWriter(
            obstore.open_writer_async(
                self._store, key, buffer_size=_PART_BYTES, max_concurrency=_CONCURRENT_PARTS
            )
        )

    async def read(self, key: str, start: int, length: int) -> memoryview:
        """Read `length` bytes, at least one, that the object is known to have.

        Raises:
            ObjectStoreError: also if the object has fewer.
        """
        try:
            data = await obstore.get_range_async(self._store, key, start=start, length=length)
        except (BaseError, OSError) as err:
            raise _failure(err) from err
        if len(data) != length:
            raise ObjectStoreError(f"object {key} is shorter than it was")
        return memoryview(data)

    async def delete(self, key: str) -> None:
        """Delete an object and what a dead process left of one; nothing happens if there is none.

        Raises:
            ObjectStoreError: it may still be there.
        """
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            pass
        except (BaseError, OSError) as err:
            raise _failure(err) from err
        if self._folder is not None:
            try:
                await asyncio.to_thread(_remove_unfinished, self._folder, key)
            except OSError as err:
                raise _failure(err) from err


class ObjectWriter:
    """One object under way, which holds some megabytes at most. It is finished, or discarded and never seen."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Append; waits while the store is slower than the caller.

        Raises:
            ObjectStoreError: the object cannot be finished any more.
        """
        try:
            await self._writer.write(data)
        except (BaseError, OSError) as err:
            raise _failure(err) from err

    async def finish(self) -> None:
        """Make the object readable.

        Raises:
            ObjectStoreError: it may or may not be.
        """
        try:
            await self._writer.close()
        except (BaseError, OSError) as err:
            raise _failure(err) from err

    def discard(self) -> None:
        """Give up what was not finished: parts under way are cancelled, and local ones removed."""
        # obstore does this when the last reference goes.
        self._writer = None


def open_objects(config: CoreConfig, environ: Mapping[str, str]) -> ObjectStore:
    """Return the configured store; a local folder is made, a bucket is not contacted yet.

    Raises:
        OSError: the folder cannot be made.
    """
    url = urlsplit(config.object_store_url)
    if url.scheme == "s3":
        return ObjectStore(_bucket(config, url.netloc, url.path.strip("/"), environ))
    folder = (Path(unquote(url.path)) if url.path else config.data_dir / "files").absolute()
    # Others have no business in it, whatever the umask.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: this user cannot write there")
    return ObjectStore(LocalStore(folder), folder)


def _bucket(config: CoreConfig, bucket: str, prefix: str, environ: Mapping[str, str]) -> S3Store:
    # obstore takes missing values from the AWS variables, or from the machine's role.
    given = {
        "endpoint": config.object_store_endpoint,
        "region": config.object_store_region,
        "access_key_id": environ.get(config.object_store_key_id_env, ""),
        "secret_access_key": environ.get(config.object_store_secret_env, ""),
    }
    options: Any = {name: value for name, value in given.items() if value}
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=options,
        client_options={
            "allow_http": config.object_store_endpoint.startswith("http://"),
            "connect_timeout": _CONNECT_TIMEOUT,
            "timeout": _REQUEST_TIMEOUT,
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_FOR},
    )


def _remove_unfinished(folder: Path, key: str) -> None:
    # Until it is finished, a local object is called KEY#NUMBER; listings of the store leave those out.
    for path in folder.glob(f"{key}#*"):
        path.unlink(missing_ok=True)


def _failure(err: Exception) -> ObjectStoreError:
    # obstore's message ends in several lines of internals, with the address and the bucket.
    return ObjectStoreError(f"{type(err).__name__}: {str(err).partition(chr(10))[0]}")
